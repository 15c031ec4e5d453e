-- Version 2: what hosts ran.

-- A minute of one host, as the frames of one project told it: `minute` is unix time / 60, `seconds` packed as `loads.py`
-- says. Of each of its series how many seconds are known, their sum, and the largest.
CREATE TABLE load (
    project       INTEGER NOT NULL,
    minute        INTEGER NOT NULL,
    host          INTEGER NOT NULL,
    cores         INTEGER,
    tasks_n       INTEGER NOT NULL,
    tasks_sum     REAL    NOT NULL,
    tasks_max     REAL,
    blocked_n     INTEGER NOT NULL,
    blocked_sum   REAL    NOT NULL,
    blocked_max   REAL,
    db_n          INTEGER NOT NULL,
    db_sum        REAL    NOT NULL,
    db_max        REAL,
    in_flight_n   INTEGER NOT NULL,
    in_flight_sum REAL    NOT NULL,
    in_flight_max REAL,
    load1_n       INTEGER NOT NULL,
    load1_sum     REAL    NOT NULL,
    load1_max     REAL,
    seconds       BLOB    NOT NULL,
    PRIMARY KEY (project, minute, host)
) WITHOUT ROWID;
