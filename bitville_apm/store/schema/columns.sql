-- What version 1 counted of one value in one span, in minutes, hours and the hours that stay. `executions` is NULL where
-- nobody counted; `histogram` is packed as `upgrading.py` says.
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
