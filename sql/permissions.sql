--
-- PERMISSIONS
-- Who may ask what, functions called by hand, and hostile surroundings
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
CREATE ROLE regress_alex_owner;
CREATE ROLE regress_alex_reader;
CREATE SCHEMA guarded AUTHORIZATION regress_alex_owner;
GRANT USAGE ON SCHEMA guarded TO regress_alex_reader;

SET SESSION AUTHORIZATION regress_alex_owner;
SET search_path = guarded, public;
CREATE TABLE secrets (k int, holder name);
INSERT INTO secrets SELECT 1000 + i, CASE WHEN i % 2 = 0 THEN 'regress_alex_reader' ELSE 'somebody' END
	FROM generate_series(1, 200) i;
CREATE INDEX secrets_k ON secrets USING alex (k);
-- the owner may do all of this
SELECT count(*) FROM alex_runs('secrets_k');
SELECT entries FROM alex_stats('secrets_k');
SELECT alex_check('secrets_k', true);
SELECT alex_compact('secrets_k');
-- who may write to a table may not look into it
GRANT INSERT ON secrets TO regress_alex_reader;
RESET SESSION AUTHORIZATION;

SET SESSION AUTHORIZATION regress_alex_reader;
SELECT * FROM alex_runs('guarded.secrets_k');
SELECT * FROM alex_stats('guarded.secrets_k');
SELECT alex_check('guarded.secrets_k');
SELECT alex_check('guarded.secrets_k', true);
SELECT alex_compact('guarded.secrets_k');
-- nor change what others' inserts and scans do
SET alexam.verify_checksums = off;
SET alexam.memtable_entries = 1000;
SET alexam.direct_seal_threshold = 1;
SET alexam.bloom_bits = 0;
SET alexam.background_compaction = off;
SET alexam.memtable_memory = '1GB';
SET alexam.max_memtables = 1;
SET alexam.hint_memory = '64kB';
SET alexam.max_compaction_workers = 1;
SET alexam.compaction_cost_limit = 1;
SET alexam.compaction_cost_delay = 1;
SET alexam.log_compaction_min_duration = 0;
-- but how it reads and collects is its own business
SET alexam.use_mmap = off;
SET alexam.batch_size = 1;
SET alexam.batch_memory = '64kB';
RESET alexam.use_mmap;
RESET alexam.batch_size;
RESET alexam.batch_memory;
-- operator classes and access methods are for superusers
CREATE OPERATOR CLASS pg_temp.mine FOR TYPE int4 USING alex AS FUNCTION 1 alex_lane_int4(int4);
CREATE ACCESS METHOD mine TYPE INDEX HANDLER alex_handler;
RESET SESSION AUTHORIZATION;

-- a function of the owner's may let others in
SET SESSION AUTHORIZATION regress_alex_owner;
CREATE FUNCTION how_many() RETURNS int8 LANGUAGE sql SECURITY DEFINER
	SET search_path = guarded, public, pg_temp
	AS $$ SELECT entries FROM alex_stats('secrets_k') $$;
SET SESSION AUTHORIZATION regress_alex_reader;
SELECT guarded.how_many();
RESET SESSION AUTHORIZATION;
-- who watches may see how much there is, but neither keys nor more
CREATE ROLE regress_alex_watcher IN ROLE pg_monitor;
GRANT USAGE ON SCHEMA guarded TO regress_alex_watcher;
SET SESSION AUTHORIZATION regress_alex_watcher;
SELECT s.entries
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
JOIN pg_am a ON a.oid = c.relam AND a.amname = 'alex',
	alex_stats(i.indexrelid) s
WHERE i.indisvalid AND c.relpersistence = 'p' AND c.relname = 'secrets_k';
SELECT count(*) FROM alex_runs('guarded.secrets_k');
SELECT alex_check('guarded.secrets_k');
SELECT alex_compact('guarded.secrets_k');
RESET SESSION AUTHORIZATION;
REVOKE USAGE ON SCHEMA guarded FROM regress_alex_watcher;
DROP ROLE regress_alex_watcher;

--
-- Errors of uniqueness do not tell keys to those who may not read them
--
SET SESSION AUTHORIZATION regress_alex_owner;
CREATE TABLE unique_secrets (k int, v text);
CREATE UNIQUE INDEX unique_secrets_k ON unique_secrets USING alex (k);
INSERT INTO unique_secrets VALUES (4711, 'a');
GRANT INSERT ON unique_secrets TO regress_alex_reader;
SET SESSION AUTHORIZATION regress_alex_reader;
\set VERBOSITY default
INSERT INTO guarded.unique_secrets VALUES (4711, 'b');
RESET SESSION AUTHORIZATION;
GRANT SELECT (k) ON guarded.unique_secrets TO regress_alex_reader;
SET SESSION AUTHORIZATION regress_alex_reader;
INSERT INTO guarded.unique_secrets VALUES (4711, 'b');
RESET SESSION AUTHORIZATION;
-- with row security, not even to those who may read some of them
ALTER TABLE guarded.unique_secrets ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON guarded.unique_secrets USING (v = 'b') WITH CHECK (true);
SET SESSION AUTHORIZATION regress_alex_reader;
INSERT INTO guarded.unique_secrets VALUES (4711, 'b');
RESET SESSION AUTHORIZATION;

--
-- Row security: a function that tells what it sees must not see other rows
--
GRANT SELECT ON guarded.secrets TO regress_alex_reader;
ALTER TABLE guarded.secrets ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON guarded.secrets USING (holder = current_user);
ANALYZE guarded.secrets;
CREATE FUNCTION guarded.tells(int) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS
$$ BEGIN RAISE NOTICE 'k = %', $1; RETURN true; END $$;
SET SESSION AUTHORIZATION regress_alex_reader;
SET enable_seqscan = off;
SELECT k FROM guarded.secrets WHERE k BETWEEN 1001 AND 1004 AND guarded.tells(k) ORDER BY k;
SELECT count(*), min(k), max(k) FROM guarded.secrets;
SELECT k FROM guarded.secrets WHERE k IN (1001, 1002, 1003);
RESET enable_seqscan;
RESET SESSION AUTHORIZATION;

--
-- Estimates are counted, but not for those who may not see all rows
--
CREATE FUNCTION guarded.estimate(query text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	line text;
	estimate int;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
		IF line ~ 'Bitmap Index Scan' THEN
			estimate := (regexp_match(line, 'rows=(\d+)'))[1];
		END IF;
	END LOOP;
	RETURN estimate;
END $$;
CREATE TABLE guarded.plain (k int, owner name) WITH (autovacuum_enabled = off);
CREATE TABLE guarded.whole (k int, owner name) PARTITION BY RANGE (k);
CREATE TABLE guarded.part PARTITION OF guarded.whole FOR VALUES FROM (0) TO (1000) PARTITION BY RANGE (k);
CREATE TABLE guarded.leaf PARTITION OF guarded.part FOR VALUES FROM (0) TO (1000)
	WITH (autovacuum_enabled = off);
CREATE TABLE guarded.behind (k int, owner name) WITH (autovacuum_enabled = off);
CREATE VIEW guarded.barrier WITH (security_barrier) AS
	SELECT * FROM guarded.behind WHERE owner = current_user;
CREATE VIEW guarded.barriers WITH (security_barrier) AS
	SELECT * FROM guarded.behind WHERE owner = current_user
	UNION ALL SELECT * FROM guarded.behind WHERE owner = current_user;
CREATE VIEW guarded.open AS SELECT * FROM guarded.behind WHERE owner = current_user;
INSERT INTO guarded.plain SELECT i % 100, 'nobody' FROM generate_series(1, 10000) i;
INSERT INTO guarded.plain SELECT 7, 'nobody' FROM generate_series(1, 777);
INSERT INTO guarded.whole SELECT * FROM guarded.plain;
INSERT INTO guarded.behind SELECT * FROM guarded.plain;
CREATE INDEX ON guarded.plain USING alex (k);
CREATE INDEX ON guarded.whole USING alex (k);
CREATE INDEX ON guarded.behind USING alex (k);
VACUUM guarded.plain, guarded.leaf, guarded.behind;
ALTER TABLE guarded.plain ENABLE ROW LEVEL SECURITY;
ALTER TABLE guarded.whole ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON guarded.plain USING (owner = current_user);
CREATE POLICY mine ON guarded.whole USING (owner = current_user);
GRANT SELECT ON guarded.plain, guarded.whole, guarded.barrier, guarded.barriers, guarded.open
	TO regress_alex_reader;
CREATE VIEW guarded.estimates AS
SELECT tables.name, guarded.estimate(format('SELECT k FROM %s WHERE k = 7', tables.name)) AS of_877,
	guarded.estimate(format('SELECT k FROM %s WHERE k = 8', tables.name)) AS of_100
FROM (VALUES ('guarded.plain'), ('guarded.whole'), ('guarded.barrier'), ('guarded.barriers'), ('guarded.open'))
	AS tables (name);
GRANT SELECT ON guarded.estimates TO regress_alex_reader;
SET enable_seqscan = off;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
SELECT name, of_877, of_100 FROM guarded.estimates WHERE name NOT LIKE '%.barrier%' ORDER BY name;
SET SESSION AUTHORIZATION regress_alex_reader;
SELECT name, of_877 = of_100 AS alike FROM guarded.estimates ORDER BY name;
RESET SESSION AUTHORIZATION;
RESET enable_seqscan;
RESET enable_indexscan;
RESET enable_indexonlyscan;

--
-- Functions called by hand
--
-- (which error it is depends on the minor release)
DO $$
BEGIN
	PERFORM alex_handler(NULL);
	RAISE NOTICE 'called';
EXCEPTION WHEN feature_not_supported OR undefined_function THEN
	RAISE NOTICE 'refused';
END $$;
SELECT alex_handler(0);
SELECT alex_check(NULL), alex_check('guarded.secrets_k', NULL), alex_compact(NULL), alex_stats(NULL);
SELECT * FROM alex_runs(NULL);
SELECT alex_check(0);
SELECT alex_compact('pg_class'::regclass);
SELECT alex_stats('pg_class_oid_index'::regclass);
SELECT * FROM alex_runs('guarded.secrets');
-- no lane leads to more than a value or an error, and no value to a crash
DO $$
DECLARE
	f record;
	lane int8;
	result text;
	nvalues int := 0;
	nerrors int := 0;
	wrong text := '';
BEGIN
	FOR f IN SELECT p.proname, substr(p.proname, 12) AS type FROM pg_proc p
		WHERE p.proname LIKE 'alex\_value\_%'
	LOOP
		FOR lane IN SELECT (s * (2::numeric ^ e - d))::int8 FROM generate_series(0, 62) e,
			unnest(ARRAY[0, 1]) d, unnest(ARRAY[-1, 1]) s
			UNION SELECT '-9223372036854775808' UNION SELECT '9223372036854775807'
		LOOP
			BEGIN
				EXECUTE format('SELECT %I($1)::text || alex_lane_%s(%I($1))', f.proname, f.type, f.proname)
					INTO result USING lane;
				nvalues := nvalues + 1;
				IF result NOT LIKE '%' || lane THEN
					wrong := wrong || f.proname || lane;
				END IF;
			EXCEPTION WHEN numeric_value_out_of_range OR datetime_field_overflow
				OR invalid_parameter_value OR data_corrupted OR index_corrupted OR internal_error THEN
				nerrors := nerrors + 1;
			END;
		END LOOP;
		EXECUTE format('SELECT %I(NULL)::text', f.proname) INTO result;
		ASSERT result IS NULL;
	END LOOP;
	RAISE NOTICE 'values: %, errors: %, wrong: "%"', nvalues > 100, nerrors > 100, wrong;
END $$;
-- arguments that no key type has
SELECT alex_low_date('infinity'::timestamp) > alex_low_date('294276-12-31 23:59:59.999999'::timestamp),
	alex_high_date('-infinity'::timestamp) < alex_high_date('4713-01-01 BC'::timestamp);
SELECT alex_low_float4('NaN'::float4) = alex_low_float4('-NaN'::float4), alex_high_float8('NaN') >= alex_low_float8('NaN');

--
-- Objects of others, made before the extension is there
--
CREATE DATABASE regress_alex_hostile;
\set here :DBNAME
\c regress_alex_hostile
SET client_min_messages = warning;
-- anyone may have made functions of these names in the schema ...
CREATE SCHEMA target;
GRANT CREATE, USAGE ON SCHEMA target, public TO regress_alex_reader;
SET SESSION AUTHORIZATION regress_alex_reader;
CREATE FUNCTION target.alex_lane_int4(int4) RETURNS int8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT 0::int8';
RESET SESSION AUTHORIZATION;
-- ... which is an error, not a replacement
CREATE EXTENSION alexam SCHEMA target;
DROP FUNCTION target.alex_lane_int4(int4);
-- functions and operators that fit the script's arguments better, or that
-- come earlier, are not taken
SET SESSION AUTHORIZATION regress_alex_reader;
CREATE FUNCTION public.alex_lane_int4(int4) RETURNS int8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT 0::int8';
CREATE FUNCTION public.evil(int4, int4) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR public.< (LEFTARG = int4, RIGHTARG = int4, FUNCTION = public.evil);
CREATE OPERATOR target.< (LEFTARG = int4, RIGHTARG = int4, FUNCTION = public.evil);
CREATE TYPE target.int8 AS (x int);
CREATE DOMAIN target.regclass AS int;
RESET SESSION AUTHORIZATION;
SET search_path = public, target, pg_catalog;
CREATE EXTENSION alexam SCHEMA target;
RESET search_path;
SELECT count(*) > 50 AS procs, bool_and(n.nspname = 'target' AND p.prolang = 13) AS own,
	bool_and(a.rolname <> 'regress_alex_reader') AS of_superuser
FROM pg_amproc ap JOIN pg_opfamily f ON f.oid = ap.amprocfamily JOIN pg_am m ON m.oid = f.opfmethod
	JOIN pg_proc p ON p.oid = ap.amproc JOIN pg_namespace n ON n.oid = p.pronamespace
	JOIN pg_roles a ON a.oid = p.proowner
WHERE m.amname = 'alex';
SELECT count(*) > 50 AS operators, bool_and(o.oprnamespace = 'pg_catalog'::pg_catalog.regnamespace) AS core
FROM pg_amop ao JOIN pg_am m ON m.oid = ao.amopmethod JOIN pg_operator o ON o.oid = ao.amopopr
WHERE m.amname = 'alex';
SELECT count(*) FROM pg_proc p, unnest(p.proargtypes || p.prorettype) t JOIN pg_type y ON y.oid = t
WHERE p.probin LIKE '%alexam%' AND y.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace;
-- and the index works, whatever the search path is
CREATE TABLE t (k int);
INSERT INTO t SELECT generate_series(1, 1000);
CREATE INDEX t_k ON t USING alex (k);
SET search_path = target, public, pg_catalog;
SET enable_seqscan = off;
SELECT count(*) FROM public.t WHERE k OPERATOR(pg_catalog.<) 10;
SELECT target.alex_check('public.t_k', true);
RESET search_path;
DROP EXTENSION alexam CASCADE;
-- who is no superuser cannot install it, nor with the database's ownership
GRANT CREATE ON DATABASE regress_alex_hostile TO regress_alex_reader;
SET SESSION AUTHORIZATION regress_alex_reader;
CREATE EXTENSION alexam;
RESET SESSION AUTHORIZATION;
\c :here
DROP DATABASE regress_alex_hostile;

DROP SCHEMA guarded CASCADE;
DROP ROLE regress_alex_owner, regress_alex_reader;
