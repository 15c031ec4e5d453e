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
