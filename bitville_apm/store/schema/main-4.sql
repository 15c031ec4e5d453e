-- Version 4: slow drifts.

-- What the last night found of a project. `found`: a JSON list of `analysis.baseline.Regression`, zstd. `day` is the
-- beginning of the newest day that was compared; times are unix seconds.
CREATE TABLE drift (
    project  TEXT PRIMARY KEY,
    day      REAL    NOT NULL,
    made     REAL    NOT NULL,
    days     INTEGER NOT NULL,
    left_out INTEGER NOT NULL,
    found    BLOB    NOT NULL
);
