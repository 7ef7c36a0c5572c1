--
-- Every type with a default operator class: an index gives the answers that a
-- sequential scan gives, for edge values, duplicates, NULLs and random keys.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
\getenv abs_srcdir PG_ABS_SRCDIR
\set differential :abs_srcdir '/sql/include/differential.sql'
\set ECHO none
\i :differential
\set ECHO all
CREATE SCHEMA alex_types;
SET search_path = alex_types;
-- the log is sealed into a run now and then
SET alexam.memtable_entries = 100;
SET lc_monetary = 'C';
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
SET enable_memoize = off;

-- "edges" is an array of values, "random" makes one more value, "shown" is
-- what of a key is the same for keys that are equal.
CREATE TABLE kinds (name text, type text, shown text, edges text, random text);
INSERT INTO kinds (name, type, edges, random) VALUES
	('int2', 'int2', $$'{-32768,-32767,-1,0,1,7,32766,32767}'$$,
	 'random() * 200 - 100'),
	('int4', 'int4', $$'{-2147483648,-2147483647,-32769,-32768,-1,0,1,7,32767,32768,2147483646,2147483647}'$$,
	 'random() * 4e9 - 2e9'),
	('int8', 'int8', $$'{-9223372036854775808,-9223372036854775807,-2147483649,-2147483648,-32769,-1,0,1,7,32768,2147483647,2147483648,9007199254740992,9007199254740993,9223372036854775806,9223372036854775807}'$$,
	 'random() * 1.8e19 - 9e18'),
	('oid', 'oid', $$'{0,1,7,2147483647,2147483648,4294967294,4294967295}'$$,
	 '(random() * 4294967295)::int8'),
	('float4', 'float4', $$'{-Infinity,-3.4028235e38,-1.0000001,-1,-1e-45,-0,0,1e-45,1.1754944e-38,0.1,1,16777217,3.4028235e38,Infinity,NaN}'$$,
	 'tan(random() * 3.14 - 1.57)'),
	('float8', 'float8', $$'{-Infinity,-1.7976931348623157e308,-1e39,-1,-5e-324,-0,0,5e-324,1e-45,2.2250738585072014e-308,0.1,0.10000000149011612,1,16777217,9007199254740993,1e39,1.7976931348623157e308,Infinity,NaN}'$$,
	 'tan(random() * 3.14 - 1.57)'),
	('date', 'date', $$'{-infinity,4714-11-24 BC,4714-11-25 BC,0001-12-31 BC,0001-01-01,1999-12-31,2000-01-01,2000-01-02,294276-12-31,294277-01-01,294277-01-02,5874897-12-30,5874897-12-31,infinity}'$$,
	 $$'2000-01-01'::date + (random() * 1000 - 500)::int$$),
	('time', 'time', $$'{00:00,00:00:00.000001,12:34:56.789,23:59:59.999999,24:00:00}'$$,
	 $$'00:00'::time + random() * interval '1 day'$$),
	('timestamp', 'timestamp', $$'{-infinity,4714-11-24 00:00:00 BC,4714-11-24 00:00:00.000001 BC,0044-03-15 12:00:00 BC,1999-12-31 00:00:00,1999-12-31 23:59:59.999999,2000-01-01 00:00:00,2000-01-01 00:00:00.000001,294276-12-31 00:00:00,294276-12-31 23:59:59.999999,infinity}'$$,
	 $$'2000-01-01'::timestamp + (random() * 1000 - 500) * interval '1 day'$$),
	('timestamptz', 'timestamptz', $$'{-infinity,4714-11-24 00:00:00+00 BC,0044-03-15 12:00:00+00 BC,1999-12-31 23:59:59.999999+00,2000-01-01 00:00:00+00,2000-01-01 00:00:00.000001+00,294276-12-31 23:59:59.999999+00,infinity}'$$,
	 $$'2000-01-01'::timestamptz + (random() * 1000 - 500) * interval '1 day'$$),
	('money', 'money', $$'{-92233720368547758.08,-92233720368547758.07,-0.01,0,0.01,1,92233720368547758.06,92233720368547758.07}'$$,
	 '(random() * 1000)::numeric'),
	('bool', 'bool', $$'{f,t}'$$, 'random() < 0.7'),
	('char', '"char"', 'array[0, 1, 65, 97, 127, -128, -127, -56, -1]', '(random() * 255 - 128)::int'),
	('pg_lsn', 'pg_lsn', $$'{0/0,0/1,0/FFFFFFFF,1/0,7FFFFFFF/FFFFFFFF,80000000/0,FFFFFFFF/FFFFFFFE,FFFFFFFF/FFFFFFFF}'$$,
	 $$'80000000/0'::pg_lsn + (random() * 1e19 - 5e18)::numeric(20)$$),
	('xid8', 'xid8', $$'{0,1,4294967295,4294967296,9223372036854775807,9223372036854775808,18446744073709551614,18446744073709551615}'$$,
	 '(random() * 1.8e19)::numeric(20)::text::xid8'),
	('macaddr', 'macaddr', $$'{00:00:00:00:00:00,00:00:00:00:00:01,00:00:00:00:01:00,08:00:2b:01:02:03,7f:ff:ff:ff:ff:ff,80:00:00:00:00:00,ff:ff:ff:ff:ff:fe,ff:ff:ff:ff:ff:ff}'$$,
	 'left(md5(random()::text), 12)::macaddr'),
	('macaddr8', 'macaddr8', $$'{00:00:00:00:00:00:00:00,00:00:00:00:00:00:00:01,00:00:00:01:00:00:00:00,08:00:2b:01:02:03:04:05,7f:ff:ff:ff:ff:ff:ff:ff,80:00:00:00:00:00:00:00,ff:ff:ff:ff:ff:ff:ff:fe,ff:ff:ff:ff:ff:ff:ff:ff}'$$,
	 'left(md5(random()::text), 16)::macaddr8');
UPDATE kinds SET shown = CASE WHEN name ~ 'float' THEN 't.k + 0' ELSE 't.k' END;

-- A table t_TYPE of keys (edges three times, NULLs, random ones) and a table
-- a_TYPE of arguments.
CREATE FUNCTION fill(name text, nrandom int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	kind kinds := (SELECT kinds FROM kinds WHERE kinds.name = fill.name);
BEGIN
	EXECUTE format('INSERT INTO t_%1$s (k)
		SELECT k FROM (
			SELECT unnest((%3$s)::%2$s[]) AS k FROM generate_series(1, 3)
			UNION ALL SELECT NULL FROM generate_series(1, 9)
			UNION ALL SELECT (%4$s)::%2$s FROM generate_series(1, %5$s)) keys
		ORDER BY random()',
		kind.name, kind.type, kind.edges, kind.random, nrandom);
END $$;
DO $$
DECLARE
	kind kinds;
BEGIN
	PERFORM setseed(0.4);
	FOR kind IN SELECT * FROM kinds LOOP
		EXECUTE format('CREATE TABLE t_%s (id serial, k %s, changes int DEFAULT 0)', kind.name, kind.type);
		PERFORM fill(kind.name, 120);
		EXECUTE format('CREATE TABLE a_%1$s AS
			SELECT row_number() OVER () AS n, v
			FROM unnest((%3$s)::%2$s[] || NULL::%2$s || (SELECT array_agg(k) FROM t_%1$s WHERE id < 12)) v',
			kind.name, kind.type, kind.edges);
	END LOOP;
END $$;

-- All comparisons of the keys of one type with arguments of another.
CREATE FUNCTION compare_arguments(key text, argument text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT pg_temp.compare(VARIADIC
		(SELECT array_agg(format('SELECT a.n, t.id, t.k FROM a_%s a, t_%s t WHERE t.k %s a.v',
								 argument, key, operator))
		 FROM unnest('{<,<=,=,>=,>}'::text[]) operator)
		||
		(SELECT array_agg(format('SELECT a.n, b.n AS m, t.id, t.k FROM a_%1$s a, a_%1$s b, t_%2$s t
				WHERE (a.n + b.n) %% 11 = 0 AND %3$s', argument, key, condition))
		 FROM unnest('{t.k BETWEEN a.v AND b.v,
					   t.k > a.v AND t.k < b.v,
					   t.k >= a.v AND t.k > b.v,
					   t.k = a.v AND t.k <= b.v,
					   t.k = ANY (ARRAY[b.v\, NULL\, a.v\, b.v])}'::text[]) condition))
$$;

-- What else there is to ask: NULLs, arrays, order.
CREATE FUNCTION compare_others(key text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	kind kinds := (SELECT kinds FROM kinds WHERE name = key);
	of_index text := format(' FROM t_%s t', key);
	several text;
	ordered text;
BEGIN
	EXECUTE format('SELECT quote_literal((array_agg(v))[3:9]::text) || %L FROM a_%s',
				   '::' || kind.type || '[]', key) INTO several;
	-- high bytes make no valid text
	IF key = 'char' THEN
		several := $s$array[97, -56, -56, NULL, 1, 97]::"char"[]$s$;
	END IF;
	RETURN QUERY SELECT pg_temp.compare(
		'SELECT t.id, t.k' || of_index || ' WHERE t.k IS NULL',
		'SELECT t.id, t.k' || of_index || ' WHERE t.k IS NOT NULL',
		'SELECT t.id, t.k' || of_index || ' WHERE t.k IS NULL AND t.k IS NOT NULL',
		'SELECT t.id, t.k' || of_index || ' WHERE t.k = ANY (' || several || ')',
		'SELECT t.id, t.k' || of_index || ' WHERE t.k < ANY (' || several || ')',
		'SELECT t.id, t.k' || of_index || ' WHERE t.k >= ANY (' || several || ') AND t.k <= ANY (' || several || ')',
		'SELECT t.id, t.k' || of_index || ' WHERE t.k = ANY ((' || several || ')[1:0])');

	ordered := 'SELECT t.id, ' || kind.shown || of_index;
	RETURN QUERY SELECT pg_temp.compare('{plain,only}'::text[],
		ordered || ' ORDER BY t.k, t.id',
		ordered || ' ORDER BY t.k DESC, t.id',
		ordered || ' ORDER BY t.k, t.id LIMIT 11 OFFSET 5',
		ordered || ' ORDER BY t.k DESC, t.id LIMIT 11 OFFSET 5',
		ordered || ' WHERE t.k IS NULL ORDER BY t.k, t.id',
		ordered || ' WHERE t.k IS NOT NULL ORDER BY t.k DESC, t.id LIMIT 1',
		ordered || ' WHERE t.k = ANY (' || several || ') ORDER BY t.k, t.id',
		ordered || ' WHERE t.k = ANY (' || several || ') ORDER BY t.k DESC, t.id',
		ordered || ' WHERE t.k <= ANY (' || several || ') ORDER BY t.k DESC, t.id');
END $$;

-- Every operator family's pairs of types, as the catalogs have them.
CREATE VIEW pairs AS
	SELECT format_type(amproclefttype, NULL) AS key, format_type(amprocrighttype, NULL) AS argument,
		   l.typname AS key_name, r.typname AS argument_name
	FROM pg_amproc
		JOIN pg_type l ON l.oid = amproclefttype
		JOIN pg_type r ON r.oid = amprocrighttype
		JOIN pg_opfamily f ON f.oid = amprocfamily
		JOIN pg_am a ON a.oid = opfmethod AND amname = 'alex'
	WHERE l.typname IN (SELECT name FROM kinds)
	GROUP BY 1, 2, 3, 4;

-- Sealed entries only
DO $$
DECLARE
	kind kinds;
BEGIN
	FOR kind IN SELECT * FROM kinds LOOP
		EXECUTE format('CREATE INDEX t_%1$s_alex ON t_%1$s USING alex (k)', kind.name);
	END LOOP;
END $$;
VACUUM (ANALYZE) t_int2, t_int4, t_int8, t_oid, t_float4, t_float8, t_date, t_time, t_timestamp,
	t_timestamptz, t_money, t_bool, t_char, t_pg_lsn, t_xid8, t_macaddr, t_macaddr8;
SELECT key, argument, compare_arguments(key_name, argument_name) FROM pairs ORDER BY key COLLATE "C", argument COLLATE "C";
SELECT name, compare_others(name) FROM kinds ORDER BY name COLLATE "C";

-- New entries besides sealed ones; updates of keys and of other columns
DO $$
DECLARE
	kind kinds;
BEGIN
	FOR kind IN SELECT * FROM kinds LOOP
		PERFORM fill(kind.name, 60);
		EXECUTE format('UPDATE t_%s SET changes = changes + 1 WHERE id %% 4 = 0', kind.name);
		EXECUTE format('UPDATE t_%s SET k = (%s)::%s WHERE id %% 7 = 0', kind.name, kind.random, kind.type);
		EXECUTE format('DELETE FROM t_%s WHERE id %% 5 = 0', kind.name);
	END LOOP;
END $$;
SELECT key, argument, compare_arguments(key_name, argument_name) FROM pairs ORDER BY key COLLATE "C", argument COLLATE "C";
SELECT name, compare_others(name) FROM kinds ORDER BY name COLLATE "C";

-- After VACUUM, with new tuples in the old places
VACUUM t_int2, t_int4, t_int8, t_oid, t_float4, t_float8, t_date, t_time, t_timestamp,
	t_timestamptz, t_money, t_bool, t_char, t_pg_lsn, t_xid8, t_macaddr, t_macaddr8;
DO $$
DECLARE
	kind kinds;
BEGIN
	FOR kind IN SELECT * FROM kinds LOOP
		PERFORM fill(kind.name, 30);
	END LOOP;
END $$;
SELECT name, compare_others(name) FROM kinds ORDER BY name COLLATE "C";

-- Rebuilt
REINDEX SCHEMA alex_types;
SELECT name, compare_others(name) FROM kinds ORDER BY name COLLATE "C";

-- An index-only scan gives back each datum bit by bit, also where several
-- datums are equal.
INSERT INTO t_float8 (k) VALUES
	('-0'), ('0'), ('NaN'), ('Infinity'::float8 - 'Infinity'::float8), (-('Infinity'::float8 - 'Infinity'::float8));
INSERT INTO t_float4 (k) VALUES
	('-0'), ('0'), ('NaN'), ('Infinity'::float4 - 'Infinity'::float4), (-('Infinity'::float4 - 'Infinity'::float4));
SELECT pg_temp.compare('{only}'::text[],
	'SELECT float8send(t.k) FROM t_float8 t WHERE t.k = 0',
	'SELECT float8send(t.k) FROM t_float8 t WHERE t.k = ''NaN''',
	'SELECT float8send(t.k) FROM t_float8 t WHERE t.k > ''Infinity''',
	'SELECT float8send(t.k) FROM t_float8 t WHERE t.k <= ''Infinity''',
	'SELECT float4send(t.k) FROM t_float4 t WHERE t.k = 0',
	'SELECT float4send(t.k) FROM t_float4 t WHERE t.k = ''NaN''',
	'SELECT float4send(t.k) FROM t_float4 t WHERE t.k >= ''NaN''::float8',
	'SELECT float4send(t.k) FROM t_float4 t WHERE t.k < ''NaN''::float8');

-- Between timestamptz and dates or timestamps the session's time zone decides:
-- where clocks change at midnight, where a day was left out or came twice, far
-- from UTC, and at the ends of the calendar.
CREATE TABLE local_day (id serial, k date);
CREATE TABLE local_point (id serial, k timestamptz);
INSERT INTO local_day (k) SELECT day + i
	FROM unnest('{1844-12-31,1867-10-18,2011-12-30,2018-02-18,2018-11-04,2026-03-29}'::date[]) day,
		generate_series(-3, 3) i;
INSERT INTO local_point (k) SELECT (k + time '00:00') AT TIME ZONE 'UTC' + step
	FROM local_day, unnest('{-16 h,-15 h 56 min,-11 h,-10 h,-1 us,0,1 us,1 h,2 h,3 h,7 h,8 h 4 min,14 h}'::interval[]) step;
INSERT INTO local_day (k)
	VALUES ('-infinity'), ('4714-11-24 BC'), ('4714-11-25 BC'), ('294276-12-31'), ('294277-01-01'), ('5874897-12-31'), ('infinity');
INSERT INTO local_point (k) VALUES ('-infinity'), ('4714-11-24 00:00:00+00 BC'), ('4714-11-24 12:00:00+00 BC'),
	('4714-11-25 06:00:00+00 BC'), ('294276-12-31 12:00:00+00'), ('294276-12-31 23:59:59.999999+00'), ('infinity');
CREATE TABLE days AS SELECT * FROM local_day;
CREATE TABLE points AS SELECT * FROM local_point;
CREATE TABLE times AS SELECT id, k AT TIME ZONE 'UTC' AS k FROM local_point;
CREATE INDEX local_day_alex ON local_day USING alex (k);
CREATE INDEX local_point_alex ON local_point USING alex (k DESC);
VACUUM (ANALYZE) local_day, local_point, days, points, times;
CREATE FUNCTION compare_local() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT pg_temp.compare(VARIADIC array_agg(format(query, operator)))
	FROM unnest('{<,<=,=,>=,>}'::text[]) operator,
		unnest(ARRAY['SELECT a.id AS n, t.id, t.k FROM points a, local_day t WHERE t.k %s a.k',
					 'SELECT a.id AS n, t.id, t.k FROM days a, local_point t WHERE t.k %s a.k',
					 'SELECT a.id AS n, t.id, t.k FROM times a, local_point t WHERE t.k %s a.k']) query;
$$;
SET timezone = 'UTC';
SELECT compare_local();
SET timezone = 'America/Sao_Paulo';
SELECT compare_local();
SET timezone = 'Pacific/Apia';
SELECT compare_local();
SET timezone = 'Asia/Manila';
SELECT compare_local();
SET timezone = 'America/Juneau';
SELECT compare_local();
SET timezone = 'Europe/Lisbon';
SELECT compare_local();
SET timezone = 'ABC+167';
SELECT compare_local();
SET timezone = 'ABC-167';
SELECT compare_local();
RESET timezone;

-- A type of one's own: any function that returns a bigint makes the lanes.
-- Without function 4 there are no index-only scans.
CREATE TYPE version AS (major int2, minor int4);
CREATE FUNCTION version_lane(version) RETURNS int8 LANGUAGE plpgsql IMMUTABLE STRICT AS
	'BEGIN RETURN (($1).major::int8 << 32) + ($1).minor; END';
DO $do$
DECLARE
	operator text;
	name text;
BEGIN
	FOR operator, name IN VALUES ('<', 'lt'), ('<=', 'le'), ('=', 'eq'), ('>=', 'ge'), ('>', 'gt') LOOP
		EXECUTE format('CREATE FUNCTION version_%s(version, version) RETURNS bool LANGUAGE plpgsql IMMUTABLE STRICT AS
			$$BEGIN RETURN (($1).major, ($1).minor) %s (($2).major, ($2).minor); END$$', name, operator);
		EXECUTE format('CREATE OPERATOR %s (LEFTARG = version, RIGHTARG = version, FUNCTION = version_%s)',
			operator, name);
	END LOOP;
END $do$;
CREATE OPERATOR CLASS version_ops DEFAULT FOR TYPE version USING alex AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 version_lane(version);
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'version_ops';
CREATE TABLE t_version (id serial, k version);
INSERT INTO t_version (k)
	SELECT CASE WHEN i % 20 > 0 THEN row(i * 7 % 10 - 5, i * 3 % 11 - 5)::version END FROM generate_series(1, 300) i;
CREATE INDEX t_version_alex ON t_version USING alex (k);
INSERT INTO t_version (k) SELECT row(i * 7 % 10 - 5, i * 3 % 11 - 5)::version FROM generate_series(1, 100) i;
SELECT pg_temp.compare('{plain,bitmap}'::text[],
	'SELECT t.id, t.k FROM t_version t WHERE t.k = row(1, 2)::version',
	'SELECT t.id, t.k FROM t_version t WHERE t.k < row(1, -2)::version',
	'SELECT t.id, t.k FROM t_version t WHERE t.k > row(-1, -2)::version AND t.k <= row(0, 0)::version');
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT k FROM t_version WHERE k > row(4, 5)::version;
RESET enable_seqscan;
RESET enable_bitmapscan;
SET client_min_messages = warning;
DROP SCHEMA alex_types CASCADE;
