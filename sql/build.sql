--
-- CREATE INDEX on tables that have a past: all-visible pages with redirected
-- line pointers, HOT chains, and pages that are not all-visible among them
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
CREATE SCHEMA alex_build;
SET search_path = alex_build, public;

CREATE TABLE built (id bigint, v bigint, pad text)
	WITH (fillfactor = 70, autovacuum_enabled = off);
INSERT INTO built
	SELECT i, CASE WHEN i % 50 > 0 THEN i * 7919 % 20011 END, repeat('x', 100)
	FROM generate_series(1, 20000) i;

-- the rows that an index gives are those of the table
CREATE FUNCTION compare_built(columns text)
	RETURNS TABLE (rows bigint, wrong bigint, nulls bigint, wrong_nulls bigint)
LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL enable_indexscan = off;
	SET LOCAL enable_indexonlyscan = off;
	SET LOCAL enable_bitmapscan = off;
	EXECUTE format('CREATE TEMP TABLE by_heap AS SELECT ctid AS row, %s AS k FROM built', columns);
	SET LOCAL enable_indexscan = on;
	SET LOCAL enable_seqscan = off;
	EXECUTE format('CREATE TEMP TABLE by_index AS
		SELECT ctid AS row, %1$s AS k FROM built WHERE %1$s > -100000', columns);
	EXECUTE format('CREATE TEMP TABLE null_by_index AS
		SELECT ctid AS row FROM built WHERE %1$s IS NULL', columns);
	RETURN QUERY SELECT
		(SELECT count(*) FROM by_index),
		(SELECT count(*) FROM by_index i FULL JOIN
			(SELECT * FROM by_heap WHERE k IS NOT NULL) h
			ON i.row = h.row AND i.k = h.k
		 WHERE i.row IS NULL OR h.row IS NULL),
		(SELECT count(*) FROM null_by_index),
		(SELECT count(*) FROM null_by_index i FULL JOIN
			(SELECT * FROM by_heap WHERE k IS NULL) h ON i.row = h.row
		 WHERE i.row IS NULL OR h.row IS NULL);
	DROP TABLE by_heap, by_index, null_by_index;
END;
$$;

-- HOT updates and deletes, vacuumed: redirects, unused line pointers
UPDATE built SET v = v + 1 WHERE id % 7 = 0;
DELETE FROM built WHERE id % 11 = 0;
VACUUM built;
UPDATE built SET v = v + 1 WHERE id % 14 = 0;
VACUUM built;
SELECT relallvisible = relpages AS all_visible, relpages > 100 AS enough
	FROM pg_class WHERE oid = 'built'::regclass;
CREATE INDEX built_v ON built USING alex (v);
SELECT alex_check('built_v', true);
SELECT * FROM compare_built('v');
SELECT reltuples = (SELECT count(*) FROM built) AS counted
	FROM pg_class WHERE oid = 'built'::regclass;
DROP INDEX built_v;

-- a column that the older rows do not have
ALTER TABLE built ADD COLUMN late bigint DEFAULT 42;
CREATE INDEX built_late ON built USING alex (late);
SELECT alex_check('built_late', true);
SELECT * FROM compare_built('late');
DROP INDEX built_late;

-- HOT chains with several values of the column, some of them in progress:
-- long and short stretches of pages that are not all-visible
UPDATE built SET v = -v WHERE id BETWEEN 5000 AND 6000;
UPDATE built SET v = -v - 1 WHERE id IN (9000, 10000, 10500);
BEGIN;
UPDATE built SET v = v - 1 WHERE id BETWEEN 12000 AND 12010;
DELETE FROM built WHERE id BETWEEN 12020 AND 12030;
INSERT INTO built SELECT i, -i, 'new' FROM generate_series(20001, 20100) i;
CREATE INDEX built_v ON built USING alex (v);
SELECT alex_check('built_v');
SELECT * FROM compare_built('v');
ROLLBACK;
CREATE INDEX built_v ON built USING alex (v);
SELECT alex_check('built_v', true);
SELECT * FROM compare_built('v');
DROP INDEX built_v;

-- what core's scan reads: partial and expression indexes, CONCURRENTLY
VACUUM built;
CREATE INDEX built_v ON built USING alex (v) WHERE id < 3000;
CREATE INDEX built_double ON built USING alex ((v * 2));
SELECT alex_check('built_v', true), alex_check('built_double', true);
SELECT * FROM compare_built('v * 2');
DROP INDEX built_v, built_double;
CREATE INDEX CONCURRENTLY built_v ON built USING alex (v);
SELECT alex_check('built_v', true);
SELECT * FROM compare_built('v');

SET client_min_messages = warning;
DROP SCHEMA alex_build CASCADE;
