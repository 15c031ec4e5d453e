-- Version 5: what was told of a spike.

-- What people were told of it, or will not be: 0 nothing yet, 1 its beginning, 2 its end too. Spikes of before were told.
ALTER TABLE spike ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
UPDATE spike SET told = CASE WHEN over IS NULL THEN 1 ELSE 2 END;
