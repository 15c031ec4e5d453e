-- Version 4: which letters a URL has, in the index of durations too: slow rows whose URL cannot match are passed over
-- without being read.

-- Some three letters in a row each set one of 63 bits, as `letters.py` says; -1 for rows of an older version: all.
ALTER TABLE request ADD COLUMN letters INTEGER NOT NULL DEFAULT -1;
DROP INDEX request_duration;
CREATE INDEX request_duration ON request (project, duration_ms, id, letters);
