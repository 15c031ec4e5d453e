-- Version 6: whoever sends records on has to know how far it came.

-- `newest`: the highest row that `request` ever had. A died request gives way to its end, and a row that was sent on must
-- not be another one's later. `file`: 16 bytes of its own for each file, so that one that was begun anew is known.
ALTER TABLE change ADD COLUMN newest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE change ADD COLUMN file BLOB;
UPDATE change SET newest = coalesce((SELECT max(row) FROM request), 0), file = randomblob(16);
