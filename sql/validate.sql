--
-- Operator classes: what the extension brings, what the validator refuses,
-- and the arithmetic of lanes.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
CREATE SCHEMA alex_validate;
SET search_path = alex_validate, public;
SET lc_monetary = 'C';
SET datestyle = 'ISO, YMD';
SET extra_float_digits = 1;

SELECT amname, amtype, obj_description(oid, 'pg_am') FROM pg_am WHERE amname = 'alex';

--
-- All operator classes are valid and the default of their types
--
SELECT opcname, opfname, opcintype::regtype, opcdefault, amvalidate(c.oid)
FROM pg_opclass c
	JOIN pg_am a ON a.oid = c.opcmethod AND amname = 'alex'
	JOIN pg_opfamily f ON f.oid = c.opcfamily
ORDER BY opfname COLLATE "C", opcname COLLATE "C";
-- the pairs of types, with their support functions
SELECT opfname, amproclefttype::regtype, amprocrighttype::regtype,
	   array_agg(amprocnum || ' ' || proname ORDER BY amprocnum) AS functions
FROM pg_amproc
	JOIN pg_opfamily f ON f.oid = amprocfamily
	JOIN pg_am a ON a.oid = opfmethod AND amname = 'alex'
	JOIN pg_proc p ON p.oid = amproc
GROUP BY opfname, amproclefttype, amprocrighttype
ORDER BY opfname COLLATE "C", amproclefttype, amprocrighttype;
-- support functions and operators that an index can rely on
SELECT amproc
FROM pg_amproc
	JOIN pg_opfamily f ON f.oid = amprocfamily
	JOIN pg_am a ON a.oid = opfmethod AND amname = 'alex'
	JOIN pg_proc p ON p.oid = amproc
WHERE NOT ((provolatile = 'i' OR 'timestamptz'::regtype IN (amproclefttype, amprocrighttype)
		AND amproclefttype <> amprocrighttype) AND proisstrict AND proparallel = 's');
SELECT amopopr::regoperator
FROM pg_amop
	JOIN pg_am a ON a.oid = amopmethod AND amname = 'alex'
	JOIN pg_operator o ON o.oid = amopopr
	JOIN pg_proc p ON p.oid = oprcode
WHERE provolatile <> 'i' AND NOT 'timestamptz'::regtype IN (amoplefttype, amoprighttype);
-- strategy by strategy the operators are btree's
SELECT l.amopopr::regoperator
FROM pg_amop l
	JOIN pg_am a ON a.oid = l.amopmethod AND amname = 'alex'
	LEFT JOIN (pg_amop b JOIN pg_am ON pg_am.oid = b.amopmethod AND pg_am.amname = 'btree')
		ON b.amopopr = l.amopopr AND b.amopstrategy = l.amopstrategy
WHERE b.oid IS NULL;
-- none of btree's for these pairs is missing, but for one whose keys do not
-- order as the operators compare them
SELECT b.amopopr::regoperator
FROM pg_amop b
	JOIN pg_am ON pg_am.oid = b.amopmethod AND pg_am.amname = 'btree'
	JOIN pg_opfamily f ON f.oid = b.amopfamily AND f.opfnamespace = 'pg_catalog'::regnamespace
WHERE EXISTS (SELECT FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod AND amname = 'alex' WHERE opcintype = b.amoplefttype)
	AND EXISTS (SELECT FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod AND amname = 'alex' WHERE opcintype = b.amoprighttype)
	AND NOT EXISTS (SELECT FROM pg_amop l JOIN pg_am a ON a.oid = l.amopmethod AND amname = 'alex'
					WHERE l.amopopr = b.amopopr AND l.amopstrategy = b.amopstrategy)
	AND NOT (b.amoplefttype = 'timestamp'::regtype AND b.amoprighttype = 'timestamptz'::regtype);

--
-- Broken operator classes
--
CREATE FUNCTION validate(class text) RETURNS bool LANGUAGE sql AS $$
	SELECT amvalidate(c.oid) FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod AND amname = 'alex' WHERE opcname = class
$$;
CREATE FUNCTION length_lane(text) RETURNS int8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT length($1)::int8';
CREATE FUNCTION narrow_lane(text) RETURNS int4 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT length($1)';
CREATE FUNCTION broad_lane(text, text) RETURNS int8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT length($1)::int8';
CREATE FUNCTION both_texts(text, text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 || $2';
CREATE OPERATOR <+> (LEFTARG = text, RIGHTARG = text, FUNCTION = both_texts);

CREATE OPERATOR CLASS without_lane FOR TYPE text USING alex AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >;
SELECT validate('without_lane');
CREATE OPERATOR CLASS without_operators FOR TYPE text USING alex AS
	FUNCTION 1 length_lane(text);
SELECT validate('without_operators');
CREATE OPERATOR CLASS without_anything FOR TYPE text USING alex AS
	STORAGE text;
SELECT validate('without_anything');
CREATE OPERATOR CLASS without_equality FOR TYPE text USING alex AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 length_lane(text);
SELECT validate('without_equality');
CREATE OPERATOR CLASS with_narrow_lane FOR TYPE text USING alex AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 narrow_lane(text);
SELECT validate('with_narrow_lane');
CREATE OPERATOR CLASS with_broad_lane FOR TYPE text USING alex AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 (text, text) broad_lane(text, text);
SELECT validate('with_broad_lane');
CREATE OPERATOR CLASS with_wrong_value FOR TYPE text USING alex AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 length_lane(text), FUNCTION 4 (text, text) alex_value_int4(int8);
SELECT validate('with_wrong_value');
CREATE OPERATOR CLASS with_wrong_bounds FOR TYPE text USING alex AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 length_lane(text), FUNCTION 2 (text, text) alex_lane_int4(int4), FUNCTION 3 narrow_lane(text);
SELECT validate('with_wrong_bounds');
CREATE OPERATOR CLASS with_wrong_operator FOR TYPE text USING alex AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 <+>, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 length_lane(text);
SELECT validate('with_wrong_operator');
CREATE OPERATOR CLASS with_storage FOR TYPE text USING alex AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 length_lane(text), STORAGE int8;
CREATE OPERATOR CLASS with_strategy_6 FOR TYPE text USING alex AS
	OPERATOR 6 <>, FUNCTION 1 length_lane(text);
CREATE OPERATOR CLASS with_function_5 FOR TYPE text USING alex AS
	OPERATOR 1 <, FUNCTION 5 length_lane(text);
CREATE OPERATOR CLASS with_order_by FOR TYPE text USING alex AS
	OPERATOR 1 <-> (point, point) FOR ORDER BY float_ops, FUNCTION 1 length_lane(text);

-- pairs of types
CREATE OPERATOR FAMILY pairs_ops USING alex;
CREATE OPERATOR CLASS pairs_date FOR TYPE date USING alex FAMILY pairs_ops AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 alex_lane_date(date);
SELECT validate('pairs_date');
ALTER OPERATOR FAMILY pairs_ops USING alex ADD
	OPERATOR 1 < (date, timestamp), OPERATOR 2 <= (date, timestamp), OPERATOR 3 = (date, timestamp),
	OPERATOR 4 >= (date, timestamp), OPERATOR 5 > (date, timestamp);
SELECT validate('pairs_date');
ALTER OPERATOR FAMILY pairs_ops USING alex ADD
	FUNCTION 2 (date, timestamp) alex_low_date(timestamp);
SELECT validate('pairs_date');
ALTER OPERATOR FAMILY pairs_ops USING alex ADD
	FUNCTION 3 (date, timestamp) alex_high_date(timestamp);
SELECT validate('pairs_date');
ALTER OPERATOR FAMILY pairs_ops USING alex ADD
	FUNCTION 4 (date, timestamp) alex_value_date(int8);
SELECT validate('pairs_date');
ALTER OPERATOR FAMILY pairs_ops USING alex DROP
	FUNCTION 4 (date, timestamp), OPERATOR 3 (date, timestamp);
SELECT validate('pairs_date');

--
-- Lanes called by hand
--
SELECT n, alex_lane_float8(n) AS lane, alex_low_float8(n) AS low, alex_high_float8(n) AS high,
	   alex_lane_float8(alex_value_float8(alex_lane_float8(n))) = alex_lane_float8(n) AS inverse
FROM unnest('{-Infinity,-1.7976931348623157e308,-1,-5e-324,-0,0,5e-324,1,1.7976931348623157e308,Infinity,NaN}'::float8[]) n;
SELECT n, alex_lane_float4(n) = alex_lane_float8(n) AS same_lane, alex_low_float4(n) = alex_low_float8(n) AS same_low,
	   alex_high_float4(n) = alex_high_float8(n) AS same_high,
	   float4send(alex_value_float4(alex_lane_float4(n))) = float4send(n) AS inverse
FROM unnest('{-Infinity,-3.4028235e38,-1.1,-1e-45,-0,0,1e-45,0.1,3.4028235e38,Infinity,NaN}'::float4[]) n;
SELECT t, alex_low_date(t), alex_high_date(t)
FROM unnest('{-infinity,4714-11-24 00:00:00 BC,4714-11-24 00:00:01 BC,1999-12-31 00:00:00,1999-12-31 23:59:59.999999,2000-01-01 00:00:00,2000-01-01 00:00:00.000001,294276-12-31 23:59:59.999999,infinity}'::timestamp[]) t;
SELECT d, alex_lane_timestamp(d)
FROM unnest('{-infinity,4714-11-24 BC,1999-12-31,2000-01-01,294276-12-31,294277-01-01,5874897-12-31,infinity}'::date[]) d;
SELECT alex_lane_char((-1)::"char"), alex_lane_oid(4294967295), alex_lane_pg_lsn('0/0'), alex_lane_xid8('18446744073709551615');
SELECT alex_lane_macaddr('ff:ff:ff:ff:ff:ff'), alex_value_macaddr(1), alex_lane_macaddr8('00:00:00:00:00:00:00:01'), alex_value_macaddr8(0);
-- each 64-bit number is the lane of one float8
DO $$ BEGIN PERFORM setseed(0.2); END $$;
SELECT count(*), count(*) FILTER (WHERE alex_lane_float8(alex_value_float8(lane)) = lane) AS inverse
FROM (SELECT ('x' || md5(i::text || random()::text))::bit(64)::int8 AS lane FROM generate_series(1, 2000) i) lanes;
SELECT alex_lane_int4(NULL), alex_value_int4(NULL), alex_low_float8(NULL), alex_high_date(NULL);
-- lanes of nothing
SELECT alex_value_bool(2);
SELECT alex_value_char(-1);
SELECT alex_value_char(256);
SELECT alex_value_int2(32768);
SELECT alex_value_int2(-32769);
SELECT alex_value_int4(2147483648);
SELECT alex_value_oid(-1);
SELECT alex_value_oid(4294967296);
SELECT alex_value_macaddr(281474976710656);
SELECT alex_value_macaddr(-1);
SELECT alex_value_float4(alex_lane_float8(0.1));
SELECT alex_value_float4(alex_lane_float8(1e39));
SELECT alex_value_float4(alex_lane_float8(1e-46));
SELECT alex_value_float4(9223372036854775807);
SELECT alex_value_date(-2451546);
SELECT alex_value_date(2147483648);
SELECT alex_value_time(-1);
SELECT alex_value_time(86400000001);
SELECT alex_value_timestamp(-9223372036854775807);
SELECT alex_value_timestamptz(9223371331200000000);
-- the end of each type's lanes
SELECT alex_value_date(2147483647), alex_value_date(-2147483648), alex_value_date(-2451545), alex_value_date(2145031948);
SELECT alex_value_time(86400000000), alex_value_timestamp(9223372036854775807), alex_value_timestamp(-9223372036854775808),
	   alex_value_timestamp(-211813488000000000), alex_value_timestamp(9223371331199999999);
SELECT alex_value_money(-9223372036854775808), alex_value_xid8(9223372036854775807), alex_value_pg_lsn(-9223372036854775808);
--
-- One bound alone does not do
--
CREATE OPERATOR CLASS half_ops FOR TYPE int8 USING alex AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 int8um(int8),
	FUNCTION 2 int8um(int8);
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'half_ops';
DROP OPERATOR FAMILY half_ops USING alex;
--
-- The extension can move to another schema, and its indexes keep it
--
CREATE TABLE t (k int4);
INSERT INTO t SELECT generate_series(1, 100);
CREATE INDEX t_alex ON t USING alex (k);
SELECT extnamespace::regnamespace AS home FROM pg_extension WHERE extname = 'alexam' \gset
CREATE SCHEMA alex_moved;
ALTER EXTENSION alexam SET SCHEMA alex_moved;
INSERT INTO t VALUES (101);
CREATE INDEX t_later_alex ON t USING alex (k);
SET enable_seqscan = off;
SELECT count(*) FROM t WHERE k > 90::int8;
DROP EXTENSION alexam;
RESET enable_seqscan;
ALTER EXTENSION alexam SET SCHEMA :home;
DROP SCHEMA alex_moved;
SET client_min_messages = warning;
DROP SCHEMA alex_validate CASCADE;
