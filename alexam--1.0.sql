/* alexam--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION alexam" to load this file. \quit

-- ----------------------------------------------------------------
-- The access method
-- ----------------------------------------------------------------

CREATE FUNCTION alex_handler(internal)
RETURNS pg_catalog.index_am_handler
AS 'MODULE_PATHNAME'
LANGUAGE C;

COMMENT ON FUNCTION alex_handler(internal) IS
'alex index access method handler';

CREATE ACCESS METHOD alex TYPE INDEX HANDLER alex_handler;

COMMENT ON ACCESS METHOD alex IS 'alex (learned) index access method';

-- ----------------------------------------------------------------
-- Lanes
--
-- An alex index stores no datums but lanes: bigints whose order is the order
-- of the keys.  An operator class gives the mapping by support functions:
--
--   1  lane(key) returns bigint      the lane of a key (required)
--   2  low(argument) returns bigint  the smallest lane whose key is >= the
--                                    argument
--   3  high(argument) returns bigint the largest lane whose key is <= the
--                                    argument
--   4  value(bigint) returns key     the exact inverse of 1; with it, index-
--                                    only scans are possible
--
-- A scan answers "key OPERATOR argument" by
--
--   key <  argument   lane <  low(argument)
--   key <= argument   lane <= high(argument)
--   key =  argument   lane between low(argument) and high(argument)
--   key >= argument   lane >= low(argument)
--   key >  argument   lane >  high(argument)
--
-- An argument equal to exactly one possible key has low = high; one between
-- two keys has low > high; one equal to several has low < high.  Where 2 and
-- 3 are not given, 1 stands for both.  For an argument of another type, 1 or
-- both 2 and 3 are registered for the pair (key type, argument type).
--
-- A function's name ends in the type whose lanes it speaks of.  Any strict,
-- immutable function with such a signature makes an operator class for a
-- type of yours.
-- ----------------------------------------------------------------

CREATE FUNCTION alex_lane_bool(pg_catalog.bool) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_bool'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_bool(pg_catalog.int8) RETURNS pg_catalog.bool
AS 'MODULE_PATHNAME', 'alex_value_bool'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_char(pg_catalog."char") RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_char'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_char(pg_catalog.int8) RETURNS pg_catalog."char"
AS 'MODULE_PATHNAME', 'alex_value_char'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_int2(pg_catalog.int2) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_int2'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_int2(pg_catalog.int8) RETURNS pg_catalog.int2
AS 'MODULE_PATHNAME', 'alex_value_int2'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_int4(pg_catalog.int4) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_int4'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_int4(pg_catalog.int8) RETURNS pg_catalog.int4
AS 'MODULE_PATHNAME', 'alex_value_int4'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_int8(pg_catalog.int8) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_int8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_int8(pg_catalog.int8) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_value_int8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_oid(pg_catalog.oid) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_oid'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_oid(pg_catalog.int8) RETURNS pg_catalog.oid
AS 'MODULE_PATHNAME', 'alex_value_oid'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_xid8(pg_catalog.xid8) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_uint8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_xid8(pg_catalog.int8) RETURNS pg_catalog.xid8
AS 'MODULE_PATHNAME', 'alex_value_uint8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_pg_lsn(pg_catalog.pg_lsn) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_uint8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_pg_lsn(pg_catalog.int8) RETURNS pg_catalog.pg_lsn
AS 'MODULE_PATHNAME', 'alex_value_uint8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_money(pg_catalog.money) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_int8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_money(pg_catalog.int8) RETURNS pg_catalog.money
AS 'MODULE_PATHNAME', 'alex_value_int8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_macaddr(pg_catalog.macaddr) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_macaddr'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_macaddr(pg_catalog.int8) RETURNS pg_catalog.macaddr
AS 'MODULE_PATHNAME', 'alex_value_macaddr'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_macaddr8(pg_catalog.macaddr8) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_macaddr8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_macaddr8(pg_catalog.int8) RETURNS pg_catalog.macaddr8
AS 'MODULE_PATHNAME', 'alex_value_macaddr8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- Each datum has its own lane, also where the server calls several equal: -0.0
-- comes right before 0.0, and the NaNs fill the lanes above Infinity.  Low and
-- high enclose all the equals.  A float4 has the lane of its float8.

CREATE FUNCTION alex_lane_float4(pg_catalog.float4) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_float4'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_low_float4(pg_catalog.float4) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_low_float4'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_high_float4(pg_catalog.float4) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_high_float4'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_float4(pg_catalog.int8) RETURNS pg_catalog.float4
AS 'MODULE_PATHNAME', 'alex_value_float4'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_float8(pg_catalog.float8) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_float8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_low_float8(pg_catalog.float8) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_low_float8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_high_float8(pg_catalog.float8) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_high_float8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_float8(pg_catalog.int8) RETURNS pg_catalog.float8
AS 'MODULE_PATHNAME', 'alex_value_float8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- Dates are days, timestamps microseconds.  A date among the timestamps is its
-- midnight; one beyond their range comes after all finite timestamps.

CREATE FUNCTION alex_lane_date(pg_catalog.date) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_int4'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_low_date(pg_catalog.timestamp) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_low_date_timestamp'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_high_date(pg_catalog.timestamp) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_high_date_timestamp'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- The operators between timestamptz and the other two take these for local
-- times, and depend on the session's time zone, as here.

CREATE FUNCTION alex_low_date(pg_catalog.timestamptz) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_low_date_timestamptz'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_high_date(pg_catalog.timestamptz) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_high_date_timestamptz'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_date(pg_catalog.int8) RETURNS pg_catalog.date
AS 'MODULE_PATHNAME', 'alex_value_date'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_time(pg_catalog.time) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_int8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_time(pg_catalog.int8) RETURNS pg_catalog.time
AS 'MODULE_PATHNAME', 'alex_value_time'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_timestamp(pg_catalog.timestamp) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_int8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_timestamp(pg_catalog.date) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_timestamp_date'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_timestamp(pg_catalog.int8) RETURNS pg_catalog.timestamp
AS 'MODULE_PATHNAME', 'alex_value_timestamp'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_timestamptz(pg_catalog.timestamptz) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_int8'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_timestamptz(pg_catalog.timestamp) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_timestamptz_timestamp'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_lane_timestamptz(pg_catalog.date) RETURNS pg_catalog.int8
AS 'MODULE_PATHNAME', 'alex_lane_timestamptz_date'
LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION alex_value_timestamptz(pg_catalog.int8) RETURNS pg_catalog.timestamptz
AS 'MODULE_PATHNAME', 'alex_value_timestamptz'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- ----------------------------------------------------------------
-- Operator classes, each the default of its type
-- ----------------------------------------------------------------

CREATE OPERATOR FAMILY integer_ops USING alex;

CREATE OPERATOR CLASS int2_ops DEFAULT FOR TYPE pg_catalog.int2
USING alex FAMILY integer_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_int2(pg_catalog.int2),
	FUNCTION 4 alex_value_int2(pg_catalog.int8);

CREATE OPERATOR CLASS int4_ops DEFAULT FOR TYPE pg_catalog.int4
USING alex FAMILY integer_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_int4(pg_catalog.int4),
	FUNCTION 4 alex_value_int4(pg_catalog.int8);

CREATE OPERATOR CLASS int8_ops DEFAULT FOR TYPE pg_catalog.int8
USING alex FAMILY integer_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_int8(pg_catalog.int8),
	FUNCTION 4 alex_value_int8(pg_catalog.int8);

ALTER OPERATOR FAMILY integer_ops USING alex ADD
	OPERATOR 1 pg_catalog.< (pg_catalog.int2, pg_catalog.int4),
	OPERATOR 2 pg_catalog.<= (pg_catalog.int2, pg_catalog.int4),
	OPERATOR 3 pg_catalog.= (pg_catalog.int2, pg_catalog.int4),
	OPERATOR 4 pg_catalog.>= (pg_catalog.int2, pg_catalog.int4),
	OPERATOR 5 pg_catalog.> (pg_catalog.int2, pg_catalog.int4),
	FUNCTION 1 (pg_catalog.int2, pg_catalog.int4) alex_lane_int4(pg_catalog.int4),

	OPERATOR 1 pg_catalog.< (pg_catalog.int2, pg_catalog.int8),
	OPERATOR 2 pg_catalog.<= (pg_catalog.int2, pg_catalog.int8),
	OPERATOR 3 pg_catalog.= (pg_catalog.int2, pg_catalog.int8),
	OPERATOR 4 pg_catalog.>= (pg_catalog.int2, pg_catalog.int8),
	OPERATOR 5 pg_catalog.> (pg_catalog.int2, pg_catalog.int8),
	FUNCTION 1 (pg_catalog.int2, pg_catalog.int8) alex_lane_int8(pg_catalog.int8),

	OPERATOR 1 pg_catalog.< (pg_catalog.int4, pg_catalog.int2),
	OPERATOR 2 pg_catalog.<= (pg_catalog.int4, pg_catalog.int2),
	OPERATOR 3 pg_catalog.= (pg_catalog.int4, pg_catalog.int2),
	OPERATOR 4 pg_catalog.>= (pg_catalog.int4, pg_catalog.int2),
	OPERATOR 5 pg_catalog.> (pg_catalog.int4, pg_catalog.int2),
	FUNCTION 1 (pg_catalog.int4, pg_catalog.int2) alex_lane_int2(pg_catalog.int2),

	OPERATOR 1 pg_catalog.< (pg_catalog.int4, pg_catalog.int8),
	OPERATOR 2 pg_catalog.<= (pg_catalog.int4, pg_catalog.int8),
	OPERATOR 3 pg_catalog.= (pg_catalog.int4, pg_catalog.int8),
	OPERATOR 4 pg_catalog.>= (pg_catalog.int4, pg_catalog.int8),
	OPERATOR 5 pg_catalog.> (pg_catalog.int4, pg_catalog.int8),
	FUNCTION 1 (pg_catalog.int4, pg_catalog.int8) alex_lane_int8(pg_catalog.int8),

	OPERATOR 1 pg_catalog.< (pg_catalog.int8, pg_catalog.int2),
	OPERATOR 2 pg_catalog.<= (pg_catalog.int8, pg_catalog.int2),
	OPERATOR 3 pg_catalog.= (pg_catalog.int8, pg_catalog.int2),
	OPERATOR 4 pg_catalog.>= (pg_catalog.int8, pg_catalog.int2),
	OPERATOR 5 pg_catalog.> (pg_catalog.int8, pg_catalog.int2),
	FUNCTION 1 (pg_catalog.int8, pg_catalog.int2) alex_lane_int2(pg_catalog.int2),

	OPERATOR 1 pg_catalog.< (pg_catalog.int8, pg_catalog.int4),
	OPERATOR 2 pg_catalog.<= (pg_catalog.int8, pg_catalog.int4),
	OPERATOR 3 pg_catalog.= (pg_catalog.int8, pg_catalog.int4),
	OPERATOR 4 pg_catalog.>= (pg_catalog.int8, pg_catalog.int4),
	OPERATOR 5 pg_catalog.> (pg_catalog.int8, pg_catalog.int4),
	FUNCTION 1 (pg_catalog.int8, pg_catalog.int4) alex_lane_int4(pg_catalog.int4);

CREATE OPERATOR FAMILY float_ops USING alex;

CREATE OPERATOR CLASS float4_ops DEFAULT FOR TYPE pg_catalog.float4
USING alex FAMILY float_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_float4(pg_catalog.float4),
	FUNCTION 2 alex_low_float4(pg_catalog.float4),
	FUNCTION 3 alex_high_float4(pg_catalog.float4),
	FUNCTION 4 alex_value_float4(pg_catalog.int8);

CREATE OPERATOR CLASS float8_ops DEFAULT FOR TYPE pg_catalog.float8
USING alex FAMILY float_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_float8(pg_catalog.float8),
	FUNCTION 2 alex_low_float8(pg_catalog.float8),
	FUNCTION 3 alex_high_float8(pg_catalog.float8),
	FUNCTION 4 alex_value_float8(pg_catalog.int8);

ALTER OPERATOR FAMILY float_ops USING alex ADD
	OPERATOR 1 pg_catalog.< (pg_catalog.float4, pg_catalog.float8),
	OPERATOR 2 pg_catalog.<= (pg_catalog.float4, pg_catalog.float8),
	OPERATOR 3 pg_catalog.= (pg_catalog.float4, pg_catalog.float8),
	OPERATOR 4 pg_catalog.>= (pg_catalog.float4, pg_catalog.float8),
	OPERATOR 5 pg_catalog.> (pg_catalog.float4, pg_catalog.float8),
	FUNCTION 2 (pg_catalog.float4, pg_catalog.float8) alex_low_float8(pg_catalog.float8),
	FUNCTION 3 (pg_catalog.float4, pg_catalog.float8) alex_high_float8(pg_catalog.float8),

	OPERATOR 1 pg_catalog.< (pg_catalog.float8, pg_catalog.float4),
	OPERATOR 2 pg_catalog.<= (pg_catalog.float8, pg_catalog.float4),
	OPERATOR 3 pg_catalog.= (pg_catalog.float8, pg_catalog.float4),
	OPERATOR 4 pg_catalog.>= (pg_catalog.float8, pg_catalog.float4),
	OPERATOR 5 pg_catalog.> (pg_catalog.float8, pg_catalog.float4),
	FUNCTION 2 (pg_catalog.float8, pg_catalog.float4) alex_low_float4(pg_catalog.float4),
	FUNCTION 3 (pg_catalog.float8, pg_catalog.float4) alex_high_float4(pg_catalog.float4);

CREATE OPERATOR FAMILY datetime_ops USING alex;

CREATE OPERATOR CLASS date_ops DEFAULT FOR TYPE pg_catalog.date
USING alex FAMILY datetime_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_date(pg_catalog.date),
	FUNCTION 4 alex_value_date(pg_catalog.int8);

CREATE OPERATOR CLASS timestamp_ops DEFAULT FOR TYPE pg_catalog.timestamp
USING alex FAMILY datetime_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_timestamp(pg_catalog.timestamp),
	FUNCTION 4 alex_value_timestamp(pg_catalog.int8);

CREATE OPERATOR CLASS timestamptz_ops DEFAULT FOR TYPE pg_catalog.timestamptz
USING alex FAMILY datetime_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_timestamptz(pg_catalog.timestamptz),
	FUNCTION 4 alex_value_timestamptz(pg_catalog.int8);

-- There is no (timestamp, timestamptz): local times that are left out when
-- clocks are put forward do not order as the points in time they stand for.

ALTER OPERATOR FAMILY datetime_ops USING alex ADD
	OPERATOR 1 pg_catalog.< (pg_catalog.date, pg_catalog.timestamp),
	OPERATOR 2 pg_catalog.<= (pg_catalog.date, pg_catalog.timestamp),
	OPERATOR 3 pg_catalog.= (pg_catalog.date, pg_catalog.timestamp),
	OPERATOR 4 pg_catalog.>= (pg_catalog.date, pg_catalog.timestamp),
	OPERATOR 5 pg_catalog.> (pg_catalog.date, pg_catalog.timestamp),
	FUNCTION 2 (pg_catalog.date, pg_catalog.timestamp) alex_low_date(pg_catalog.timestamp),
	FUNCTION 3 (pg_catalog.date, pg_catalog.timestamp) alex_high_date(pg_catalog.timestamp),

	OPERATOR 1 pg_catalog.< (pg_catalog.timestamp, pg_catalog.date),
	OPERATOR 2 pg_catalog.<= (pg_catalog.timestamp, pg_catalog.date),
	OPERATOR 3 pg_catalog.= (pg_catalog.timestamp, pg_catalog.date),
	OPERATOR 4 pg_catalog.>= (pg_catalog.timestamp, pg_catalog.date),
	OPERATOR 5 pg_catalog.> (pg_catalog.timestamp, pg_catalog.date),
	FUNCTION 1 (pg_catalog.timestamp, pg_catalog.date) alex_lane_timestamp(pg_catalog.date),

	OPERATOR 1 pg_catalog.< (pg_catalog.date, pg_catalog.timestamptz),
	OPERATOR 2 pg_catalog.<= (pg_catalog.date, pg_catalog.timestamptz),
	OPERATOR 3 pg_catalog.= (pg_catalog.date, pg_catalog.timestamptz),
	OPERATOR 4 pg_catalog.>= (pg_catalog.date, pg_catalog.timestamptz),
	OPERATOR 5 pg_catalog.> (pg_catalog.date, pg_catalog.timestamptz),
	FUNCTION 2 (pg_catalog.date, pg_catalog.timestamptz) alex_low_date(pg_catalog.timestamptz),
	FUNCTION 3 (pg_catalog.date, pg_catalog.timestamptz) alex_high_date(pg_catalog.timestamptz),

	OPERATOR 1 pg_catalog.< (pg_catalog.timestamptz, pg_catalog.timestamp),
	OPERATOR 2 pg_catalog.<= (pg_catalog.timestamptz, pg_catalog.timestamp),
	OPERATOR 3 pg_catalog.= (pg_catalog.timestamptz, pg_catalog.timestamp),
	OPERATOR 4 pg_catalog.>= (pg_catalog.timestamptz, pg_catalog.timestamp),
	OPERATOR 5 pg_catalog.> (pg_catalog.timestamptz, pg_catalog.timestamp),
	FUNCTION 1 (pg_catalog.timestamptz, pg_catalog.timestamp) alex_lane_timestamptz(pg_catalog.timestamp),

	OPERATOR 1 pg_catalog.< (pg_catalog.timestamptz, pg_catalog.date),
	OPERATOR 2 pg_catalog.<= (pg_catalog.timestamptz, pg_catalog.date),
	OPERATOR 3 pg_catalog.= (pg_catalog.timestamptz, pg_catalog.date),
	OPERATOR 4 pg_catalog.>= (pg_catalog.timestamptz, pg_catalog.date),
	OPERATOR 5 pg_catalog.> (pg_catalog.timestamptz, pg_catalog.date),
	FUNCTION 1 (pg_catalog.timestamptz, pg_catalog.date) alex_lane_timestamptz(pg_catalog.date);

CREATE OPERATOR FAMILY bool_ops USING alex;

CREATE OPERATOR CLASS bool_ops DEFAULT FOR TYPE pg_catalog.bool
USING alex FAMILY bool_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_bool(pg_catalog.bool),
	FUNCTION 4 alex_value_bool(pg_catalog.int8);

CREATE OPERATOR FAMILY char_ops USING alex;

CREATE OPERATOR CLASS char_ops DEFAULT FOR TYPE pg_catalog."char"
USING alex FAMILY char_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_char(pg_catalog."char"),
	FUNCTION 4 alex_value_char(pg_catalog.int8);

CREATE OPERATOR FAMILY oid_ops USING alex;

CREATE OPERATOR CLASS oid_ops DEFAULT FOR TYPE pg_catalog.oid
USING alex FAMILY oid_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_oid(pg_catalog.oid),
	FUNCTION 4 alex_value_oid(pg_catalog.int8);

CREATE OPERATOR FAMILY xid8_ops USING alex;

CREATE OPERATOR CLASS xid8_ops DEFAULT FOR TYPE pg_catalog.xid8
USING alex FAMILY xid8_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_xid8(pg_catalog.xid8),
	FUNCTION 4 alex_value_xid8(pg_catalog.int8);

CREATE OPERATOR FAMILY pg_lsn_ops USING alex;

CREATE OPERATOR CLASS pg_lsn_ops DEFAULT FOR TYPE pg_catalog.pg_lsn
USING alex FAMILY pg_lsn_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_pg_lsn(pg_catalog.pg_lsn),
	FUNCTION 4 alex_value_pg_lsn(pg_catalog.int8);

CREATE OPERATOR FAMILY money_ops USING alex;

CREATE OPERATOR CLASS money_ops DEFAULT FOR TYPE pg_catalog.money
USING alex FAMILY money_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_money(pg_catalog.money),
	FUNCTION 4 alex_value_money(pg_catalog.int8);

CREATE OPERATOR FAMILY macaddr_ops USING alex;

CREATE OPERATOR CLASS macaddr_ops DEFAULT FOR TYPE pg_catalog.macaddr
USING alex FAMILY macaddr_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_macaddr(pg_catalog.macaddr),
	FUNCTION 4 alex_value_macaddr(pg_catalog.int8);

CREATE OPERATOR FAMILY macaddr8_ops USING alex;

CREATE OPERATOR CLASS macaddr8_ops DEFAULT FOR TYPE pg_catalog.macaddr8
USING alex FAMILY macaddr8_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_macaddr8(pg_catalog.macaddr8),
	FUNCTION 4 alex_value_macaddr8(pg_catalog.int8);

CREATE OPERATOR FAMILY time_ops USING alex;

CREATE OPERATOR CLASS time_ops DEFAULT FOR TYPE pg_catalog.time
USING alex FAMILY time_ops AS
	OPERATOR 1 pg_catalog.<,
	OPERATOR 2 pg_catalog.<=,
	OPERATOR 3 pg_catalog.=,
	OPERATOR 4 pg_catalog.>=,
	OPERATOR 5 pg_catalog.>,
	FUNCTION 1 alex_lane_time(pg_catalog.time),
	FUNCTION 4 alex_value_time(pg_catalog.int8);

-- ----------------------------------------------------------------
-- Inspection and maintenance
-- ----------------------------------------------------------------

CREATE FUNCTION alex_check(index pg_catalog.regclass,
						   heapallindexed pg_catalog.bool DEFAULT false)
RETURNS pg_catalog.void
AS 'MODULE_PATHNAME'
LANGUAGE C STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION alex_check(pg_catalog.regclass, pg_catalog.bool) IS
'verify every page and promise of an alex index';

CREATE FUNCTION alex_compact(index pg_catalog.regclass)
RETURNS pg_catalog.void
AS 'MODULE_PATHNAME'
LANGUAGE C STRICT;

COMMENT ON FUNCTION alex_compact(pg_catalog.regclass) IS
'seal the log of an alex index and merge its runs';

CREATE FUNCTION alex_stats(
	index pg_catalog.regclass,
	OUT entries pg_catalog.int8,
	OUT dead pg_catalog.int8,
	OUT runs pg_catalog.int4,
	OUT retired_runs pg_catalog.int4,
	OUT tree_depth pg_catalog.int4,
	OUT log_entries pg_catalog.int8,
	OUT log_dead pg_catalog.int8,
	OUT memtable_entries pg_catalog.int8,
	OUT memtable_bytes pg_catalog.int8,
	OUT pages pg_catalog.int8,
	OUT leaf_pages pg_catalog.int8,
	OUT model_pages pg_catalog.int8,
	OUT bloom_pages pg_catalog.int8,
	OUT log_pages pg_catalog.int8,
	OUT manifest_pages pg_catalog.int8,
	OUT free_pages pg_catalog.int8,
	OUT bytes_per_entry pg_catalog.float8,
	OUT seals pg_catalog.int8,
	OUT entries_sealed pg_catalog.int8,
	OUT compactions pg_catalog.int8,
	OUT entries_rewritten pg_catalog.int8,
	OUT entries_dropped pg_catalog.int8,
	OUT pages_rewritten pg_catalog.int8)
AS 'MODULE_PATHNAME'
LANGUAGE C STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION alex_stats(pg_catalog.regclass) IS
'what an alex index consists of';

CREATE FUNCTION alex_runs(
	index pg_catalog.regclass,
	OUT run pg_catalog.int8,
	OUT part pg_catalog.text,
	OUT state pg_catalog.text,
	OUT generation pg_catalog.int8,
	OUT entries pg_catalog.int8,
	OUT dead pg_catalog.int8,
	OUT first_lane pg_catalog.int8,
	OUT last_lane pg_catalog.int8,
	OUT first_key pg_catalog.text,
	OUT last_key pg_catalog.text,
	OUT leaf_pages pg_catalog.int8,
	OUT model_pages pg_catalog.int8,
	OUT bloom_pages pg_catalog.int8,
	OUT depth pg_catalog.int4,
	OUT bytes_per_entry pg_catalog.float8)
RETURNS SETOF pg_catalog.record
AS 'MODULE_PATHNAME'
LANGUAGE C STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION alex_runs(pg_catalog.regclass) IS
'the runs of an alex index';
