/*-------------------------------------------------------------------------
 *
 * leaf_fit.c
 *	  Finding the smallest packed form of a column of numbers, and writing it.
 *
 * Floating-point arithmetic only proposes slopes.  What a proposal costs is
 * computed with the integers that will be stored, so a bad proposal makes a
 * column larger, never wrong.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/leaf_fit.c
 *
 *-------------------------------------------------------------------------
 */
#include "leaf_fit.h"

/*
 * Lines are fitted only where the numbers and the line span less than this,
 * so that distances between the two fit a signed 64-bit integer.
 */
#define FIT_SPAN_BITS		62

/* Slopes tried for a column; each costs a pass over the numbers. */
#define FIT_TRIES			5

/* Fewer numbers than this never pay for exceptions. */
#define FIT_EXCEPTION_COUNT	32

/* How far below and above a line the numbers lie, and which of them. */
typedef struct Residuals
{
	int64_t		lowest;			/* the line goes through number 0 */
	int64_t		highest;
	int			lowest_at;
	int			highest_at;
} Residuals;

/* A straight lower bound of the width of the residuals, as slopes vary. */
typedef struct Bound
{
	double		slope;
	double		height;
	double		gradient;
} Bound;

static inline unsigned
byte_length(uint64_t value)
{
	return (alex_bit_length(value) + 7) / 8;
}

/* Bytes of the base as a signed number relative to the origin. */
static unsigned
base_length(const AlexColumnPlan *plan)
{
	uint64_t	base = plan->base - plan->origin;

	if (base == 0)
		return 0;
	if (base >> 63)
		base = ~base;
	/* one more bit for the sign */
	return byte_length(base << 1 | 1);
}

static void
set_plan_bytes(AlexColumnPlan *plan, int count)
{
	plan->header_bytes = ALEX_DESCRIPTOR_BYTES + (int) base_length(plan) +
		(int) byte_length(plan->slope) + (plan->nexceptions > 0 ? 2 : 0);
	plan->bytes = plan->header_bytes +
		plan->nexceptions * (2 + (int) plan->exception_bytes) +
		alex_packed_bytes(count, plan->width);
}

/* The distances of numbers [first, end) from a line that starts at number 0. */
static void
measure_residuals(const uint64_t *numbers, int first, int end,
				  uint64_t slope, unsigned shift, Residuals *residuals)
{
	const uint64_t origin = numbers[0];
	uint64_t	line = slope * (uint64_t) first;
	int64_t		lowest = INT64_MAX;
	int64_t		highest = INT64_MIN;
	int			lowest_at = first;
	int			highest_at = first;

	for (int i = first; i < end; i++, line += slope)
	{
		int64_t		distance = (int64_t) (numbers[i] - origin -
										  (line >> shift));

		if (distance < lowest)
		{
			lowest = distance;
			lowest_at = i;
		}
		if (distance > highest)
		{
			highest = distance;
			highest_at = i;
		}
	}
	residuals->lowest = lowest;
	residuals->highest = highest;
	residuals->lowest_at = lowest_at;
	residuals->highest_at = highest_at;
}

/*
 * A slope as a fixed-point number.  With a few more fraction bits than the
 * count has bits, what is cut off makes no difference over the column.
 * "rise" is what the line gains from the first number to the last; when the
 * slope is the exact rise / (count - 1), integers divide it, since a double
 * would lose the low bits of a steep line.
 */
static void
fix_slope(double slope, uint64_t rise, int count,
		  uint64_t *fixed, unsigned *shift)
{
	double		steps = count - 1;
	unsigned	bits = alex_bit_length((uint64_t) (slope * steps) + 1);
	double		error = slope * steps - (double) rise;

	*shift = alex_bit_length((uint64_t) count) + 4;
	if (bits + *shift > 63)
		*shift = bits < 63 ? 63 - bits : 0;
	if (error < (double) rise * 1e-12 && error > (double) rise * -1e-12)
		*fixed = (rise << *shift) / (uint64_t) (count - 1);
	else
		*fixed = (uint64_t) (slope * (double) (UINT64_C(1) << *shift));
}

/*
 * Improves a plan of slope 0 by a slope, if one saves bits.
 *
 * The width of the residuals is a convex function of the slope: every slope
 * that is tried gives a tangent below it, and so do the first and the last
 * number alone.  The next slope to try is where the highest tangents from
 * both sides meet, and when not even that point saves a bit, none does.
 */
static void
fit_slope(const uint64_t *numbers, int count, const Residuals *flat,
		  AlexColumnPlan *plan)
{
	double		steps = count - 1;
	double		rise = (double) numbers[count - 1] - (double) numbers[0];
	uint64_t	exact_rise = rise > 0 ? numbers[count - 1] - numbers[0] : 0;
	Bound		left = {0, (double) (flat->highest - flat->lowest),
		flat->lowest_at - flat->highest_at};
	Bound		right = {0, -rise, steps};
	unsigned	best = plan->width;

	for (int try = 0; try < FIT_TRIES; try++)
	{
		double		offset = (left.height + left.gradient * -left.slope) -
			(right.height + right.gradient * -right.slope);
		double		slope = offset / (right.gradient - left.gradient);
		double		bound = left.height + left.gradient * (slope - left.slope);
		uint64_t	fixed;
		unsigned	shift;
		uint64_t	range;
		Residuals	residuals;
		Bound		tangent;

		if (!(slope > 0) ||
			slope * steps >= (double) (UINT64_C(1) << FIT_SPAN_BITS) ||
			(bound >= 1 && alex_bit_length((uint64_t) bound) >= best))
			break;
		fix_slope(slope, exact_rise, count, &fixed, &shift);
		if (fixed == 0)
			break;
		measure_residuals(numbers, 0, count, fixed, shift, &residuals);
		range = (uint64_t) residuals.highest - (uint64_t) residuals.lowest;
		if (alex_bit_length(range) < best)
		{
			best = alex_bit_length(range);
			plan->range = range;
			plan->width = best;
			plan->slope = fixed;
			plan->shift = shift;
			plan->base = numbers[0] + (uint64_t) residuals.lowest;
		}
		tangent.slope = slope;
		tangent.height = (double) range;
		tangent.gradient = residuals.lowest_at - residuals.highest_at;
		if (best == 0 || tangent.gradient == 0)
			break;
		if (tangent.gradient < 0)
			left = tangent;
		else
			right = tangent;
	}
}

/*
 * Could exceptions save at least two bits?  A sample says how many residuals
 * are in the upper three quarters of what the width can hold, and how many in
 * the lower three: the exceptions would have to be among these.
 */
static bool
extremes_are_rare(const uint64_t *numbers, int count,
				  const AlexColumnPlan *plan)
{
	unsigned	shift = plan->width - 2;
	int			step = count / 32;
	int			total = 0;
	int			high = 0;
	int			low = 0;

	for (int i = step / 2; i < count; i += step)
	{
		uint64_t	residual = numbers[i] - plan->base -
			((plan->slope * (uint64_t) i) >> plan->shift);

		total++;
		high += residual >> shift != 0;
		low += (plan->range - residual) >> shift != 0;
	}
	return high < total / 2 || low < total / 2;
}

/*
 * How many residuals of a plan need each number of bits, above the lowest of
 * them and below the highest.
 */
static void
count_widths(const uint64_t *numbers, int count, const AlexColumnPlan *plan,
			 int *from_below, int *from_above)
{
	uint64_t	line = 0;

	memset(from_below, 0, 65 * sizeof(int));
	memset(from_above, 0, 65 * sizeof(int));
	for (int i = 0; i < count; i++, line += plan->slope)
	{
		uint64_t	residual = numbers[i] - plan->base - (line >> plan->shift);

		from_below[alex_bit_length(residual)]++;
		from_above[alex_bit_length(plan->range - residual)]++;
	}
}

/*
 * The width that makes a column smallest when residuals that need more bits
 * become exceptions.  *nexceptions is how many these are.
 */
static unsigned
best_width(const int *widths, unsigned widest, int count,
		   unsigned exception_bytes, int *nexceptions)
{
	unsigned	best = widest;
	int			beyond = 0;
	int64_t		lowest_cost = (int64_t) widest * count;

	*nexceptions = 0;
	for (unsigned width = widest; width > 0; width--)
	{
		int64_t		cost;

		/* residuals that do not fit one bit less */
		beyond += widths[width];
		if (beyond > count / 2)
			break;
		cost = (int64_t) (width - 1) * count + 16 +
			(int64_t) beyond * 8 * (2 + exception_bytes);
		if (cost < lowest_cost)
		{
			lowest_cost = cost;
			best = width - 1;
			*nexceptions = beyond;
		}
	}
	return best;
}

/* Makes the highest or the lowest numbers exceptions if that pays. */
static void
except_extremes(const uint64_t *numbers, int count, uint64_t highest,
				AlexColumnPlan *plan)
{
	int			from_below[65];
	int			from_above[65];
	uint64_t	range = plan->range;
	unsigned	exception_bytes = byte_length(highest - plan->origin);
	AlexColumnPlan high = *plan;
	AlexColumnPlan low = *plan;

	count_widths(numbers, count, plan, from_below, from_above);
	high.width = best_width(from_below, plan->width, count, exception_bytes,
							&high.nexceptions);
	low.width = best_width(from_above, plan->width, count, exception_bytes,
						   &low.nexceptions);
	if (high.nexceptions > 0)
	{
		high.exception_bytes = exception_bytes;
		set_plan_bytes(&high, count);
	}
	if (low.nexceptions > 0)
	{
		/* the base rises: residuals below it wrap and are excepted */
		low.base += range - alex_bit_mask(low.width);
		low.exception_bytes = exception_bytes;
		set_plan_bytes(&low, count);
	}
	if (high.bytes < plan->bytes && high.bytes <= low.bytes)
		*plan = high;
	else if (low.bytes < plan->bytes)
		*plan = low;
}

/*
 * Tries a line through the body of the column, its ends left out: a jump in
 * a sorted column puts a few numbers far off at one end or the other, where
 * they would bend any line that has to reach them.
 */
static void
except_ends(const uint64_t *numbers, int count, uint64_t highest,
			AlexColumnPlan *plan)
{
	int			first = count / 16;
	int			last = count - 1 - first;
	uint64_t	rise = numbers[last] - numbers[first];
	int			steps = last - first;
	int			widths[65];
	uint64_t	line = 0;
	AlexColumnPlan body = {0};
	Residuals	residuals;

	if (numbers[last] < numbers[first] || rise >> (FIT_SPAN_BITS - 1) ||
		(numbers[first] - numbers[0]) >> FIT_SPAN_BITS)
		return;
	fix_slope((double) rise / steps, rise, steps + 1, &body.slope, &body.shift);
	if (alex_bit_length(body.slope) + alex_bit_length((uint64_t) count) > 64)
		return;
	measure_residuals(numbers, first, last + 1, body.slope, body.shift,
					  &residuals);
	body.width = alex_bit_length((uint64_t) residuals.highest -
								 (uint64_t) residuals.lowest);
	if (body.width + 1 >= plan->width)
		return;

	body.base = numbers[0] + (uint64_t) residuals.lowest;
	memset(widths, 0, sizeof(widths));
	for (int i = 0; i < count; i++, line += body.slope)
		widths[alex_bit_length(numbers[i] - body.base -
							   (line >> body.shift))]++;
	body.origin = plan->origin;
	body.exception_bytes = byte_length(highest - plan->origin);
	body.width = best_width(widths, 64, count, body.exception_bytes,
							&body.nexceptions);
	if (body.nexceptions == 0)
		body.exception_bytes = 0;
	set_plan_bytes(&body, count);
	if (body.bytes < plan->bytes)
		*plan = body;
}

void
alex_find_extremes(const uint64_t *numbers, int count,
				   int *lowest_at, int *highest_at)
{
	uint64_t	lowest = numbers[0];
	uint64_t	highest = numbers[0];

	*lowest_at = 0;
	*highest_at = 0;
	for (int i = 1; i < count; i++)
	{
		if (numbers[i] < lowest)
		{
			lowest = numbers[i];
			*lowest_at = i;
		}
		if (numbers[i] > highest)
		{
			highest = numbers[i];
			*highest_at = i;
		}
	}
}

void
alex_fit_column(const uint64_t *numbers, int count,
				int lowest_at, int highest_at, uint64_t origin,
				AlexColumnPlan *plan)
{
	uint64_t	lowest = numbers[lowest_at];
	uint64_t	highest = numbers[highest_at];

	memset(plan, 0, sizeof(*plan));
	plan->origin = origin;
	plan->base = lowest;
	plan->range = highest - lowest;
	plan->width = alex_bit_length(plan->range);
	set_plan_bytes(plan, count);
	if (plan->width == 0)
		return;

	if (lowest_at < highest_at && plan->range >> FIT_SPAN_BITS == 0)
	{
		Residuals	flat = {0, (int64_t) plan->range, lowest_at, highest_at};
		AlexColumnPlan line = *plan;

		fit_slope(numbers, count, &flat, &line);
		set_plan_bytes(&line, count);
		if (line.bytes < plan->bytes)
			*plan = line;
	}
	if (count >= FIT_EXCEPTION_COUNT && plan->width >= 2)
	{
		if (extremes_are_rare(numbers, count, plan))
			except_extremes(numbers, count, highest, plan);
		except_ends(numbers, count, highest, plan);
	}
}

uint8_t *
alex_write_column_header(uint8_t *out, const AlexColumnPlan *plan,
						 unsigned extra)
{
	unsigned	base_bytes = base_length(plan);
	unsigned	slope_bytes = byte_length(plan->slope);

	out = alex_store_bytes(out, ALEX_DESCRIPTOR(plan->width, plan->shift,
												base_bytes, slope_bytes,
												plan->exception_bytes, extra),
						   ALEX_DESCRIPTOR_BYTES);
	out = alex_store_bytes(out, plan->base - plan->origin, (int) base_bytes);
	out = alex_store_bytes(out, plan->slope, (int) slope_bytes);
	if (plan->nexceptions > 0)
		out = alex_store_bytes(out, (uint64_t) plan->nexceptions, 2);
	return out;
}

static uint8_t *
write_exceptions(uint8_t *out, const AlexColumnPlan *plan,
				 const uint64_t *numbers, int count)
{
	uint64_t	mask = alex_bit_mask(plan->width);
	uint8_t    *positions = out;
	uint64_t	line = 0;

	out += 2 * plan->nexceptions;
	for (int i = 0; i < count; i++, line += plan->slope)
	{
		if (numbers[i] - plan->base - (line >> plan->shift) > mask)
		{
			positions = alex_store_bytes(positions, (uint64_t) i, 2);
			out = alex_store_bytes(out, numbers[i] - plan->origin,
								   (int) plan->exception_bytes);
		}
	}
	return out;
}

uint8_t *
alex_write_column_data(uint8_t *out, const AlexColumnPlan *plan,
					   const uint64_t *numbers, int count)
{
	const uint64_t mask = alex_bit_mask(plan->width);
	const uint64_t base = plan->base;
	const uint64_t slope = plan->slope;
	const unsigned shift = plan->shift;
	const unsigned width = plan->width;
	uint64_t	line = 0;
	uint64_t	word = 0;
	unsigned	used = 0;

	if (plan->nexceptions > 0)
		out = write_exceptions(out, plan, numbers, count);
	if (width == 0)
		return out;
	for (int i = 0; i < count; i++, line += slope)
	{
		uint64_t	residual = numbers[i] - base - (line >> shift);

		if (residual > mask)
			residual = 0;
		word |= residual << used;
		used += width;
		if (used >= 64)
		{
			alex_store64(out, word);
			out += 8;
			used -= 64;
			word = used > 0 ? residual >> (width - used) : 0;
		}
	}
	return alex_store_bytes(out, word, (int) (used + 7) / 8);
}
