--
-- What the planner is told: entries counted in the index, and choices of plans.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
CREATE SCHEMA alex_planner;
SET search_path = alex_planner, public;
SET max_parallel_workers_per_gather = 0;
SET jit = off;

-- How many entries core expects from a bitmap index scan, which says so, and
-- how many there are.
CREATE FUNCTION pg_temp.estimates(tablename text, VARIADIC conditions text[])
RETURNS TABLE (condition text, expected bigint, actual bigint) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off AS $$
DECLARE
	line text;
BEGIN
	-- a memtable that is not loaded is not counted exactly
	FOREACH condition IN ARRAY conditions LOOP
		EXECUTE format('SELECT FROM %s WHERE %s LIMIT 1', tablename, condition);
		expected := NULL;
		actual := NULL;
		FOR line IN EXECUTE format('EXPLAIN (ANALYZE, TIMING OFF) SELECT count(*) FROM %s WHERE %s', tablename, condition) LOOP
			IF line ~ 'Bitmap Index Scan' THEN
				expected := substring(line FROM 'rows=(\d+) width');
				actual := substring(line FROM 'actual rows=(\d+)');
			END IF;
		END LOOP;
		RETURN NEXT;
	END LOOP;
END $$;

-- Two runs and a memtable: keys in order, at random, a few with many rows.
SET alexam.memtable_entries = 5000;
CREATE TABLE counted (id int, r bigint, state smallint, at timestamptz);
CREATE FUNCTION fill(first int, last int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO counted SELECT i, hashint8extended(i, 0), (i % 20) * (i % 20), timestamptz '2020-01-01 00:00 UTC' + interval '1 minute' * i
		FROM generate_series(first, last) i;
$$;
SELECT FROM fill(1, 40000);
CREATE INDEX counted_id ON counted USING alex (id);
CREATE INDEX counted_r ON counted USING alex (r DESC);
CREATE INDEX counted_state ON counted USING alex (state);
CREATE INDEX counted_at ON counted USING alex (at);
SELECT FROM fill(40001, 46000);
INSERT INTO counted SELECT NULL FROM generate_series(1, 700);
SELECT FROM fill(46001, 49000);
ANALYZE counted;
SELECT * FROM pg_temp.estimates('counted',
	'id = 7', 'id = 48000', 'id = 100000', 'id BETWEEN 1000 AND 1100', 'id BETWEEN 39990 AND 40010',
	'id BETWEEN 45990 AND 46010', 'id > 100 AND id <= 40000', 'id < 45000', 'id > 47000', 'id >= 0',
	'id > 200 AND id < 100', 'id IS NULL', 'id IS NOT NULL', 'id IN (1, 2, 3, 40001, 48500, 70000)',
	'id = ANY (NULL)', 'id < 20000::bigint', 'id < ANY (''{10,20}'')');
SELECT * FROM pg_temp.estimates('counted',
	'r > 0', 'r < -9000000000000000000', 'r BETWEEN 1000000000000000000 AND 1001000000000000000',
	'state = 0', 'state = 9', 'state IN (0, 9, 10, 16)', 'state > 300', 'state BETWEEN 1 AND 9');
-- arguments that are constants once the statement is planned
SELECT * FROM pg_temp.estimates('counted',
	'at < timestamptz ''2020-01-01 00:00 UTC'' + interval ''1 hour''',
	'at BETWEEN ''2020-01-02 UTC'' AND ''2020-01-03 UTC''', 'at > now()', 'id < abs(-50)',
	'id < (SELECT 50)');
PREPARE below (int) AS SELECT count(*) FROM counted WHERE id < $1;
CREATE FUNCTION pg_temp.expected_below(argument int, mode text) RETURNS text LANGUAGE plpgsql
SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off AS $$
DECLARE
	line text;
BEGIN
	PERFORM set_config('plan_cache_mode', mode, true);
	FOR line IN EXECUTE format('EXPLAIN EXECUTE below (%s)', argument) LOOP
		IF line ~ 'Bitmap Index Scan' THEN
			RETURN substring(line FROM 'rows=(\d+)');
		END IF;
	END LOOP;
END $$;
SELECT pg_temp.expected_below(77, 'force_custom_plan') AS custom,
	pg_temp.expected_below(77, 'force_generic_plan') AS generic;

-- Many elements: some of them are looked at.
SELECT expected, actual FROM pg_temp.estimates('counted',
	(SELECT format('id = ANY (''%s'')', array_agg(i)) FROM generate_series(40003, 43000, 7) i));

-- Dead entries count until VACUUM has removed them.
DELETE FROM counted WHERE id <= 20000;
SELECT * FROM pg_temp.estimates('counted', 'id < 25000', 'id < 1000');
VACUUM (TRUNCATE OFF) counted;
SELECT * FROM pg_temp.estimates('counted', 'id < 25000', 'id < 1000');

-- An index on an expression of which there are no statistics, and a partial one.
CREATE INDEX counted_expression ON counted USING alex ((id % 100));
SELECT * FROM pg_temp.estimates('counted', 'id % 100 = 3', 'id % 100 < 10');
DROP INDEX counted_id, counted_expression;
CREATE INDEX counted_partial ON counted USING alex (id) WHERE state = 9;
SELECT * FROM pg_temp.estimates('counted', 'id > 30000 AND state = 9', 'id BETWEEN 30000 AND 30100 AND state = 9');

--
-- Choices
--
CREATE TABLE chosen (id int, r int, filler text);
INSERT INTO chosen SELECT i, i * 7919::bigint % 100003, repeat('x', 50) FROM generate_series(1, 100000) i;
CREATE INDEX chosen_id ON chosen USING alex (id);
CREATE INDEX chosen_r ON chosen USING alex (r);
VACUUM ANALYZE chosen;
-- by how much of the table it is
EXPLAIN (COSTS OFF) SELECT * FROM chosen WHERE r = 5;
EXPLAIN (COSTS OFF) SELECT * FROM chosen WHERE r < 2000;
EXPLAIN (COSTS OFF) SELECT * FROM chosen WHERE r < 90000;
EXPLAIN (COSTS OFF) SELECT * FROM chosen WHERE id < 50000;
EXPLAIN (COSTS OFF) SELECT count(*) FROM chosen WHERE r < 90000;
EXPLAIN (COSTS OFF) SELECT * FROM chosen WHERE r IN (5, 50, 500);
-- by the order
EXPLAIN (COSTS OFF) SELECT * FROM chosen ORDER BY r LIMIT 10;
EXPLAIN (COSTS OFF) SELECT * FROM chosen ORDER BY id DESC;
EXPLAIN (COSTS OFF) SELECT * FROM chosen ORDER BY r;
-- among other indexes of the column
CREATE INDEX chosen_id_btree ON chosen USING btree (id);
CREATE INDEX chosen_id_brin ON chosen USING brin (id);
CREATE INDEX chosen_r_btree ON chosen USING btree (r);
CREATE INDEX chosen_r_brin ON chosen USING brin (r);
VACUUM ANALYZE chosen;
EXPLAIN (COSTS OFF) SELECT * FROM chosen WHERE r = 5;
EXPLAIN (COSTS OFF) SELECT * FROM chosen WHERE id BETWEEN 100 AND 1000;
EXPLAIN (COSTS OFF) SELECT count(*) FROM chosen WHERE r < 90000;
EXPLAIN (COSTS OFF) SELECT * FROM chosen ORDER BY r LIMIT 10;
EXPLAIN (COSTS OFF) SELECT * FROM chosen WHERE r IN (5, 50, 500);
EXPLAIN (COSTS OFF) SELECT count(*) FROM chosen c JOIN counted ON c.r = counted.id WHERE counted.state = 9 AND counted.id < 21000;

-- Statistics know nothing of most rows: the index does.
CREATE TABLE stale (id int, filler text) WITH (autovacuum_enabled = off);
INSERT INTO stale SELECT i, repeat('x', 50) FROM generate_series(1, 5000) i;
CREATE INDEX stale_id ON stale USING alex (id);
ANALYZE stale;
EXPLAIN (COSTS OFF) SELECT * FROM stale WHERE id > 5000;
INSERT INTO stale SELECT i, repeat('x', 50) FROM generate_series(5001, 50000) i;
EXPLAIN (COSTS OFF) SELECT * FROM stale WHERE id > 5000;

-- Nor of the rows at the ends, which come after ANALYZE: how many come out is
-- estimated by statistics that reach as far as the index does.
CREATE FUNCTION pg_temp.expects(condition text, low int, high int, tablename text DEFAULT 'later') RETURNS text LANGUAGE plpgsql
SET enable_indexscan = off SET enable_indexonlyscan = off SET enable_bitmapscan = off AS $$
DECLARE
	plan jsonb;
	expected int;
BEGIN
	EXECUTE format('EXPLAIN (FORMAT JSON) SELECT * FROM %s WHERE %s', tablename, condition) INTO plan;
	expected := plan -> 0 -> 'Plan' -> 'Plan Rows';
	RETURN CASE WHEN expected BETWEEN low AND high THEN 'as it should' ELSE format('%s rows', expected) END;
END $$;
CREATE TABLE later (up bigint, down int, at timestamptz, address macaddr, sum float8, bare bigint)
	WITH (autovacuum_enabled = off);
CREATE FUNCTION later(first int, last int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO later SELECT i, -i, timestamptz '2020-01-01 00:00 UTC' + i * interval '1 minute',
			('08002b' || lpad(to_hex(i), 6, '0'))::macaddr, i / 8.0, i
		FROM generate_series(first, last) i;
$$;
SELECT FROM later(1, 50000);
CREATE INDEX ON later USING alex (up);
CREATE INDEX ON later USING alex (down DESC);
CREATE INDEX ON later USING alex (at);
CREATE INDEX ON later USING alex (address);
CREATE INDEX ON later USING alex (sum);
CREATE INDEX ON later USING alex (bare) WHERE bare % 2 = 0;
ANALYZE later;
CREATE FUNCTION pg_temp.expectations() RETURNS TABLE (condition text, expected text) LANGUAGE sql AS $$
	SELECT ends.condition, pg_temp.expects(ends.condition, ends.least, ends.greatest)
	FROM (VALUES
		('up > 52500', 200, 800), ('up BETWEEN 40000 AND 45000', 4000, 7000), ('up < -5', 1, 6), ('up > 70000', 1, 6),
		('down < -52500', 200, 800), ('down > 5', 1, 6),
		('at > timestamptz ''2020-01-01 00:00 UTC'' + 52500 * interval ''1 minute''', 200, 800),
		('address > ''08:00:2b:00:cd:14''', 200, 800), ('sum > 52500 / 8.0', 200, 800),
		('bare > 52500', 1, 6)) AS ends (condition, least, greatest)
$$;
SELECT FROM later(50001, 55000);
-- in memtables, once a scan has loaded them
SET enable_seqscan = off;
SELECT FROM later WHERE up = 0 OR down = 1 OR at = now() OR address = '00:00:00:00:00:00' OR sum = 0;
RESET enable_seqscan;
SELECT * FROM pg_temp.expectations();
-- in runs
SELECT count(alex_compact(indexrelid::regclass)) FROM pg_index WHERE indrelid = 'later'::regclass;
SELECT * FROM pg_temp.expectations();
-- what is deleted at the lower end does not count
INSERT INTO later (up) VALUES (-1000);
SELECT alex_compact('later_up_idx');
SELECT pg_temp.expects('up < -5', 100, 800);
DELETE FROM later WHERE up < 0;
VACUUM (INDEX_CLEANUP ON) later;
SELECT pg_temp.expects('up < -5', 1, 6), pg_temp.expects('up > 52500', 200, 800);
-- who may not see all rows does not see where they end
CREATE ROLE regress_alex_planner;
GRANT USAGE ON SCHEMA alex_planner TO regress_alex_planner;
GRANT SELECT ON later TO regress_alex_planner;
SET ROLE regress_alex_planner;
SELECT pg_temp.expects('up > 52500', 200, 800);
RESET ROLE;
ALTER TABLE later ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON later USING (true);
SET ROLE regress_alex_planner;
SELECT pg_temp.expects('up > 52500', 1, 6);
RESET ROLE;
-- of a partition, who may see the partitioned table
CREATE TABLE whole (up bigint) PARTITION BY RANGE (up);
CREATE TABLE part PARTITION OF whole FOR VALUES FROM (1) TO (1000000) WITH (autovacuum_enabled = off);
CREATE INDEX ON whole USING alex (up);
INSERT INTO whole SELECT generate_series(1, 50000);
ANALYZE part;
SET alexam.direct_seal_threshold = 1;
INSERT INTO whole SELECT generate_series(50001, 55000);
RESET alexam.direct_seal_threshold;
GRANT SELECT ON whole TO regress_alex_planner;
SET ROLE regress_alex_planner;
SELECT pg_temp.expects('up > 52500', 200, 800, 'whole');
RESET ROLE;
ALTER TABLE whole ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON whole USING (true);
GRANT SELECT ON part TO regress_alex_planner;
SET ROLE regress_alex_planner;
SELECT pg_temp.expects('up > 52500', 1, 6, 'whole'), pg_temp.expects('up > 52500', 200, 800, 'part');
RESET ROLE;

SET client_min_messages = warning;
DROP SCHEMA alex_planner CASCADE;
DROP ROLE regress_alex_planner;
