-- One UTC day, by the time the agent had the record (a frame: by its own time). Complete in itself: whoever has
-- this file can read it without any other. Version 1; later versions come as day-<n>.sql, each from the one before.

-- Every name that repeats: projects, hosts, endpoints, releases, dimensions and their values.
CREATE TABLE name (
    id   INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
);

-- Which hosts sent something to which project.
CREATE TABLE presence (
    project INTEGER NOT NULL,
    host    INTEGER NOT NULL,
    PRIMARY KEY (project, host)
) WITHOUT ROWID;

-- One finished request. `id` is the UUID's 16 bytes, `at` unix seconds of the start, `recv_ms` unix ms,
-- `rolled` whether its cells were added to `roll` by us (1) or count through a frame (0).
CREATE TABLE request (
    row         INTEGER PRIMARY KEY,
    project     INTEGER NOT NULL,
    id          BLOB    NOT NULL,
    kind        TEXT    NOT NULL,
    at          REAL    NOT NULL,
    duration_ms REAL    NOT NULL,
    recv_ms     INTEGER NOT NULL,
    host        INTEGER NOT NULL,
    endpoint    INTEGER NOT NULL,
    method      TEXT    NOT NULL,
    url         TEXT    NOT NULL,
    status      INTEGER,
    cpu_us      INTEGER,
    sql_n       INTEGER NOT NULL,
    sql_ms      REAL    NOT NULL,
    memory_peak INTEGER,
    release     INTEGER,
    client_id   TEXT,
    rolled      INTEGER NOT NULL,
    UNIQUE (project, id)
);
CREATE INDEX request_duration ON request (project, duration_ms, id);
CREATE INDEX request_at ON request (project, at, id);

-- What a substring of a URL is looked for in, by the rows of `request`: which of them have some three letters. The
-- text itself is in `request` only.
CREATE VIRTUAL TABLE url USING fts5 (text, content = '', detail = none, columnsize = 0, tokenize = 'trigram');

-- What records have in common, learned by zstd; a compressed body names the one it needs.
CREATE TABLE dictionary (
    id      INTEGER PRIMARY KEY,
    learned INTEGER NOT NULL,
    body    BLOB    NOT NULL
);

-- The record as it came, zstd with its checksum. Apart from `request`, so that searching does not read it.
CREATE TABLE payload (
    row  INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);

-- Ten seconds of one host, packed as `packing.py` says: columns as arrays, values as numbers of `name`.
CREATE TABLE frame (
    row     INTEGER PRIMARY KEY,
    project INTEGER NOT NULL,
    id      BLOB    NOT NULL,
    at      REAL    NOT NULL,
    host    INTEGER NOT NULL,
    body    BLOB    NOT NULL,
    UNIQUE (project, id)
);
CREATE INDEX frame_at ON frame (project, at);

-- Minutes, added up: what frames counted, and the records that no frame counts. `minute` is unix time / 60.
CREATE TABLE roll (
    project    INTEGER NOT NULL,
    dimension  INTEGER NOT NULL,
    minute     INTEGER NOT NULL,
    host       INTEGER NOT NULL,
    value      INTEGER NOT NULL,
    -- include columns.sql
    PRIMARY KEY (project, dimension, minute, host, value)
) WITHOUT ROWID;

-- The same by hours, in the same transactions: `hour` is unix time / 3600.
CREATE TABLE hour (
    project    INTEGER NOT NULL,
    dimension  INTEGER NOT NULL,
    hour       INTEGER NOT NULL,
    host       INTEGER NOT NULL,
    value      INTEGER NOT NULL,
    -- include columns.sql
    PRIMARY KEY (project, dimension, hour, host, value)
) WITHOUT ROWID;

-- One observation of a database server. `correlation` is the UUID's 16 bytes of the request it belongs to.
CREATE TABLE postgres (
    row         INTEGER PRIMARY KEY,
    project     INTEGER NOT NULL,
    id          BLOB    NOT NULL,
    at          REAL    NOT NULL,
    recv_ms     INTEGER NOT NULL,
    host        INTEGER NOT NULL,
    source      INTEGER NOT NULL,
    correlation BLOB,
    body        BLOB    NOT NULL,
    UNIQUE (project, id)
);
CREATE INDEX postgres_at ON postgres (project, at, id);
CREATE INDEX postgres_correlation ON postgres (project, correlation) WHERE correlation IS NOT NULL;

-- How far each journal has come, per run: the highest sequence number seen, and how many items were new.
CREATE TABLE watermark (
    project INTEGER NOT NULL,
    journal TEXT    NOT NULL,
    run     INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    items   INTEGER NOT NULL,
    PRIMARY KEY (project, journal, run)
) WITHOUT ROWID;

-- One row: how often anything in this file changed, so that its sums elsewhere can be known to be old, and how many
-- records it has, so that commits that went missing can be known.
CREATE TABLE change (
    n       INTEGER NOT NULL,
    records INTEGER NOT NULL
);
INSERT INTO change VALUES (1, 0);
