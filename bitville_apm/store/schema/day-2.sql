-- Version 2: minutes added up to hours, in the same transactions. `hour` is unix time / 3600.
CREATE TABLE hour (
    project    INTEGER NOT NULL,
    dimension  INTEGER NOT NULL,
    hour       INTEGER NOT NULL,
    host       INTEGER NOT NULL,
    value      INTEGER NOT NULL,
    requests   INTEGER NOT NULL,
    executions INTEGER,
    wall_us    INTEGER NOT NULL,
    cpu_us     INTEGER NOT NULL,
    queue_us   INTEGER NOT NULL,
    sql_us     INTEGER NOT NULL,
    blocked_s  REAL    NOT NULL,
    waiting_s  REAL    NOT NULL,
    errors     INTEGER NOT NULL,
    max_us     INTEGER NOT NULL,
    histogram  BLOB,
    PRIMARY KEY (project, dimension, hour, host, value)
) WITHOUT ROWID;

INSERT INTO hour
SELECT project, dimension, minute / 60, host, value, sum(requests), sum(executions), sum(wall_us), sum(cpu_us),
    sum(queue_us), sum(sql_us), total(blocked_s), total(waiting_s), sum(errors), max(max_us), merged(histogram)
FROM roll GROUP BY 1, 2, 3, 4, 5;

-- One row: how often anything in this file changed, so that its sums elsewhere can be known to be old.
CREATE TABLE change (
    n INTEGER NOT NULL
);
INSERT INTO change VALUES (1);
