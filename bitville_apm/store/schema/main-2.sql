-- Version 2: spikes.

-- A spike of one project. `hosts`: a JSON list. `over`: when it ended, NULL while it lasts. `report`: the JSON of
-- `analysis.report.Report`, zstd. Times are unix seconds.
CREATE TABLE spike (
    id          TEXT PRIMARY KEY,
    project     TEXT    NOT NULL,
    hosts       TEXT    NOT NULL,
    opened      REAL    NOT NULL,
    onset       REAL    NOT NULL,
    peak        REAL    NOT NULL,
    over        REAL,
    measure     TEXT    NOT NULL,
    level       REAL    NOT NULL,
    baseline    REAL    NOT NULL,
    kind        TEXT    NOT NULL,
    verdict     TEXT    NOT NULL,
    provisional INTEGER NOT NULL,
    signature   TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    report      BLOB    NOT NULL
);
CREATE INDEX spike_onset ON spike (project, onset);
