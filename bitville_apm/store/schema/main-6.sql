-- Version 6: how far records were sent on to Graylog.

-- Of each day file, by its own name for itself (`change.file`): the rows behind the last records that arrived there. A day
-- without a row here has sent nothing yet. No rows and no `graylog_since` in `state`: nothing is sent on. `day` is unix
-- time / 86400. `state` has `graylog_since`, the unix time of the begin, and `graylog_dropped`, records that retention
-- dropped before they were sent.
CREATE TABLE graylog (
    day      INTEGER PRIMARY KEY,
    file     BLOB    NOT NULL,
    request  INTEGER NOT NULL,
    postgres INTEGER NOT NULL
);
