--
-- CREATE INDEX with parallel workers gives the index that one process makes
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
CREATE SCHEMA alex_build_parallel;
SET search_path = alex_build_parallel, public;

CREATE TABLE built (id bigint, v bigint, d float8, t text)
	WITH (parallel_workers = 2, autovacuum_enabled = off);
INSERT INTO built
	SELECT i,
		CASE WHEN i % 500 = 0 THEN NULL
			WHEN i = 37777 THEN 9223372036854775807
			WHEN i = 48888 THEN -9223372036854775808
			WHEN i % 3 = 0 THEN 42
			ELSE i::bigint * 7919000001 % 1000003000007 END,
		i / 4, 'row ' || i
	FROM generate_series(1, 70000) i;
VACUUM (ANALYZE) built;

-- The rows that an index gives, in its order: equal keys come in the order of
-- their TIDs, so that there is one such order only.
CREATE FUNCTION contents(index_name text, column_name text, condition text)
	RETURNS TABLE (n bigint, hash text)
LANGUAGE plpgsql AS $$
DECLARE
	direction text := (SELECT substring(pg_get_indexdef(index_name::regclass)
										FROM 'DESC NULLS LAST|DESC|NULLS FIRST'));
	query text := format('SELECT ctid AS row FROM built WHERE %2$s ORDER BY %1$s %3$s',
						 column_name, condition, direction);
	plan text;
BEGIN
	SET LOCAL enable_seqscan = off;
	SET LOCAL enable_bitmapscan = off;
	SET LOCAL enable_sort = off;
	SET LOCAL max_parallel_workers_per_gather = 0;
	EXECUTE 'EXPLAIN (COSTS OFF, FORMAT JSON) ' || query INTO plan;
	IF position('"' || index_name || '"' IN plan) = 0 THEN
		RAISE 'the plan does not use %: %', index_name, plan;
	END IF;
	RETURN QUERY EXECUTE 'SELECT count(*), md5(string_agg(row::text, '','')) FROM ('
		|| query || ') AS s';
END;
$$;

-- An index built by one process and one built by several, each checked
-- against the table, and against one another.
CREATE FUNCTION compare_builds(definition text, column_name text,
							   condition text DEFAULT 'true')
	RETURNS TABLE (entries bigint, are_equal boolean, checked text)
LANGUAGE plpgsql AS $$
DECLARE
	one record;
	several record;
BEGIN
	SET LOCAL max_parallel_maintenance_workers = 0;
	EXECUTE 'CREATE INDEX built_alone ON built USING alex ' || definition;
	SELECT * INTO one FROM contents('built_alone', column_name, condition);
	DROP INDEX built_alone;
	SET LOCAL max_parallel_maintenance_workers = 2;
	EXECUTE 'CREATE INDEX built_by_all ON built USING alex ' || definition;
	PERFORM alex_check('built_by_all', true);
	SELECT * INTO several FROM contents('built_by_all', column_name, condition);
	RETURN QUERY SELECT several.n, one = several,
		(SELECT count(*) || ' runs, ' || sum(r.entries) || ' entries'
		 FROM alex_runs('built_by_all') r);
	DROP INDEX built_by_all;
END;
$$;

SELECT * FROM compare_builds('(id)', 'id');
SELECT * FROM compare_builds('(v)', 'v');
SELECT * FROM compare_builds('(v NULLS FIRST)', 'v');
SELECT * FROM compare_builds('(v DESC NULLS LAST)', 'v');
SELECT * FROM compare_builds('(d)', 'd');
SELECT * FROM compare_builds('((v / 1000))', '(v / 1000)');
SELECT * FROM compare_builds('(v) WHERE id % 2 = 0', 'v', 'id % 2 = 0');

-- much more than fits into memory: many chunks
SET maintenance_work_mem = '1MB';
SELECT * FROM compare_builds('(id)', 'id');
SELECT * FROM compare_builds('(v)', 'v');
SELECT * FROM compare_builds('(v DESC)', 'v');
RESET maintenance_work_mem;

-- pages that are not all-visible, HOT chains, and a transaction's own rows
UPDATE built SET t = 'new' WHERE id % 1000 = 1;
UPDATE built SET v = -id WHERE id BETWEEN 50000 AND 55000;
SELECT * FROM compare_builds('(v)', 'v');
BEGIN;
DELETE FROM built WHERE id BETWEEN 40000 AND 41000;
INSERT INTO built SELECT -i, -i, i, 'mine' FROM generate_series(1, 1000) i;
SELECT * FROM compare_builds('(v)', 'v');
CREATE TABLE my_table WITH (parallel_workers = 2) AS SELECT id AS k FROM built;
CREATE INDEX my_index ON my_table USING alex (k);
SELECT alex_check('my_index', true);
ROLLBACK;

-- all values NULL; none at all; one for all
UPDATE built SET t = NULL;
ALTER TABLE built ADD COLUMN nothing bigint, ADD COLUMN same bigint DEFAULT 1;
SELECT * FROM compare_builds('(nothing)', 'nothing');
SELECT * FROM compare_builds('(id) WHERE id < 0', 'id', 'id < 0');
SELECT * FROM compare_builds('(same)', 'same');
VACUUM built;

-- REINDEX, CONCURRENTLY
SET max_parallel_maintenance_workers = 2;
CREATE INDEX built_v ON built USING alex (v);
REINDEX INDEX built_v;
SELECT alex_check('built_v', true);
REINDEX INDEX CONCURRENTLY built_v;
SELECT alex_check('built_v', true);
DROP INDEX built_v;
CREATE INDEX CONCURRENTLY built_v ON built USING alex (v);
SELECT alex_check('built_v', true);
SELECT reltuples = (SELECT count(*) FROM built) AS counted
	FROM pg_class WHERE oid = 'built_v'::regclass;
DELETE FROM built WHERE id % 10 = 3;
VACUUM built;
SELECT alex_check('built_v', true);
DROP INDEX built_v;

-- unlogged; temporary tables have no workers
CREATE UNLOGGED TABLE unlogged WITH (parallel_workers = 2) AS SELECT id AS k FROM built;
CREATE INDEX unlogged_k ON unlogged USING alex (k);
SELECT alex_check('unlogged_k', true);
CREATE TEMP TABLE temporary WITH (parallel_workers = 2) AS SELECT id AS k FROM built;
CREATE INDEX temporary_k ON temporary USING alex (k);
SELECT alex_check('temporary_k', true);
TRUNCATE unlogged;
SELECT alex_check('unlogged_k', true);

-- unique
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE TABLE one_of_each (k bigint, f float8)
	WITH (parallel_workers = 2, fillfactor = 90, autovacuum_enabled = off);
INSERT INTO one_of_each SELECT i * 10, i FROM generate_series(1, 70000) i;
UPDATE one_of_each SET f = f + 0.5 WHERE k % 70 = 0;
CREATE UNIQUE INDEX one_of_each_k ON one_of_each USING alex (k);
CREATE UNIQUE INDEX one_of_each_f ON one_of_each USING alex (f);
SELECT alex_check('one_of_each_k', true), alex_check('one_of_each_f', true);
DROP INDEX one_of_each_k, one_of_each_f;
INSERT INTO one_of_each VALUES (10000, -1);
CREATE UNIQUE INDEX one_of_each_k ON one_of_each USING alex (k);
CREATE UNIQUE INDEX CONCURRENTLY one_of_each_k ON one_of_each USING alex (k);
DROP INDEX IF EXISTS one_of_each_k;
DELETE FROM one_of_each WHERE f = -1;
CREATE UNIQUE INDEX one_of_each_k ON one_of_each USING alex (k);
SELECT alex_check('one_of_each_k', true);
DROP INDEX one_of_each_k;
-- dead rows do not count, equal rows with different keys do
UPDATE one_of_each SET f = '-0' WHERE k = 10;
UPDATE one_of_each SET f = '0' WHERE k = 700000;
CREATE UNIQUE INDEX one_of_each_f ON one_of_each USING alex (f);
UPDATE one_of_each SET f = -2 WHERE k = 10;
CREATE UNIQUE INDEX one_of_each_f ON one_of_each USING alex (f);
SELECT alex_check('one_of_each_f', true);
-- NULLs
INSERT INTO one_of_each VALUES (NULL, -3);
CREATE UNIQUE INDEX one_of_each_k ON one_of_each USING alex (k) NULLS NOT DISTINCT;
DROP INDEX one_of_each_k;
UPDATE one_of_each SET k = NULL WHERE k = 20;
CREATE UNIQUE INDEX one_of_each_k ON one_of_each USING alex (k);
SELECT alex_check('one_of_each_k', true);
DROP INDEX one_of_each_k;
CREATE UNIQUE INDEX one_of_each_k ON one_of_each USING alex (k) NULLS NOT DISTINCT;
RESET client_min_messages;
\set SHOW_CONTEXT errors

SET client_min_messages = warning;
DROP SCHEMA alex_build_parallel CASCADE;
