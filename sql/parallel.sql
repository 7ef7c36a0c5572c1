--
-- Parallel index scans and index-only scans: plans, and the rows that they
-- give, against those of a sequential scan in one process.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
CREATE SCHEMA alex_parallel;
SET search_path = alex_parallel, public;
SET jit = off;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET min_parallel_index_scan_size = 0;
SET max_parallel_workers_per_gather = 3;
SET enable_bitmapscan = off;
-- Only the work on rows is divided.
SET seq_page_cost = 0;
SET random_page_cost = 0;
SET cpu_tuple_cost = 1;

-- A query for a digest of another one's rows, in their order where it asks for
-- one.
CREATE FUNCTION pg_temp.wrap(query text) RETURNS text LANGUAGE sql AS $$
	SELECT 'SELECT count(*) || '' rows, '' || ' || CASE WHEN query ~* 'order by'
		THEN 'coalesce(md5(string_agg(r::text, E''\n'')), '''')'
		ELSE 'coalesce(sum(hashtextextended(r::text, 0)), 0)' END
		|| ' FROM (' || query || ') r';
$$;
CREATE FUNCTION pg_temp.digest(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE pg_temp.wrap(query) INTO result;
	RETURN result;
END $$;
CREATE FUNCTION multiples(factor int, first int, last int) RETURNS int[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT array_agg(i) FROM generate_series(first, last, factor) i';

-- The kind of a query's parallel index scan, and whether its rows are those of
-- a sequential scan, with the leader taking part or not.
CREATE FUNCTION pg_temp.compare(VARIADIC queries text[])
RETURNS TABLE (query text, scan text, rows text) LANGUAGE plpgsql AS $$
DECLARE
	line text;
	expected text;
BEGIN
	FOREACH query IN ARRAY queries LOOP
		PERFORM set_config('max_parallel_workers_per_gather', '0', true),
			set_config('enable_indexscan', 'off', true), set_config('enable_indexonlyscan', 'off', true),
			set_config('enable_seqscan', 'on', true);
		expected := pg_temp.digest(query);
		PERFORM set_config('max_parallel_workers_per_gather', '3', true),
			set_config('enable_indexscan', 'on', true), set_config('enable_indexonlyscan', 'on', true),
			set_config('enable_seqscan', 'off', true),
			set_config('enable_sort', (query !~* 'order by')::text, true);
		scan := 'none is parallel';
		FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || pg_temp.wrap(query) LOOP
			IF line ~ 'Parallel Index' THEN
				scan := regexp_replace(line, '.*(Parallel Index.*) using.*', '\1');
			END IF;
		END LOOP;
		rows := 'the same';
		FOREACH line IN ARRAY '{off,on}'::text[] LOOP
			PERFORM set_config('parallel_leader_participation', line, true);
			IF pg_temp.digest(query) <> expected THEN
				rows := format('expected %s, got %s', expected, pg_temp.digest(query));
			END IF;
		END LOOP;
		PERFORM set_config('enable_sort', 'on', true);
		RETURN NEXT;
	END LOOP;
END $$;

-- Several runs and a memtable; each key five times, some rows without one.
SET alexam.memtable_entries = 5000;
CREATE TABLE numbers (id int, k int, filler text) WITH (parallel_workers = 3);
INSERT INTO numbers
	SELECT i, CASE WHEN i % 20 > 0 THEN (i * 7919) % 4000 END, repeat('x', i % 50)
	FROM generate_series(1, 14000) i;
CREATE INDEX numbers_k ON numbers USING alex (k);
CREATE INDEX numbers_descending ON numbers USING alex ((k + 0) DESC);
CREATE INDEX numbers_nulls_first ON numbers USING alex ((k + 1) NULLS FIRST);
INSERT INTO numbers
	SELECT i, CASE WHEN i % 20 > 0 THEN (i * 7919) % 4000 END, repeat('x', i % 50)
	FROM generate_series(14001, 16000) i;
DELETE FROM numbers WHERE k BETWEEN 500 AND 600;
VACUUM (ANALYZE) numbers;
INSERT INTO numbers
	SELECT i, CASE WHEN i % 20 > 0 THEN (i * 7919) % 4000 END, repeat('x', i % 50)
	FROM generate_series(16001, 20000) i;

--
-- Plans
--
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM numbers WHERE k > 100;
EXPLAIN (COSTS OFF) SELECT count(id) FROM numbers WHERE k IN (7, 50, 1000);
SET enable_sort = off;
EXPLAIN (COSTS OFF) SELECT id, k FROM numbers WHERE filler LIKE '%xxx%' ORDER BY k;
EXPLAIN (COSTS OFF) SELECT k FROM numbers WHERE k % 2 = 0 ORDER BY k DESC;
RESET enable_sort;
RESET enable_seqscan;

--
-- Rows
--
SELECT * FROM pg_temp.compare(
	'SELECT k FROM numbers WHERE k >= 0',
	'SELECT k FROM numbers WHERE k BETWEEN 100 AND 3000',
	'SELECT k FROM numbers WHERE k BETWEEN 490 AND 610',
	'SELECT id, k FROM numbers WHERE k < 3500',
	'SELECT k FROM numbers WHERE k > 5000',
	'SELECT k FROM numbers WHERE k > 20 AND k < 20',
	'SELECT id, k FROM numbers WHERE k IS NULL',
	'SELECT k FROM numbers WHERE k IS NOT NULL',
	'SELECT id, k FROM numbers WHERE k BETWEEN 1001 AND 1030',
	'SELECT k FROM numbers WHERE k IN (5, 1001, 77, 9999, NULL)',
	'SELECT id, k FROM numbers WHERE k = ANY (multiples(3, 0, 4000))',
	'SELECT id, k FROM numbers WHERE k = ANY (multiples(40, -100, 9000)) AND k > 100',
	'SELECT id, k FROM numbers WHERE k > 10 AND filler = ''xx''');
-- in order, as Gather Merge needs it
SELECT * FROM pg_temp.compare(
	'SELECT k FROM numbers WHERE k % 2 = 0 ORDER BY k',
	'SELECT k FROM numbers WHERE k % 2 = 0 ORDER BY k DESC',
	'SELECT k FROM numbers WHERE k BETWEEN 490 AND 2000 AND k % 2 = 0 ORDER BY k DESC',
	'SELECT k FROM numbers WHERE coalesce(k, 0) % 2 = 0 ORDER BY k',
	'SELECT k FROM numbers WHERE coalesce(k, 0) % 2 = 0 ORDER BY k DESC',
	'SELECT k + 0 AS k FROM numbers WHERE filler LIKE ''%xxx%'' ORDER BY k + 0',
	'SELECT k + 0 AS k FROM numbers WHERE filler LIKE ''%xxx%'' ORDER BY k + 0 DESC',
	'SELECT k + 1 AS k FROM numbers WHERE filler LIKE ''%xxx%'' ORDER BY k + 1 NULLS FIRST',
	'SELECT k + 1 AS k FROM numbers WHERE filler LIKE ''%xxx%'' ORDER BY k + 1 DESC NULLS LAST',
	'SELECT k FROM numbers WHERE k = ANY (multiples(3, 0, 4000)) ORDER BY k',
	'SELECT k FROM numbers WHERE k = ANY (multiples(3, 0, 4000)) ORDER BY k DESC',
	'SELECT k FROM numbers WHERE k % 2 = 0 ORDER BY k LIMIT 700',
	'SELECT k FROM numbers WHERE k % 2 = 0 ORDER BY k DESC LIMIT 700 OFFSET 6000');
SET alexam.use_mmap = off;
SELECT * FROM pg_temp.compare(
	'SELECT k FROM numbers WHERE k >= 0',
	'SELECT id, k FROM numbers WHERE k < 3500',
	'SELECT k FROM numbers WHERE k % 2 = 0 ORDER BY k DESC');
RESET alexam.use_mmap;

-- A few keys with many rows each: chunks end among equal keys.
CREATE TABLE states (id int, state int) WITH (parallel_workers = 3);
INSERT INTO states SELECT i, i % 3 FROM generate_series(1, 20000) i;
CREATE INDEX states_state ON states USING alex (state);
SELECT * FROM pg_temp.compare(
	'SELECT id FROM states WHERE state = 1',
	'SELECT id FROM states WHERE state IN (0, 2)',
	'SELECT state FROM states WHERE state < 2 AND id % 2 = 0 ORDER BY state DESC');

-- The memtable alone, an unlogged table, an index without entries.
CREATE TABLE young (k int8, b int) WITH (parallel_workers = 3);
CREATE INDEX young_k ON young USING alex (k);
SELECT * FROM pg_temp.compare('SELECT k FROM young WHERE k > 0');
INSERT INTO young SELECT i * 3, i FROM generate_series(1, 4000) i;
CREATE UNLOGGED TABLE unlogged (k int8, b int) WITH (parallel_workers = 3);
CREATE INDEX unlogged_k ON unlogged USING alex (k);
INSERT INTO unlogged SELECT i % 100, i FROM generate_series(1, 12000) i;
SELECT * FROM pg_temp.compare(
	'SELECT k FROM young WHERE k > 0',
	'SELECT k FROM young WHERE k % 2 = 0 AND b > 0 ORDER BY k',
	'SELECT k FROM young WHERE k % 2 = 0 AND b > 0 ORDER BY k DESC',
	'SELECT k FROM unlogged WHERE k > 10',
	'SELECT k FROM unlogged WHERE k < 80 AND b > 0 ORDER BY k');

-- Partitions, each scanned in parallel.
CREATE TABLE parts (k int8, b int) PARTITION BY RANGE (k);
CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (5000) WITH (parallel_workers = 3);
CREATE TABLE parts2 PARTITION OF parts FOR VALUES FROM (5000) TO (10000) WITH (parallel_workers = 3);
CREATE INDEX parts_k ON parts USING alex (k);
INSERT INTO parts SELECT i * 7919 % 10000, i FROM generate_series(1, 20000) i;
ANALYZE parts;
SELECT * FROM pg_temp.compare(
	'SELECT k FROM parts WHERE k BETWEEN 1000 AND 9000',
	'SELECT k, b FROM parts WHERE k BETWEEN 1000 AND 9000',
	'SELECT k FROM parts WHERE k > 1000 AND b % 2 = 0');

--
-- The workers start again and again.
--
SET enable_seqscan = off;
SET enable_material = off;
SELECT * FROM (SELECT count(k) FROM numbers WHERE k > 100) counts RIGHT JOIN (VALUES (1), (2), (3)) v (x) ON true;
SELECT * FROM (SELECT count(id), sum(k) FROM numbers WHERE k IN (1, 2, 3, 1001)) counts RIGHT JOIN (VALUES (1), (2), (3)) v (x) ON true;
RESET enable_material;

--
-- What the transaction itself has inserted, and what it has not.
--
BEGIN;
INSERT INTO numbers SELECT i, -5 FROM generate_series(1, 3000) i;
SELECT count(*) FROM numbers WHERE k < 0;
SAVEPOINT s;
INSERT INTO numbers SELECT i, -6 FROM generate_series(1, 3000) i;
SELECT count(id) FROM numbers WHERE k < 0;
ROLLBACK TO s;
SELECT count(id) FROM numbers WHERE k < 0;
ROLLBACK;
SELECT count(id) FROM numbers WHERE k < 0;

--
-- All in a worker, with nothing to gain.
--
SET force_parallel_mode = regress;
SELECT count(*), min(k), max(k) FROM numbers WHERE k > 100;
SELECT k FROM numbers WHERE k > 3990 ORDER BY k DESC LIMIT 3;
RESET force_parallel_mode;

--
-- Serializable transactions lock the index, parallel or not.
--
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM numbers WHERE k > 100;
SELECT relation::regclass, locktype FROM pg_locks WHERE mode = 'SIReadLock' AND relation = 'numbers_k'::regclass;
COMMIT;

SET client_min_messages = warning;
DROP SCHEMA alex_parallel CASCADE;
