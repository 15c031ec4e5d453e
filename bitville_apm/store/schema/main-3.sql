-- Version 3: hours as blocks, in the place of a row for each value.

-- The hours of a day file, as its `block` has them; of a dimension with many values the heaviest, the rest as
-- `~other`. `at` is unix time / 60.
CREATE TABLE block (
    row       INTEGER PRIMARY KEY,
    day       INTEGER NOT NULL,
    project   INTEGER NOT NULL,
    dimension INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    host      INTEGER NOT NULL,
    body      BLOB    NOT NULL,
    UNIQUE (day, project, dimension, at, host)
);

INSERT INTO block (day, project, dimension, at, host, body)
SELECT day, project, dimension, hour * 60, host, block(60, value, requests, executions, wall_us, cpu_us, queue_us,
    sql_us, blocked_s, waiting_s, errors, max_us, histogram)
FROM hour GROUP BY day, project, dimension, hour, host;

DROP TABLE hour;

-- The newest day that uses a name: it goes when the last such day does.
ALTER TABLE name ADD COLUMN newest INTEGER NOT NULL DEFAULT 0;
UPDATE name SET newest = coalesce((SELECT max(day) FROM day), 0);
