--
-- Bitmap scans of many rows: TIDs that come in the order of the heap, that are
-- sorted, that go into a map, and that go into one map after the other.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
\getenv abs_srcdir PG_ABS_SRCDIR
\set differential :abs_srcdir '/sql/include/differential.sql'
\set ECHO none
\i :differential
\set ECHO all
CREATE SCHEMA alex_bitmap;
SET search_path = alex_bitmap;

CREATE FUNCTION compare_bitmaps(tablename text, VARIADIC conditions text[])
RETURNS SETOF text
LANGUAGE sql AS $$
	SELECT pg_temp.compare('{bitmap}'::text[], VARIADIC
		(SELECT array_agg(format('SELECT t.id, t.k FROM %s t WHERE %s', tablename, condition) ORDER BY n)
		 FROM unnest(conditions) WITH ORDINALITY AS c (condition, n)))
$$;

--
-- 226 rows a block.  "spread" is in no order of the heap, "halves" in none of
-- the first half, and then in none of the second.  "turns" has first the first
-- row of each block, then the second of each.
--
CREATE TABLE rows AS
	SELECT i AS id, i AS k FROM generate_series(0, 59999) i;
CREATE TABLE spread AS
	SELECT i AS id, i * 7919 % 60000 AS k FROM generate_series(0, 59999) i;
CREATE TABLE halves AS
	SELECT i AS id, i / 30000 * 30000 + i * 7919 % 30000 AS k FROM generate_series(0, 59999) i;
CREATE TABLE turns AS
	SELECT i AS id, i % 226 * 266 + i / 226 * 79 % 266 AS k FROM generate_series(0, 59999) i;
CREATE INDEX rows_k_alex ON rows USING alex (k);
CREATE INDEX spread_k_alex ON spread USING alex (k);
CREATE INDEX halves_k_alex ON halves USING alex (k);
CREATE INDEX turns_k_alex ON turns USING alex (k);
VACUUM (ANALYZE) rows;
VACUUM (ANALYZE) spread;
VACUUM (ANALYZE) halves;
VACUUM (ANALYZE) turns;

SELECT compare_bitmaps(name, 't.k >= 0', 't.k BETWEEN 1000 AND 49999', 't.k > 59000',
	't.k < 1024', 't.k < 1025', 't.k < 1152', 't.k < 1153', 't.k BETWEEN 28000 AND 31500',
	't.k BETWEEN 20 AND 30 OR t.k BETWEEN 10000 AND 15000 OR t.k > 50000',
	't.k = ANY (ARRAY(SELECT i * 3 FROM generate_series(0, 19999) i))')
	FROM unnest('{rows,spread,halves,turns}'::text[]) AS name;
-- ends of intervals at all places of a leaf page
SELECT compare_bitmaps('spread', VARIADIC
	(SELECT array_agg(format('t.k BETWEEN %s AND %s', 997 * i, 2003 * i)) FROM generate_series(1, 29) i));
-- little memory: TIDs are handed over often, and the bitmap becomes lossy
SET work_mem = '64kB';
SELECT compare_bitmaps(name, 't.k >= 0', 't.k BETWEEN 1000 AND 49999', 't.k BETWEEN 28000 AND 31500')
	FROM unnest('{rows,spread,halves,turns}'::text[]) AS name;
RESET work_mem;

-- dead entries, and entries of the memtable and of other runs
DELETE FROM spread WHERE id % 3 = 0;
DELETE FROM turns WHERE id % 226 BETWEEN 60 AND 70;
SELECT compare_bitmaps(name, 't.k >= 0', 't.k BETWEEN 1000 AND 49999')
	FROM unnest('{spread,turns}'::text[]) AS name;
VACUUM spread;
VACUUM turns;
INSERT INTO spread SELECT i, i * 7919 % 60000 FROM generate_series(60000, 69999) i;
INSERT INTO turns SELECT i, i * 7919 % 60000 FROM generate_series(60000, 62000) i;
SELECT compare_bitmaps(name, 't.k >= 0', 't.k BETWEEN 1000 AND 49999')
	FROM unnest('{spread,turns}'::text[]) AS name;

-- a row a block: too few of 1,300 rows for a map, enough of all
CREATE TABLE sparse (id int, k int, filler text) WITH (fillfactor = 10);
INSERT INTO sparse SELECT i, i * 7919 % 6000, repeat('x', 700) FROM generate_series(0, 5999) i;
CREATE INDEX sparse_k_alex ON sparse USING alex (k);
VACUUM (ANALYZE) sparse;
SELECT compare_bitmaps('sparse', 't.k < 1300', 't.k >= 0', 't.k BETWEEN 500 AND 5500');

SET client_min_messages = warning;
DROP SCHEMA alex_bitmap CASCADE;
