-- Version 3: rolls as blocks, in the place of a row for each value.

-- Minutes and hours, added up: what frames counted, and the records that no frame counts. One row for all values of
-- a dimension that one host had in one span, packed as `blocks.py` says. `span`: 1 or 60 minutes; `at`: unix time / 60
-- of its begin. Both are written in the same transactions. `ranks` of hours: what values are ranked by, as `ranks.py`
-- says; NULL where the body is as quickly read.
CREATE TABLE block (
    row       INTEGER PRIMARY KEY,
    project   INTEGER NOT NULL,
    dimension INTEGER NOT NULL,
    span      INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    host      INTEGER NOT NULL,
    ranks     BLOB,
    body      BLOB    NOT NULL,
    UNIQUE (project, dimension, span, at, host)
);

-- `block(span, value, ...)`: the aggregate of `upgrading.py`.
INSERT INTO block (project, dimension, span, at, host, body)
SELECT project, dimension, 1, minute, host, block(1, value, requests, executions, wall_us, cpu_us, queue_us, sql_us,
    blocked_s, waiting_s, errors, max_us, histogram)
FROM roll GROUP BY project, dimension, minute, host;

INSERT INTO block (project, dimension, span, at, host, body)
SELECT project, dimension, 60, hour * 60, host, block(60, value, requests, executions, wall_us, cpu_us, queue_us,
    sql_us, blocked_s, waiting_s, errors, max_us, histogram)
FROM hour GROUP BY project, dimension, hour, host;

DROP TABLE roll;
DROP TABLE hour;
