/*-------------------------------------------------------------------------
 *
 * scan_keys.c
 *	  From scan keys to intervals of stored keys.
 *
 * Every condition that an operator class of alex can express is a set of
 * intervals of lanes, so all scan keys together are one: the intersection.
 * A scan reads exactly these intervals, in their order; no entry is ever
 * checked against a scan key again.  Contradictory, redundant and array
 * conditions need no treatment of their own.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/scan_keys.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "alex/scan.h"

StaticAssertDecl(sizeof(AlexInterval) == sizeof(AlexEntry) &&
				 offsetof(AlexInterval, low) == offsetof(AlexEntry, key),
				 "intervals are sorted as if they were entries");

static void
list_reserve(AlexScan *state, AlexIntervalList *list, int count)
{
	Size		size;

	if (count <= list->capacity)
		return;
	size = mul_size(count, sizeof(AlexInterval));
	if (list->items == NULL)
		list->items = MemoryContextAllocHuge(state->context, size);
	else
		list->items = repalloc_huge(list->items, size);
	list->capacity = count;
}

static void
list_swap(AlexIntervalList *list1, AlexIntervalList *list2)
{
	AlexIntervalList list = *list1;

	*list1 = *list2;
	*list2 = list;
}

/*
 * Sort intervals and unite those that overlap or touch, so that each entry
 * is read once, and neighbouring keys in one go.  To the sort they are like
 * entries: pairs of numbers, ordered by the first one.
 */
static void
list_unite(AlexScan *state, AlexIntervalList *list)
{
	int			count = 0;

	if (list->count <= 1)
		return;
	list_reserve(state, &state->result, list->count);
	alex_sort((AlexEntry *) list->items, (AlexEntry *) state->result.items,
			  list->count);
	for (int i = 1; i < list->count; i++)
	{
		AlexInterval *last = &list->items[count];
		AlexInterval *item = &list->items[i];

		if (last->high == PG_UINT64_MAX || item->low <= last->high + 1)
			last->high = Max(last->high, item->high);
		else
			list->items[++count] = *item;
	}
	list->count = count + 1;
}

static void
list_clip(AlexIntervalList *list, AlexInterval clip)
{
	int			count = 0;

	for (int i = 0; i < list->count; i++)
	{
		AlexInterval item = list->items[i];

		item.low = Max(item.low, clip.low);
		item.high = Min(item.high, clip.high);
		if (item.low <= item.high)
			list->items[count++] = item;
	}
	list->count = count;
}

/* Intersects state->intervals with state->operand. */
static void
list_intersect(AlexScan *state)
{
	AlexIntervalList *left = &state->intervals;
	AlexIntervalList *right = &state->operand;
	AlexIntervalList *result = &state->result;
	int			i = 0;
	int			j = 0;

	list_reserve(state, result, left->count + right->count);
	result->count = 0;
	while (i < left->count && j < right->count)
	{
		AlexInterval *item = &result->items[result->count];

		item->low = Max(left->items[i].low, right->items[j].low);
		item->high = Min(left->items[i].high, right->items[j].high);
		if (item->low <= item->high)
			result->count++;
		if (left->items[i].high < right->items[j].high)
			i++;
		else
			j++;
	}
	list_swap(left, result);
}

/*
 * Support function "number" for arguments of a type; NULL if there is none.
 * Those of the column's own type are in the relation cache.
 */
static FmgrInfo *
support_function(AlexScan *state, Oid type, int number)
{
	Relation	index = state->index;
	RegProcedure procedure;
	FmgrInfo   *function;

	if (type == index->rd_opcintype[0])
	{
		if (!RegProcedureIsValid(index_getprocid(index, 1, number)))
			return NULL;
		return index_getprocinfo(index, 1, number);
	}
	procedure = get_opfamily_proc(index->rd_opfamily[0],
								  index->rd_opcintype[0], type, number);
	if (!RegProcedureIsValid(procedure))
		return NULL;
	function = MemoryContextAlloc(state->context, sizeof(FmgrInfo));
	fmgr_info_cxt(procedure, function, state->context);
	return function;
}

static AlexArgumentType *
argument_type_create(AlexScan *state, Oid type)
{
	AlexArgumentType *argument_type;
	FmgrInfo   *lane = support_function(state, type, ALEX_LANE_PROC);
	FmgrInfo   *low = support_function(state, type, ALEX_LOW_PROC);
	FmgrInfo   *high = support_function(state, type, ALEX_HIGH_PROC);

	if (low == NULL)
		low = lane;
	if (high == NULL)
		high = lane;
	if (low == NULL || high == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("operator family of index \"%s\" has no support function for arguments of type %u",
						RelationGetRelationName(state->index), type)));
	argument_type = MemoryContextAlloc(state->context,
									   sizeof(AlexArgumentType));
	argument_type->type = type;
	argument_type->low = low;
	argument_type->high = high;
	argument_type->is_int8 = low == high && low->fn_addr == alex_lane_int8;
	argument_type->is_int4 = low == high && low->fn_addr == alex_lane_int4;
	argument_type->next = state->argument_types;
	state->argument_types = argument_type;
	return argument_type;
}

static inline AlexArgumentType *
argument_type_of(AlexScan *state, ScanKey key)
{
	Oid			type = key->sk_subtype;
	AlexArgumentType *argument_type;

	if (type == InvalidOid)
		type = state->index->rd_opcintype[0];
	for (argument_type = state->argument_types; argument_type != NULL;
		 argument_type = argument_type->next)
	{
		if (argument_type->type == type)
			return argument_type;
	}
	return argument_type_create(state, type);
}

/* "function" is the type's low or high. */
static inline int64
lane_of(AlexArgumentType *type, FmgrInfo *function, Oid collation,
		Datum argument)
{
	if (type->is_int8)
		return DatumGetInt64(argument);
	if (type->is_int4)
		return DatumGetInt32(argument);
	return DatumGetInt64(FunctionCall1Coll(function, collation, argument));
}

/*
 * The interval of stored keys for which "key OPERATOR argument" is true.
 * Returns false if there is none.
 */
static bool
interval_of(AlexScan *state, ScanKey key, AlexArgumentType *type,
			Datum argument, AlexInterval *interval)
{
	Oid			collation = key->sk_collation;
	int64		first = PG_INT64_MIN;
	int64		last = PG_INT64_MAX;

	switch (key->sk_strategy)
	{
		case BTLessStrategyNumber:
			last = lane_of(type, type->low, collation, argument);
			if (last == PG_INT64_MIN)
				return false;
			last--;
			break;
		case BTLessEqualStrategyNumber:
			last = lane_of(type, type->high, collation, argument);
			break;
		case BTEqualStrategyNumber:
			first = lane_of(type, type->low, collation, argument);
			if (type->high == type->low)
				last = first;
			else
				last = lane_of(type, type->high, collation, argument);
			break;
		case BTGreaterEqualStrategyNumber:
			first = lane_of(type, type->low, collation, argument);
			break;
		case BTGreaterStrategyNumber:
			first = lane_of(type, type->high, collation, argument);
			if (first == PG_INT64_MAX)
				return false;
			first++;
			break;
		default:
			elog(ERROR, "unrecognized strategy number: %d", key->sk_strategy);
	}

	if (first > last)
		return false;

	/* In a descending index the greatest lane comes first. */
	interval->low = alex_codec_store(&state->codec,
									 state->codec.descending ? last : first);
	interval->high = alex_codec_store(&state->codec,
									  state->codec.descending ? first : last);
	return true;
}

/*
 * Fills state->operand with the intervals of "key OPERATOR ANY (array)".
 */
static void
array_intervals(AlexScan *state, ScanKey key)
{
	AlexIntervalList *list = &state->operand;
	AlexArgumentType *type = argument_type_of(state, key);
	ArrayType  *array = DatumGetArrayTypeP(key->sk_argument);
	int16		element_length;
	bool		element_by_value;
	char		element_alignment;
	Datum	   *elements;
	bool	   *nulls;
	int			nelements;

	get_typlenbyvalalign(ARR_ELEMTYPE(array), &element_length,
						 &element_by_value, &element_alignment);
	deconstruct_array(array, ARR_ELEMTYPE(array), element_length,
					  element_by_value, element_alignment,
					  &elements, &nulls, &nelements);
	list_reserve(state, list, nelements);
	list->count = 0;
	for (int i = 0; i < nelements; i++)
	{
		/* Operators are strict: a NULL element matches nothing. */
		if (!nulls[i] &&
			interval_of(state, key, type, elements[i],
						&list->items[list->count]))
			list->count++;
	}
	list_unite(state, list);
}

static void
apply_key(AlexScan *state, ScanKey key)
{
	AlexInterval interval;

	if (key->sk_flags & SK_ISNULL)
	{
		/* "key OPERATOR NULL" is never true */
		state->intervals.count = 0;
	}
	else if (key->sk_flags & SK_SEARCHARRAY)
	{
		array_intervals(state, key);
		list_intersect(state);
	}
	else if (interval_of(state, key, argument_type_of(state, key),
						 key->sk_argument, &interval))
		list_clip(&state->intervals, interval);
	else
		state->intervals.count = 0;
}

/*
 * alex_scan_keys_prepare for "key OPERATOR argument" alone, with an argument
 * that needs no support function, as in a nested loop's inner scan.  False for
 * all other conditions.
 */
bool
alex_scan_keys_prepare_simple(AlexScan *state)
{
	ScanKey		key = state->scan->keyData;
	AlexArgumentType *type;

	if (state->scan->numberOfKeys != 1 || key->sk_flags != 0 ||
		key->sk_attno != 1)
		return false;
	type = argument_type_of(state, key);
	if (!type->is_int8 && !type->is_int4)
		return false;
	list_reserve(state, &state->intervals, 1);
	state->intervals.count = interval_of(state, key, type, key->sk_argument,
										 &state->intervals.items[0]) ? 1 : 0;
	state->nulls_wanted = false;
	state->keys_are_ready = true;
	return true;
}

/*
 * Computes state->intervals and state->nulls_wanted from the scan keys.
 */
void
alex_scan_keys_prepare(AlexScan *state)
{
	IndexScanDesc scan = state->scan;
	MemoryContext old_context;

	if (alex_scan_keys_prepare_simple(state))
		return;

	old_context = MemoryContextSwitchTo(alex_scan_scratch(state));
	list_reserve(state, &state->intervals, 1);
	state->intervals.items[0].low = 0;
	state->intervals.items[0].high = PG_UINT64_MAX;
	state->intervals.count = 1;
	state->nulls_wanted = true;

	for (int i = 0; i < scan->numberOfKeys; i++)
	{
		ScanKey		key = &scan->keyData[i];

		if (key->sk_attno != 1 || (key->sk_flags & SK_ROW_HEADER) != 0)
			elog(ERROR, "unexpected scan key on index \"%s\"",
				 RelationGetRelationName(state->index));
		if (key->sk_flags & SK_SEARCHNULL)
			state->intervals.count = 0;
		else
		{
			state->nulls_wanted = false;
			if ((key->sk_flags & SK_SEARCHNOTNULL) == 0)
				apply_key(state, key);
		}
	}

	MemoryContextSwitchTo(old_context);
	MemoryContextReset(state->scratch);
	state->keys_are_ready = true;
}
