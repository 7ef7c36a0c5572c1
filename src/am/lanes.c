/*-------------------------------------------------------------------------
 *
 * lanes.c
 *	  The SQL-callable functions that map keys to lanes and back.
 *
 * A lane is a bigint whose signed order is the order of the keys.  The
 * operator classes of the extension script bind these functions:
 *
 *	alex_lane_*		the lane of a key, and of an argument of another type
 *					whose values are exact in that key's lanes
 *	alex_low_*		the smallest lane whose key is >= the argument
 *	alex_high_*		the largest lane whose key is <= the argument
 *	alex_value_*	the key of a lane, the exact inverse of alex_lane_*
 *
 * Every lane maps to at most one datum, so an index-only scan gives back the
 * very bits that were indexed.  Where btree calls different datums equal
 * (the two zeros, the many NaNs), each has its own lane and those lanes are
 * neighbours: low and high then enclose all of them.
 *
 * Anybody may call these functions with any argument, so alex_value_*
 * refuses a lane that stands for no value of its type instead of making a
 * datum that the type's own functions would never make.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/lanes.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/inet.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(alex_lane_bool);
PG_FUNCTION_INFO_V1(alex_value_bool);
PG_FUNCTION_INFO_V1(alex_lane_char);
PG_FUNCTION_INFO_V1(alex_value_char);
PG_FUNCTION_INFO_V1(alex_lane_int2);
PG_FUNCTION_INFO_V1(alex_value_int2);
PG_FUNCTION_INFO_V1(alex_lane_int4);
PG_FUNCTION_INFO_V1(alex_value_int4);
PG_FUNCTION_INFO_V1(alex_lane_int8);
PG_FUNCTION_INFO_V1(alex_value_int8);
PG_FUNCTION_INFO_V1(alex_lane_oid);
PG_FUNCTION_INFO_V1(alex_value_oid);
PG_FUNCTION_INFO_V1(alex_lane_uint8);
PG_FUNCTION_INFO_V1(alex_value_uint8);
PG_FUNCTION_INFO_V1(alex_lane_macaddr);
PG_FUNCTION_INFO_V1(alex_value_macaddr);
PG_FUNCTION_INFO_V1(alex_lane_macaddr8);
PG_FUNCTION_INFO_V1(alex_value_macaddr8);
PG_FUNCTION_INFO_V1(alex_lane_float4);
PG_FUNCTION_INFO_V1(alex_low_float4);
PG_FUNCTION_INFO_V1(alex_high_float4);
PG_FUNCTION_INFO_V1(alex_value_float4);
PG_FUNCTION_INFO_V1(alex_lane_float8);
PG_FUNCTION_INFO_V1(alex_low_float8);
PG_FUNCTION_INFO_V1(alex_high_float8);
PG_FUNCTION_INFO_V1(alex_value_float8);
PG_FUNCTION_INFO_V1(alex_value_time);
PG_FUNCTION_INFO_V1(alex_value_timestamp);
PG_FUNCTION_INFO_V1(alex_value_timestamptz);
PG_FUNCTION_INFO_V1(alex_lane_timestamp_date);
PG_FUNCTION_INFO_V1(alex_value_date);
PG_FUNCTION_INFO_V1(alex_low_date_timestamp);
PG_FUNCTION_INFO_V1(alex_high_date_timestamp);
PG_FUNCTION_INFO_V1(alex_lane_timestamptz_timestamp);
PG_FUNCTION_INFO_V1(alex_lane_timestamptz_date);
PG_FUNCTION_INFO_V1(alex_low_date_timestamptz);
PG_FUNCTION_INFO_V1(alex_high_date_timestamptz);

/*
 * Complain about a lane that stands for no value of the type.
 */
static pg_noinline void
report_foreign_lane(int64 lane, Oid type)
{
	ereport(ERROR,
			(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
			 errmsg("lane %lld stands for no value of type %s",
					(long long) lane, format_type_be(type))));
}

/* ----------------------------------------------------------------
 *		integers and what is stored like one
 * ----------------------------------------------------------------
 */

Datum
alex_lane_bool(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(PG_GETARG_BOOL(0) ? 1 : 0);
}

Datum
alex_value_bool(PG_FUNCTION_ARGS)
{
	int64		lane = PG_GETARG_INT64(0);

	if (unlikely(lane != 0 && lane != 1))
		report_foreign_lane(lane, BOOLOID);
	PG_RETURN_BOOL(lane != 0);
}

/*
 * btcharcmp compares "char" as unsigned.
 */
Datum
alex_lane_char(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((uint8) PG_GETARG_CHAR(0));
}

Datum
alex_value_char(PG_FUNCTION_ARGS)
{
	int64		lane = PG_GETARG_INT64(0);

	if (unlikely(lane < 0 || lane > PG_UINT8_MAX))
		report_foreign_lane(lane, CHAROID);
	PG_RETURN_CHAR((char) (uint8) lane);
}

Datum
alex_lane_int2(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(PG_GETARG_INT16(0));
}

Datum
alex_value_int2(PG_FUNCTION_ARGS)
{
	int64		lane = PG_GETARG_INT64(0);

	if (unlikely(lane < PG_INT16_MIN || lane > PG_INT16_MAX))
		report_foreign_lane(lane, INT2OID);
	PG_RETURN_INT16((int16) lane);
}

Datum
alex_lane_int4(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(PG_GETARG_INT32(0));
}

Datum
alex_value_int4(PG_FUNCTION_ARGS)
{
	int64		lane = PG_GETARG_INT64(0);

	if (unlikely(lane < PG_INT32_MIN || lane > PG_INT32_MAX))
		report_foreign_lane(lane, INT4OID);
	PG_RETURN_INT32((int32) lane);
}

/*
 * Serves every type that is a signed 64-bit number inside: bigint, money,
 * time, timestamp and timestamptz.
 */
Datum
alex_lane_int8(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(PG_GETARG_INT64(0));
}

/*
 * Serves bigint and money, of which every 64-bit number is a value.
 */
Datum
alex_value_int8(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(PG_GETARG_INT64(0));
}

Datum
alex_lane_oid(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) PG_GETARG_OID(0));
}

Datum
alex_value_oid(PG_FUNCTION_ARGS)
{
	int64		lane = PG_GETARG_INT64(0);

	if (unlikely(lane < 0 || lane > PG_UINT32_MAX))
		report_foreign_lane(lane, OIDOID);
	PG_RETURN_OID((Oid) lane);
}

/*
 * Unsigned 64-bit numbers take the signed order when their highest bit is
 * flipped.
 */
static inline int64
lane_of_unsigned(uint64 value)
{
	return (int64) (value ^ (UINT64CONST(1) << 63));
}

static inline uint64
unsigned_of_lane(int64 lane)
{
	return (uint64) lane ^ (UINT64CONST(1) << 63);
}

/*
 * Serves pg_lsn and xid8.
 */
Datum
alex_lane_uint8(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(lane_of_unsigned(DatumGetUInt64(PG_GETARG_DATUM(0))));
}

Datum
alex_value_uint8(PG_FUNCTION_ARGS)
{
	return UInt64GetDatum(unsigned_of_lane(PG_GETARG_INT64(0)));
}

/* ----------------------------------------------------------------
 *		hardware addresses: their bytes as one big-endian number
 * ----------------------------------------------------------------
 */

Datum
alex_lane_macaddr(PG_FUNCTION_ARGS)
{
	macaddr    *address = PG_GETARG_MACADDR_P(0);
	uint64		number = 0;

	number = number << 8 | address->a;
	number = number << 8 | address->b;
	number = number << 8 | address->c;
	number = number << 8 | address->d;
	number = number << 8 | address->e;
	number = number << 8 | address->f;

	PG_RETURN_INT64((int64) number);
}

Datum
alex_value_macaddr(PG_FUNCTION_ARGS)
{
	int64		lane = PG_GETARG_INT64(0);
	uint64		number = (uint64) lane;
	macaddr    *address;

	if (unlikely(number >> 48 != 0))
		report_foreign_lane(lane, MACADDROID);

	address = (macaddr *) palloc(sizeof(macaddr));
	address->a = (unsigned char) (number >> 40);
	address->b = (unsigned char) (number >> 32);
	address->c = (unsigned char) (number >> 24);
	address->d = (unsigned char) (number >> 16);
	address->e = (unsigned char) (number >> 8);
	address->f = (unsigned char) number;

	PG_RETURN_MACADDR_P(address);
}

Datum
alex_lane_macaddr8(PG_FUNCTION_ARGS)
{
	macaddr8   *address = PG_GETARG_MACADDR8_P(0);
	uint64		number = 0;

	number = number << 8 | address->a;
	number = number << 8 | address->b;
	number = number << 8 | address->c;
	number = number << 8 | address->d;
	number = number << 8 | address->e;
	number = number << 8 | address->f;
	number = number << 8 | address->g;
	number = number << 8 | address->h;

	PG_RETURN_INT64(lane_of_unsigned(number));
}

Datum
alex_value_macaddr8(PG_FUNCTION_ARGS)
{
	uint64		number = unsigned_of_lane(PG_GETARG_INT64(0));
	macaddr8   *address = (macaddr8 *) palloc(sizeof(macaddr8));

	address->a = (unsigned char) (number >> 56);
	address->b = (unsigned char) (number >> 48);
	address->c = (unsigned char) (number >> 40);
	address->d = (unsigned char) (number >> 32);
	address->e = (unsigned char) (number >> 24);
	address->f = (unsigned char) (number >> 16);
	address->g = (unsigned char) (number >> 8);
	address->h = (unsigned char) number;

	PG_RETURN_MACADDR8_P(address);
}

/* ----------------------------------------------------------------
 *		floating point
 *
 * Flipping the 63 lower bits of the negative numbers makes the signed order
 * of the bits the order of the numbers:
 *
 *	NaNs with sign, -Infinity, ..., -0.0, 0.0, ..., Infinity, NaNs
 *
 * The server orders all NaNs as equal and above Infinity.  Subtracting the
 * number of NaNs with sign carries those across the wrap-around to the upper
 * end, next to the others, so that -Infinity has the smallest lane of all.
 * That keeps the mapping one to one: x86 makes a NaN with sign of
 * Infinity - Infinity, and float8send shows it.
 *
 * float4 has the lanes of the float8 to which it widens; comparing it with a
 * float8 is then exact without any rounding.
 * ----------------------------------------------------------------
 */

#define NUMBER_OF_SIGNED_NANS	((UINT64CONST(1) << 52) - 1)
#define FLOAT8_INFINITY_BITS	INT64CONST(0x7FF0000000000000)
#define LOWEST_NAN_LANE \
	(FLOAT8_INFINITY_BITS + 1 - (int64) NUMBER_OF_SIGNED_NANS)

#define FLOAT8_SIGN_BIT			(UINT64CONST(1) << 63)
#define FLOAT4_SIGN_BIT			(UINT32_C(1) << 31)
#define FLOAT4_INFINITY_BITS	UINT32_C(0x7F800000)
#define FLOAT4_MANTISSA_MASK	UINT32_C(0x007FFFFF)

/* how many more bits the mantissa of float8 has */
#define MANTISSA_WIDENING		29

static inline int64
lane_of_float8_bits(int64 bits)
{
	if (bits < 0)
		bits ^= PG_INT64_MAX;
	return (int64) ((uint64) bits - NUMBER_OF_SIGNED_NANS);
}

static inline int64
float8_bits_of_lane(int64 lane)
{
	int64		bits = (int64) ((uint64) lane + NUMBER_OF_SIGNED_NANS);

	if (bits < 0)
		bits ^= PG_INT64_MAX;
	return bits;
}

static inline int64
lane_of_float8(float8 number)
{
	int64		bits;

	memcpy(&bits, &number, sizeof(bits));
	return lane_of_float8_bits(bits);
}

/*
 * NaNs are widened by hand, since the processor would make a quiet NaN of a
 * signalling one and the index would not give back what it was given.
 */
static inline int64
lane_of_float4(float4 number)
{
	uint32		bits;

	if (likely(!isnan(number)))
		return lane_of_float8((float8) number);

	memcpy(&bits, &number, sizeof(bits));
	return lane_of_float8_bits((int64)
							   ((uint64) (bits & FLOAT4_SIGN_BIT) << 32 |
								(uint64) FLOAT8_INFINITY_BITS |
								(uint64) (bits & FLOAT4_MANTISSA_MASK) << MANTISSA_WIDENING));
}

static inline int64
low_of_float8(float8 number)
{
	if (unlikely(isnan(number)))
		return LOWEST_NAN_LANE;
	return lane_of_float8(number == 0.0 ? -0.0 : number);
}

static inline int64
high_of_float8(float8 number)
{
	if (unlikely(isnan(number)))
		return PG_INT64_MAX;
	return lane_of_float8(number == 0.0 ? 0.0 : number);
}

Datum
alex_lane_float4(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(lane_of_float4(PG_GETARG_FLOAT4(0)));
}

Datum
alex_low_float4(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(low_of_float8((float8) PG_GETARG_FLOAT4(0)));
}

Datum
alex_high_float4(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(high_of_float8((float8) PG_GETARG_FLOAT4(0)));
}

Datum
alex_value_float4(PG_FUNCTION_ARGS)
{
	int64		lane = PG_GETARG_INT64(0);
	int64		bits = float8_bits_of_lane(lane);
	float8		wide;
	float4		number;

	memcpy(&wide, &bits, sizeof(wide));
	if (likely(!isnan(wide)))
		number = (float4) wide;
	else
	{
		uint32		narrow_bits;

		narrow_bits = (uint32) (((uint64) bits & FLOAT8_SIGN_BIT) >> 32) |
			FLOAT4_INFINITY_BITS |
			((uint32) ((uint64) bits >> MANTISSA_WIDENING) & FLOAT4_MANTISSA_MASK);
		memcpy(&number, &narrow_bits, sizeof(number));
	}

	if (unlikely(lane_of_float4(number) != lane))
		report_foreign_lane(lane, FLOAT4OID);
	PG_RETURN_FLOAT4(number);
}

Datum
alex_lane_float8(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(lane_of_float8(PG_GETARG_FLOAT8(0)));
}

Datum
alex_low_float8(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(low_of_float8(PG_GETARG_FLOAT8(0)));
}

Datum
alex_high_float8(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(high_of_float8(PG_GETARG_FLOAT8(0)));
}

Datum
alex_value_float8(PG_FUNCTION_ARGS)
{
	int64		bits = float8_bits_of_lane(PG_GETARG_INT64(0));
	float8		number;

	memcpy(&number, &bits, sizeof(number));
	PG_RETURN_FLOAT8(number);
}

/* ----------------------------------------------------------------
 *		dates and times
 * ----------------------------------------------------------------
 */

Datum
alex_value_time(PG_FUNCTION_ARGS)
{
	int64		lane = PG_GETARG_INT64(0);

	if (unlikely(lane < 0 || lane > USECS_PER_DAY))
		report_foreign_lane(lane, TIMEOID);
	PG_RETURN_TIMEADT(lane);
}

static inline Datum
timestamp_of_lane(int64 lane, Oid type)
{
	if (unlikely(!IS_VALID_TIMESTAMP(lane) && !TIMESTAMP_NOT_FINITE(lane)))
		report_foreign_lane(lane, type);
	return TimestampGetDatum(lane);
}

Datum
alex_value_timestamp(PG_FUNCTION_ARGS)
{
	return timestamp_of_lane(PG_GETARG_INT64(0), TIMESTAMPOID);
}

Datum
alex_value_timestamptz(PG_FUNCTION_ARGS)
{
	return timestamp_of_lane(PG_GETARG_INT64(0), TIMESTAMPTZOID);
}

/*
 * The lane of a date among the timestamps.  A date that no timestamp reaches
 * is greater than every finite timestamp and less than infinity, for which
 * END_TIMESTAMP, itself no timestamp, is as good a place as any: the
 * operators never compare two such dates here.
 */
Datum
alex_lane_timestamp_date(PG_FUNCTION_ARGS)
{
	DateADT		date = PG_GETARG_DATEADT(0);

	if (DATE_IS_NOBEGIN(date))
		PG_RETURN_INT64(DT_NOBEGIN);
	if (DATE_IS_NOEND(date))
		PG_RETURN_INT64(DT_NOEND);
	if (date >= TIMESTAMP_END_JULIAN - POSTGRES_EPOCH_JDATE)
		PG_RETURN_INT64(END_TIMESTAMP);
	PG_RETURN_INT64((int64) date * USECS_PER_DAY);
}

Datum
alex_value_date(PG_FUNCTION_ARGS)
{
	int64		lane = PG_GETARG_INT64(0);

	if (unlikely(!(lane == DATEVAL_NOBEGIN || lane == DATEVAL_NOEND ||
				   IS_VALID_DATE(lane))))
		report_foreign_lane(lane, DATEOID);
	PG_RETURN_DATEADT((DateADT) lane);
}

/*
 * The last midnight not after a finite timestamp, in days.
 */
static inline int64
day_of_timestamp(Timestamp timestamp)
{
	int64		day = timestamp / USECS_PER_DAY;

	if (timestamp % USECS_PER_DAY < 0)
		day--;
	return day;
}

/* Is the timestamp infinite?  Then *lane is that of the same as a date. */
static inline bool
is_infinite(Timestamp timestamp, int64 *lane)
{
	*lane = TIMESTAMP_IS_NOBEGIN(timestamp) ? DATEVAL_NOBEGIN : DATEVAL_NOEND;
	return TIMESTAMP_NOT_FINITE(timestamp);
}

/*
 * The lanes of dates around a timestamp.  A date stands for its midnight.
 * No finite timestamp is beyond the finite dates, so only the infinities
 * need a case of their own.
 */
Datum
alex_low_date_timestamp(PG_FUNCTION_ARGS)
{
	Timestamp	timestamp = PG_GETARG_TIMESTAMP(0);
	int64		day;

	if (is_infinite(timestamp, &day))
		PG_RETURN_INT64(day);
	day = day_of_timestamp(timestamp);
	if (timestamp % USECS_PER_DAY != 0)
		day++;
	PG_RETURN_INT64(day);
}

Datum
alex_high_date_timestamp(PG_FUNCTION_ARGS)
{
	Timestamp	timestamp = PG_GETARG_TIMESTAMP(0);
	int64		day;

	if (is_infinite(timestamp, &day))
		PG_RETURN_INT64(day);
	PG_RETURN_INT64(day_of_timestamp(timestamp));
}

/*
 * Between timestamptz and the other two the session's time zone decides, in
 * which dates and timestamps are local.  What lies beyond the timestamps in
 * UTC is next to the infinity on its side, as the operators have it.
 */
static inline int64
lane_of_local(TimestampTz timestamp, int overflow)
{
	if (overflow > 0)
		return END_TIMESTAMP;
	if (overflow < 0)
		return MIN_TIMESTAMP - 1;
	return timestamp;
}

static inline int64
lane_of_local_date(DateADT date)
{
	int			overflow = 0;
	TimestampTz timestamp = date2timestamptz_opt_overflow(date, &overflow);

	return lane_of_local(timestamp, overflow);
}

Datum
alex_lane_timestamptz_timestamp(PG_FUNCTION_ARGS)
{
	int			overflow = 0;
	TimestampTz timestamp;

	timestamp = timestamp2timestamptz_opt_overflow(PG_GETARG_TIMESTAMP(0),
												   &overflow);
	PG_RETURN_INT64(lane_of_local(timestamp, overflow));
}

Datum
alex_lane_timestamptz_date(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(lane_of_local_date(PG_GETARG_DATEADT(0)));
}

/* No time zone is this far from UTC. */
#define DAYS_FROM_UTC	8

/*
 * The first date whose midnight, local time, is at or after a finite point in
 * time, or after it.  No midnight is before that of an earlier date: clocks
 * are not put forward by more than a day.  (The same does not hold for local timestamps:
 * one that is left out when clocks are put forward stands for a later point
 * than the one that follows the gap.  So they have no such functions.)
 */
static int64
date_from(TimestampTz timestamp, bool after)
{
	int64		day = day_of_timestamp(timestamp);
	int64		before = Max(day - DAYS_FROM_UTC,
							 (int64) DATETIME_MIN_JULIAN - POSTGRES_EPOCH_JDATE - 1);
	int64		found = day + DAYS_FROM_UTC;

	while (found - before > 1)
	{
		int64		middle = before + (found - before) / 2;
		int64		midnight = lane_of_local_date((DateADT) middle);

		if (midnight > timestamp || (midnight == timestamp && !after))
			found = middle;
		else
			before = middle;
	}
	return found;
}

Datum
alex_low_date_timestamptz(PG_FUNCTION_ARGS)
{
	TimestampTz timestamp = PG_GETARG_TIMESTAMPTZ(0);
	int64		day;

	if (is_infinite(timestamp, &day))
		PG_RETURN_INT64(day);
	PG_RETURN_INT64(date_from(timestamp, false));
}

Datum
alex_high_date_timestamptz(PG_FUNCTION_ARGS)
{
	TimestampTz timestamp = PG_GETARG_TIMESTAMPTZ(0);
	int64		day;

	if (is_infinite(timestamp, &day))
		PG_RETURN_INT64(day);
	PG_RETURN_INT64(date_from(timestamp, true) - 1);
}
