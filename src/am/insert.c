/*-------------------------------------------------------------------------
 *
 * insert.c
 *	  aminsert: an entry waits in the backend, or goes to the log and the
 *	  memtable at once.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/insert.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/execnodes.h"
#include "storage/predicate.h"
#include "utils/memutils.h"

#include "alex/am.h"

/* New versions of rows are counted roughly, so many at a time. */
#define VERSIONS_NOTED			64

/* Kept in ii_AmCache, for all rows that a statement inserts. */
typedef struct AlexInsertState
{
	AlexCodec	codec;
	bool		may_wait;		/* nobody checks for conflicts in this index */
	AlexPendingBatch *batch;	/* where entries wait; NULL: not known */
	uint64		epoch;			/* of the batch */
	AlexLocal  *local;			/* NULL: no entry has gone to the log */
	uint64		nversions;		/* rows whose indexed column has not changed */
	MemoryContext tuple_context;	/* NULL: not needed */
	MemoryContextCallback callback;
} AlexInsertState;

/* The statement is over, or was aborted. */
static void
release_state(void *argument)
{
	AlexInsertState *state = argument;

	alex_local_release(state->local);
}

static AlexInsertState *
begin_inserts(Relation index, IndexInfo *index_info)
{
	MemoryContext old_context;
	AlexInsertState *state;

	alex_require_preload();

	old_context = MemoryContextSwitchTo(index_info->ii_Context);
	state = palloc0(sizeof(AlexInsertState));
	alex_codec_init(&state->codec, index);
	if (!state->codec.lane_is_value)
		state->tuple_context = AllocSetContextCreate(CurrentMemoryContext,
													 "alexam insert",
													 ALLOCSET_SMALL_SIZES);
	state->may_wait = index_info->ii_ExclusionOps == NULL;
	index_info->ii_AmCache = state;
	MemoryContextSwitchTo(old_context);

	return state;
}

static inline uint64
key_of_value(AlexInsertState *state, Datum value)
{
	MemoryContext old_context;
	uint64		key;

	if (state->codec.lane_is_value)
		return alex_codec_key(&state->codec, value);

	old_context = MemoryContextSwitchTo(state->tuple_context);
	key = alex_codec_key(&state->codec, value);
	MemoryContextSwitchTo(old_context);
	MemoryContextReset(state->tuple_context);
	return key;
}

/* Puts the entry where everybody can find it. */
static void
insert_at_once(Relation index, AlexInsertState *state, AlexLogEntry *entry,
			   IndexInfo *index_info)
{
	uint64		due;
	Size		appended = 0;

	if (state->local == NULL)
	{
		state->local = alex_local_acquire(index);
		state->callback.func = release_state;
		state->callback.arg = state;
		MemoryContextRegisterResetCallback(index_info->ii_Context,
										   &state->callback);
		alex_local_attach(state->local, index);
	}

	due = alex_append(index, state->local, entry, 1, &appended);
	if (due > 0)
		alex_try_seal(index, due);

	/*
	 * Core checked for conflicts before it called us, when the entry could
	 * not be seen yet: a serializable reader that came in between has missed
	 * it and must be found now (hazard H4).
	 */
	CheckForSerializableConflictIn(index, NULL, InvalidBlockNumber);
}

bool
alex_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid,
			Relation heap, IndexUniqueCheck check_unique,
			bool index_unchanged, IndexInfo *index_info)
{
	AlexInsertState *state = index_info->ii_AmCache;
	AlexLogEntry entry;

	if (check_unique != UNIQUE_CHECK_NO)
	{
		if (index_unchanged)
			alex_memtable_note_versions(index, 1);
		return alex_insert_unique(index, values, isnull, tid, heap,
								  check_unique, index_info);
	}
	if (state == NULL)
		state = begin_inserts(index, index_info);

	if (index_unchanged && state->nversions++ % VERSIONS_NOTED == 0)
		alex_memtable_note_versions(index, state->nversions == 1 ? 1 :
									VERSIONS_NOTED);

	entry.tid = ALEX_TID(ItemPointerGetBlockNumber(tid),
						 ItemPointerGetOffsetNumber(tid));
	if (isnull[0])
	{
		entry.key = 0;
		entry.tid |= ALEX_LOG_NULL;
	}
	else
		entry.key = key_of_value(state, values[0]);

	if (!state->may_wait || !alex_pending_is_allowed())
	{
		insert_at_once(index, state, &entry, index_info);
		return false;
	}

	if (unlikely(state->batch == NULL || state->epoch != alex_pending_epoch))
	{
		state->batch = alex_pending_batch(index);
		state->epoch = alex_pending_epoch;
	}
	alex_pending_add(state->batch, entry);
	return false;
}
