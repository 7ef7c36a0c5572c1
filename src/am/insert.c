/*-------------------------------------------------------------------------
 *
 * insert.c
 *	  aminsert: one entry goes to the log and the memtable at once.
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

/* Kept in ii_AmCache, for all rows that a statement inserts. */
typedef struct AlexInsertState
{
	AlexCodec	codec;
	AlexLocal  *local;
	MemoryContext tuple_context;
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
	state->tuple_context = AllocSetContextCreate(CurrentMemoryContext,
												 "alexam insert",
												 ALLOCSET_SMALL_SIZES);
	state->local = alex_local_acquire(index);
	state->callback.func = release_state;
	state->callback.arg = state;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &state->callback);
	index_info->ii_AmCache = state;
	MemoryContextSwitchTo(old_context);
	alex_local_attach(state->local, index);

	return state;
}

bool
alex_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid,
			Relation heap, IndexUniqueCheck check_unique,
			bool index_unchanged, IndexInfo *index_info)
{
	AlexInsertState *state = index_info->ii_AmCache;
	AlexLogEntry entry;
	Size		appended = 0;
	uint64		due;

	if (state == NULL)
		state = begin_inserts(index, index_info);

	entry.tid = ALEX_TID(ItemPointerGetBlockNumber(tid),
						 ItemPointerGetOffsetNumber(tid));
	if (isnull[0])
	{
		entry.key = 0;
		entry.tid |= ALEX_LOG_NULL;
	}
	else
	{
		MemoryContext old_context = MemoryContextSwitchTo(state->tuple_context);

		entry.key = alex_codec_key(&state->codec, values[0]);
		MemoryContextSwitchTo(old_context);
		MemoryContextReset(state->tuple_context);
	}

	due = alex_append(index, state->local, &entry, 1, &appended);
	if (due > 0)
		alex_try_seal(index, due);

	/*
	 * Core checked for conflicts before it called us, when the entry could
	 * not be seen yet: a serializable reader that came in between has missed
	 * it and must be found now (hazard H4).
	 */
	CheckForSerializableConflictIn(index, NULL, InvalidBlockNumber);

	return false;
}
