-- Version 5: days added up, so that a question about a week reads days and not 168 hours.

-- The hours of one host's day that are over, added up: `at` is unix time / 60 of the day's begin; hours of `block` before
-- `until` are in it, later ones not yet. Where `until` is `at`, the day has too many values to be added up, and never is.
-- Written in the same transactions as the hours. `ranks` and `body` as theirs.
CREATE TABLE total (
    row       INTEGER PRIMARY KEY,
    project   INTEGER NOT NULL,
    dimension INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    host      INTEGER NOT NULL,
    until     INTEGER NOT NULL,
    ranks     BLOB,
    body      BLOB    NOT NULL,
    UNIQUE (project, dimension, at, host)
);
