/*-------------------------------------------------------------------------
 *
 * unique_build.c
 *	  Duplicates at CREATE UNIQUE INDEX.
 *
 * Of rows with equal values at most one may be alive; dead rows that some
 * snapshot still sees are indexed, too, and are in nobody's way.  Entries are
 * sorted anyway, so that duplicates are neighbours.  Whether a row is alive is
 * carried through the sort as the lowest bit of a number that is otherwise
 * the TID: no two entries have one TID, so the bit does not change the order.
 *
 * Equal values with different keys (the zeros, the NaNs) need not become
 * neighbours.  These few are sorted once more by the least key of their
 * equals.
 *
 * Whoever creates a unique index is told what PostgreSQL reserves to btree,
 * because one thing changes for the table: ON CONFLICT fails.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/unique_build.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/rel.h"

#include "alex/build.h"

struct AlexUniqueBuild
{
	Relation	heap;
	Relation	index;
	AlexKeyClassifier classifier;
	MemoryContext scratch;		/* of what support functions leave */
	bool		nulls_not_distinct;
	AlexSorter *ambiguous;		/* live rows whose value has several keys;
								 * NULL where no value has */
	bool		last_is_valid;	/* the live entry checked last */
	AlexPart	last_part;
	uint64		last_key;
};

#define DEAD_BIT				UINT64CONST(1)

AlexUniqueBuild *
alex_unique_build_begin(Relation heap, Relation index, Size memory)
{
	AlexUniqueBuild *build = palloc0(sizeof(AlexUniqueBuild));

	build->heap = heap;
	build->index = index;
	build->nulls_not_distinct = index->rd_index->indnullsnotdistinct;
	alex_key_classifier_init(&build->classifier, index);
	if (build->classifier.low != NULL)
	{
		build->ambiguous = alex_sorter_begin(memory);
		build->scratch = AllocSetContextCreate(CurrentMemoryContext,
											   "alexam unique build",
											   ALLOCSET_SMALL_SIZES);
	}
	return build;
}

uint64
alex_unique_build_add(AlexUniqueBuild *build, Datum value, bool is_null,
					  uint64 tid, bool is_alive)
{
	uint64		number = tid << 1 | (is_alive ? 0 : DEAD_BIT);

	if (build->ambiguous != NULL && !is_null && is_alive)
	{
		MemoryContext old_context = MemoryContextSwitchTo(build->scratch);
		AlexKeyClass class;

		alex_key_classify(&build->classifier, value, &class);
		MemoryContextSwitchTo(old_context);
		MemoryContextReset(build->scratch);
		if (class.low != class.high)
			alex_sorter_add(build->ambiguous, class.low, number);
	}
	return number;
}

static void pg_attribute_noreturn()
report_duplicate(AlexUniqueBuild *build, AlexPart part, uint64 key)
{
	const AlexCodec *codec = &build->classifier.codec;
	char	   *description = NULL;
	Datum		value = (Datum) 0;
	bool		is_null = part == ALEX_PART_NULLS;

	if (is_null || codec->value != NULL)
	{
		if (!is_null)
			value = FunctionCall1Coll(codec->value, codec->collation,
									  Int64GetDatum(alex_codec_load(codec, key)));
		description = BuildIndexValueDescription(build->index, &value,
												 &is_null);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("could not create unique index \"%s\"",
					RelationGetRelationName(build->index)),
			 description != NULL ?
			 errdetail("Key %s is duplicated.", description) :
			 errdetail("Duplicate keys exist."),
			 errtableconstraint(build->heap,
								RelationGetRelationName(build->index))));
}

uint64
alex_unique_build_check(AlexUniqueBuild *build, AlexPart part, uint64 key,
						uint64 number)
{
	if ((number & DEAD_BIT) == 0)
	{
		if (build->last_is_valid && build->last_key == key &&
			build->last_part == part &&
			(part == ALEX_PART_VALUES || build->nulls_not_distinct))
			report_duplicate(build, part, key);
		build->last_is_valid = true;
		build->last_part = part;
		build->last_key = key;
	}
	return number >> 1;
}

static void
check_ambiguous(AlexUniqueBuild *build, const AlexEntry *entries, int nentries)
{
	for (int i = 0; i < nentries; i++)
		(void) alex_unique_build_check(build, ALEX_PART_VALUES,
									   entries[i].key, entries[i].tid);
}

void
alex_unique_build_finish(AlexUniqueBuild *build)
{
	const AlexEntry *entries;
	int			nentries;

	if (build->ambiguous == NULL)
		return;
	alex_sorter_sort(build->ambiguous);
	while ((nentries = alex_sorter_read(build->ambiguous, &entries)) > 0)
		check_ambiguous(build, entries, nentries);
	alex_sorter_end(build->ambiguous);
	build->ambiguous = NULL;
	build->last_is_valid = false;
}

void
alex_unique_build_share(AlexUniqueBuild *build, SharedFileSet *files,
						const char *name)
{
	if (build->ambiguous != NULL)
		alex_sorter_share(build->ambiguous, files, name);
}

void
alex_unique_build_export(AlexUniqueBuild *build, AlexSortedFile *description)
{
	if (build->ambiguous == NULL)
		return;
	alex_sorter_export(build->ambiguous, description);
	build->ambiguous = NULL;
}

void
alex_unique_build_finish_shared(AlexUniqueBuild *build,
								AlexSortedChunks *ambiguous)
{
	const AlexEntry *entries;
	int			nentries;

	while ((nentries = alex_chunks_read(ambiguous, &entries)) > 0)
		check_ambiguous(build, entries, nentries);
	build->last_is_valid = false;
}

/*
 * Warns when CREATE UNIQUE INDEX has made an alex index.  Not in ambuild,
 * which cannot tell that from REINDEX in all its forms.
 */
void
alex_unique_warn(const IndexStmt *create)
{
	if (create->unique && strcmp(create->accessMethod, "alex") == 0)
		ereport(WARNING,
				(errmsg("INSERT ... ON CONFLICT fails on table \"%s\" as long as it has a unique index with access method \"alex\"",
						create->relation->relname),
				 errdetail("PostgreSQL supports ON CONFLICT, PRIMARY KEY, UNIQUE constraints and REFERENCES with unique indexes of access method \"btree\" only."),
				 errhint("Where one of these is needed, create a btree index instead, or use an exclusion constraint or MERGE.")));
}
