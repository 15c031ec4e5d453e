-- What belongs to the installation and not to a day. Secrets are kept as SHA-256 of 256 random bits, never themselves.
-- Times are unix seconds. Version 1; later versions come as main-<n>.sql, each from the one before.

-- `scopes`: a comma-separated list of ingest, read, admin. `expires` and `revoked` are NULL while neither applies.
CREATE TABLE key (
    id      TEXT PRIMARY KEY,
    hash    BLOB NOT NULL,
    project TEXT NOT NULL,
    scopes  TEXT NOT NULL,
    created REAL NOT NULL,
    expires REAL,
    revoked REAL
);

-- `role`: viewer or admin. `projects`: a comma-separated list, NULL for all. `seen`: the last log-in. `password`:
-- scrypt, NULL for people who only have links.
CREATE TABLE user (
    name     TEXT PRIMARY KEY,
    role     TEXT NOT NULL,
    projects TEXT,
    created  REAL NOT NULL,
    seen     REAL,
    password BLOB
);

CREATE TABLE link (
    hash    BLOB PRIMARY KEY,
    user    TEXT NOT NULL REFERENCES user (name) ON DELETE CASCADE,
    expires REAL NOT NULL
);

CREATE TABLE session (
    hash    BLOB PRIMARY KEY,
    user    TEXT NOT NULL REFERENCES user (name) ON DELETE CASCADE,
    expires REAL NOT NULL
);

-- What stays of a day after its file. Days are unix time / 86400, hours unix time / 3600.

-- Numbers that belong to the installation: `clock`, the unix time that retention trusts, and `dropped_through`, the
-- newest day whose file is gone.
CREATE TABLE state (
    name  TEXT PRIMARY KEY,
    value REAL NOT NULL
);

-- Days whose hours are in `hour`, and the day file's `change.n` when they were added up.
CREATE TABLE day (
    day     INTEGER PRIMARY KEY,
    changes INTEGER NOT NULL
);

CREATE TABLE name (
    id   INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
);

-- Which projects a day has.
CREATE TABLE presence (
    day     INTEGER NOT NULL,
    project INTEGER NOT NULL,
    PRIMARY KEY (day, project)
) WITHOUT ROWID;

-- The hours of a day file, as they are there; of a dimension with many values the heaviest, the rest as `~other`.
CREATE TABLE hour (
    day        INTEGER NOT NULL,
    project    INTEGER NOT NULL,
    dimension  INTEGER NOT NULL,
    hour       INTEGER NOT NULL,
    host       INTEGER NOT NULL,
    value      INTEGER NOT NULL,
    -- include columns.sql
    PRIMARY KEY (day, project, dimension, hour, host, value)
) WITHOUT ROWID;

-- Files that were found damaged and have been read: what they are called now, how many records came back out of
-- them and how many did not (-1: nothing tells how many there were). A day file's own name: commits at its end that
-- were there once and went missing.
CREATE TABLE damage (
    file  TEXT PRIMARY KEY,
    day   INTEGER NOT NULL,
    saved INTEGER NOT NULL,
    lost  INTEGER NOT NULL
);

-- The dictionaries of the day files once more: a damaged page there must not cost every record of a day.
CREATE TABLE dictionary (
    id   INTEGER PRIMARY KEY,
    day  INTEGER NOT NULL,
    body BLOB    NOT NULL
);
