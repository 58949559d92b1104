-- How long an attempt may write nothing before it is ended; null: as long as it likes.

ALTER TABLE tasks ADD COLUMN no_output_timeout_s double precision;
