--
-- Index options: ASC and DESC, NULLS FIRST and LAST, partial and expression
-- indexes.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
\getenv abs_srcdir PG_ABS_SRCDIR
\set differential :abs_srcdir '/sql/include/differential.sql'
\set ECHO none
\i :differential
\set ECHO all
CREATE SCHEMA alex_options;
SET search_path = alex_options;
SET datestyle = 'ISO, YMD';

--
-- The four orders, each in a table of its own; one more entry set after the
-- build.  The planner reads an index backward for the opposite order.
--
CREATE FUNCTION make_ordered(name text, options text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE %I (id int, k int)', name);
	EXECUTE format('INSERT INTO %I SELECT i, CASE WHEN i %% 50 > 0 THEN (i * 7919) %% 500 END
		FROM generate_series(1, 1500) i', name);
	EXECUTE format('CREATE INDEX %s_alex ON %I USING alex (k %s)', name, name, options);
	EXECUTE format('INSERT INTO %I SELECT i, CASE WHEN i %% 50 > 0 THEN (i * 7919) %% 500 END
		FROM generate_series(1501, 2500) i', name);
	EXECUTE format('ANALYZE %I', name);
END $$;
CREATE FUNCTION compare_ordered(name text, options text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	opposite text := CASE WHEN options ~ 'DESC' THEN 'ASC' ELSE 'DESC' END
		|| CASE WHEN options ~ 'FIRST' THEN ' NULLS LAST' ELSE ' NULLS FIRST' END;
	direction text;
	start text := format('SELECT t.id, t.k FROM %I t ', name);
BEGIN
	RETURN QUERY SELECT pg_temp.compare_conditions(name,
		't.k = 100', 't.k < 20', 't.k <= 20', 't.k > 480', 't.k >= 480', 't.k BETWEEN 30 AND 40',
		't.k > 30 AND t.k < 30', 't.k > 40 AND t.k < 30', 't.k = ANY (''{7,NULL,3,7}'')', 't.k < ANY (''{7,NULL,3,7}'')',
		't.k IS NULL', 't.k IS NOT NULL', 't.k IS NULL AND t.k > 5', 't.k IS NOT NULL AND t.k > 490');
	FOREACH direction IN ARRAY ARRAY[options, opposite] LOOP
		RETURN QUERY SELECT direction || ': ' || pg_temp.compare('{plain,only}'::text[],
			start || 'ORDER BY t.k ' || direction || ', t.id',
			start || 'ORDER BY t.k ' || direction || ', t.id LIMIT 13 OFFSET 3',
			start || 'ORDER BY t.k ' || direction || ', t.id LIMIT 100 OFFSET 2420',
			start || 'WHERE t.k < 50 ORDER BY t.k ' || direction || ', t.id LIMIT 70',
			start || 'WHERE t.k > 450 ORDER BY t.k ' || direction || ', t.id LIMIT 70',
			start || 'WHERE t.k BETWEEN 100 AND 110 ORDER BY t.k ' || direction || ', t.id',
			start || 'WHERE t.k IS NOT NULL ORDER BY t.k ' || direction || ', t.id LIMIT 3',
			start || 'WHERE t.k IS NULL ORDER BY t.k ' || direction || ', t.id',
			start || 'WHERE t.k = ANY (''{7,NULL,3,7,490}'') ORDER BY t.k ' || direction || ', t.id',
			start || 'WHERE t.k >= ANY (''{7,NULL,3,7}'') ORDER BY t.k ' || direction || ', t.id');
	END LOOP;
END $$;
CREATE TABLE orders (name text, options text);
INSERT INTO orders VALUES
	('asc_last', 'ASC NULLS LAST'), ('asc_first', 'ASC NULLS FIRST'),
	('desc_last', 'DESC NULLS LAST'), ('desc_first', 'DESC NULLS FIRST');
DO $$ BEGIN PERFORM make_ordered(name, options) FROM orders; END $$;
SELECT indexdef FROM pg_indexes WHERE schemaname = 'alex_options' ORDER BY indexname COLLATE "C";
SELECT name, compare_ordered(name, options) FROM orders ORDER BY name COLLATE "C";
-- the same after changes, VACUUM, and a rebuild
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT orders.name FROM orders LOOP
		EXECUTE format('DELETE FROM %I WHERE id %% 3 = 0', name);
		EXECUTE format('UPDATE %I SET k = NULL WHERE id %% 70 = 0', name);
		EXECUTE format('UPDATE %I SET k = id %% 500 WHERE k IS NULL AND id %% 4 = 0', name);
	END LOOP;
END $$;
VACUUM asc_last, asc_first, desc_last, desc_first;
SELECT name, compare_ordered(name, options) FROM orders ORDER BY name COLLATE "C";
REINDEX SCHEMA alex_options;
SELECT name, compare_ordered(name, options) FROM orders ORDER BY name COLLATE "C";
-- min and max
SET enable_seqscan = off;
SELECT min(k), max(k) FROM asc_first;
SELECT min(k), max(k) FROM desc_last;
SELECT min(k), max(k) FROM desc_first WHERE k < 300;
RESET enable_seqscan;
-- a merge join of different orders
SET enable_hashjoin = off;
SET enable_nestloop = off;
SET enable_material = off;
SELECT pg_temp.compare('{plain,only}'::text[],
	'SELECT t.k, u.k AS uk FROM asc_last t JOIN desc_first u ON t.k = u.k',
	'SELECT t.k, u.k AS uk FROM asc_first t FULL JOIN desc_last u ON t.k = u.k');
RESET enable_hashjoin;
RESET enable_nestloop;
RESET enable_material;
-- a column of NULLs only, and no row at all
CREATE TABLE nulls (id int, k int8);
CREATE INDEX nulls_k_alex ON nulls USING alex (k NULLS FIRST);
SELECT pg_temp.compare_conditions('nulls', 't.k IS NULL', 't.k IS NOT NULL', 't.k > 0', 't.k = ANY (''{1,NULL}'')');
SELECT pg_temp.compare('{plain,only}'::text[],
	'SELECT t.id, t.k FROM nulls t ORDER BY t.k NULLS FIRST, t.id', 'SELECT t.id, t.k FROM nulls t ORDER BY t.k DESC NULLS LAST, t.id');
INSERT INTO nulls (id) SELECT generate_series(1, 1000);
SELECT pg_temp.compare_conditions('nulls', 't.k IS NULL', 't.k IS NOT NULL', 't.k > 0', 't.k = ANY (''{1,NULL}'')');
REINDEX TABLE nulls;
SELECT pg_temp.compare_conditions('nulls', 't.k IS NULL', 't.k IS NOT NULL', 't.k > 0', 't.k = ANY (''{1,NULL}'')');
SELECT pg_temp.compare('{plain,only}'::text[],
	'SELECT t.id, t.k FROM nulls t ORDER BY t.k NULLS FIRST, t.id', 'SELECT t.id, t.k FROM nulls t ORDER BY t.k DESC NULLS LAST, t.id');
DELETE FROM nulls WHERE id % 2 = 0;
VACUUM nulls;
INSERT INTO nulls SELECT i, CASE WHEN i > 5 THEN i END FROM generate_series(1, 10) i;
SELECT pg_temp.compare_conditions('nulls', 't.k IS NULL', 't.k IS NOT NULL', 't.k > 7', 't.k = ANY (''{1,NULL,9}'')');

--
-- Partial indexes
--
CREATE TABLE jobs (id int, k timestamp, state text);
INSERT INTO jobs
	SELECT i, timestamp '2026-01-01' + (i * 7919) % 3000 * interval '1 hour', CASE WHEN i % 9 = 0 THEN 'open' ELSE 'done' END
	FROM generate_series(1, 3000) i;
CREATE INDEX jobs_open_alex ON jobs USING alex (k) WHERE state = 'open';
INSERT INTO jobs
	SELECT i, timestamp '2026-01-01' + (i * 7919) % 3000 * interval '1 hour', CASE WHEN i % 9 = 0 THEN 'open' ELSE 'done' END
	FROM generate_series(3001, 4000) i;
ANALYZE jobs;
SELECT pg_temp.compare('{plain,bitmap}'::text[],
	'SELECT t.id, t.k FROM jobs t WHERE t.state = ''open'' AND t.k < ''2026-02-01''',
	'SELECT t.id, t.k FROM jobs t WHERE t.state = ''open'' AND t.k >= date ''2026-04-01''',
	'SELECT t.id, t.k FROM jobs t WHERE t.state = ''open'' AND t.k IS NOT NULL');
SELECT pg_temp.compare('{plain}'::text[],
	'SELECT t.id, t.k FROM jobs t WHERE t.state = ''open''',
	'SELECT t.id, t.k FROM jobs t WHERE t.state = ''open'' ORDER BY t.k, t.id LIMIT 5');
-- rows that enter and leave the index, some without a new key
UPDATE jobs SET state = 'done' WHERE state = 'open' AND id % 2 = 0;
UPDATE jobs SET state = 'open' WHERE id % 11 = 0;
UPDATE jobs SET k = k + interval '1 minute' WHERE state = 'open' AND id % 5 = 0;
DELETE FROM jobs WHERE state = 'open' AND id % 7 = 0;
SELECT pg_temp.compare('{plain,bitmap}'::text[],
	'SELECT t.id, t.k FROM jobs t WHERE t.state = ''open'' AND t.k < ''2026-02-01''',
	'SELECT t.id, t.k FROM jobs t WHERE t.state = ''open'' AND t.k >= date ''2026-04-01''');
VACUUM jobs;
SELECT pg_temp.compare('{plain,bitmap}'::text[],
	'SELECT t.id, t.k FROM jobs t WHERE t.state = ''open'' AND t.k < ''2026-02-01''',
	'SELECT t.id, t.k FROM jobs t WHERE t.state = ''open'' AND t.k >= date ''2026-04-01''');
-- the other rows are not in it
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM jobs WHERE state = 'done' AND k < '2026-02-01';
RESET enable_seqscan;
-- an index-only scan of a partial index without its column
CREATE TABLE positive (id int, k int);
CREATE INDEX positive_alex ON positive USING alex (k DESC) WHERE k > 0;
INSERT INTO positive SELECT i, i % 100 - 50 FROM generate_series(1, 1000) i;
VACUUM ANALYZE positive;
SELECT pg_temp.compare(
	'SELECT t.id, t.k FROM positive t WHERE t.k > 0 AND t.k < 10', 'SELECT t.id, t.k FROM positive t WHERE t.k > 20',
	'SELECT t.id, t.k FROM positive t WHERE t.k = ANY (''{1,2,3}'')');

--
-- Expression indexes
--
CREATE TABLE documents (id int, body text, price numeric, at timestamptz);
INSERT INTO documents
	SELECT i, repeat('x', i % 97), CASE WHEN i % 13 > 0 THEN i % 200 / 10.0 END, timestamptz '2026-01-01+00' + i * interval '1 hour'
	FROM generate_series(1, 2000) i;
CREATE INDEX documents_length_alex ON documents USING alex (length(body));
CREATE INDEX documents_price_alex ON documents USING alex ((price::float8 * 2) DESC NULLS LAST);
CREATE INDEX documents_day_alex ON documents USING alex (((at AT TIME ZONE 'UTC')::date)) WHERE id % 2 = 0;
INSERT INTO documents
	SELECT i, repeat('x', i % 97), CASE WHEN i % 13 > 0 THEN i % 200 / 10.0 END, timestamptz '2026-01-01+00' + i * interval '1 hour'
	FROM generate_series(2001, 3000) i;
ANALYZE documents;
SELECT pg_temp.compare('{plain,bitmap}'::text[],
	'SELECT t.id, t.body FROM documents t WHERE length(t.body) = 13',
	'SELECT t.id, t.body FROM documents t WHERE length(t.body) > 90',
	'SELECT t.id, t.body FROM documents t WHERE length(t.body) IN (1, 5, 200)',
	'SELECT t.id, t.price FROM documents t WHERE t.price::float8 * 2 < 3.3',
	'SELECT t.id, t.price FROM documents t WHERE t.price::float8 * 2 IS NULL',
	'SELECT t.id, t.at FROM documents t WHERE (t.at AT TIME ZONE ''UTC'')::date = ''2026-01-17'' AND t.id % 2 = 0',
	'SELECT t.id, t.at FROM documents t WHERE (t.at AT TIME ZONE ''UTC'')::date >= timestamp ''2026-04-01 00:00:01'' AND t.id % 2 = 0');
SELECT pg_temp.compare('{plain}'::text[],
	'SELECT length(t.body) FROM documents t ORDER BY length(t.body) LIMIT 100',
	'SELECT t.id, t.price FROM documents t ORDER BY t.price::float8 * 2 DESC NULLS LAST, t.id',
	'SELECT t.id, t.price FROM documents t ORDER BY t.price::float8 * 2 ASC NULLS FIRST, t.id LIMIT 300');
-- statistics of an expression are gathered, and an error in it is harmless
SELECT count(*) > 0 AS gathered FROM pg_stats WHERE tablename = 'documents_length_alex';
CREATE INDEX documents_fails_alex ON documents USING alex ((1000 / (id - 1000)));
CREATE INDEX documents_works_alex ON documents USING alex ((1000 / (id - 4000)));
INSERT INTO documents (id) VALUES (4000);
SELECT count(*) FROM documents WHERE id = 4000;
SET client_min_messages = warning;
DROP SCHEMA alex_options CASCADE;
