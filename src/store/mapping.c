/*-------------------------------------------------------------------------
 *
 * mapping.c
 *	  Read-only mappings of a relation's segment files.
 *
 * Each segment file is mapped whole and once a backend.  A segment that is
 * still growing is mapped up to its greatest size: the pages past its end
 * become valid as the file grows, so a mapping never has to be renewed.
 *
 * A mapping belongs to one life of one relation file, that is, to a
 * relfilenode and an incarnation: the number of a dropped file may be given
 * to another one, and TRUNCATE may empty a file in place.  Mappings are
 * reference-counted.  A relcache invalidation arrives inside any lock
 * acquisition, under live scans, so it unmaps only what nobody uses; the rest
 * goes at its last release.  The mappings without a user that are kept are
 * bounded, and the one unused for longest goes first.
 *
 * A fault on a page that is not in the kernel's cache makes it read whatever
 * lies around that page, as much as the device's readahead setting says.  So
 * we ask for the pages that we want before we touch them, see read_ahead.c.
 * MADV_RANDOM, which would keep the kernel from reading around, is not given.
 * For one thing, pages are then read by halves of 4 kB: 2,000 cold probes took
 * 3 times as long.  And Linux (since 6.3) takes no notice of touches through
 * such a mapping when it looks for pages to drop: under pressure by 1 GB read
 * from another file, 512,000 touches of 64 MB found 1 page dropped without it,
 * and 116,000 with it.
 *
 * A page that cannot be read, because the device fails or because somebody
 * cut the file off, arrives as SIGBUS.  See handle_sigbus.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/store/mapping.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/relpath.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "alex/am.h"
#include "alex/store.h"

#define SEGMENT_BYTES			((Size) RELSEG_SIZE * BLCKSZ)

/* Mappings that nobody uses are kept up to this number. */
#define MAX_UNUSED_MAPPINGS		64

/*
 * So many blocks are asked for in one call.  The kernel may not read more than
 * the device takes in one request, 128 kB with some.
 */
#define ADVICE_BLOCKS			16

/* What identifies a mapping; laid out as AlexMapping begins. */
typedef struct MappingKey
{
	RelFileNode node;
	uint64		incarnation;
} MappingKey;

typedef struct MappingEntry
{
	AlexMapping mapping;		/* begins with the hash key */
	dlist_node	all_node;		/* in all_mappings */
	dlist_node	unused_node;	/* in unused_mappings while there are no
								 * references */
	NameData	name;			/* of the index, for error messages */
} MappingEntry;

StaticAssertDecl(offsetof(MappingEntry, mapping) == 0,
				 "AlexMapping is cast to MappingEntry");
StaticAssertDecl(offsetof(AlexMapping, node) == offsetof(MappingKey, node) &&
				 offsetof(AlexMapping, incarnation) ==
				 offsetof(MappingKey, incarnation),
				 "AlexMapping begins with its hash key");

static HTAB *mapping_table = NULL;
static dlist_head all_mappings = DLIST_STATIC_INIT(all_mappings);

/* Released last comes last. */
static dlist_head unused_mappings = DLIST_STATIC_INIT(unused_mappings);
static int	unused_count = 0;

static bool sigbus_handled = false;
static struct sigaction previous_sigbus;

/* Unmaps and forgets; must do without errors and allocations. */
static void
mapping_remove(MappingEntry *entry)
{
	AlexMapping *mapping = &entry->mapping;

	Assert(mapping->references == 0);

	for (int i = 0; i < mapping->nsegments; i++)
	{
		if (mapping->segments[i] != NULL)
			munmap(mapping->segments[i], SEGMENT_BYTES);
	}
	if (mapping->segments != NULL)
		pfree(mapping->segments);

	dlist_delete(&entry->all_node);
	dlist_delete(&entry->unused_node);
	unused_count--;
	hash_search(mapping_table, mapping, HASH_REMOVE, NULL);
}

/* Relcache callback: the relation has changed or is gone, or all may have. */
static void
mapping_invalidate(Datum argument, Oid relid)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &all_mappings)
	{
		MappingEntry *entry = dlist_container(MappingEntry, all_node,
											  iter.cur);

		if (OidIsValid(relid) && entry->mapping.relid != relid)
			continue;
		if (entry->mapping.references == 0)
			mapping_remove(entry);
		else
			entry->mapping.stale = true;
	}
}

static void
init_mappings(void)
{
	HASHCTL		info;

	if (mapping_table != NULL)
		return;

	info.keysize = sizeof(MappingKey);
	info.entrysize = sizeof(MappingEntry);
	mapping_table = hash_create("alexam mappings", MAX_UNUSED_MAPPINGS, &info,
								HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(mapping_invalidate, (Datum) 0);
}

AlexMapping *
alex_mapping_acquire(Relation index, uint64 incarnation)
{
	MappingKey	key;
	MappingEntry *entry;
	AlexMapping *mapping;
	bool		found;

	if (!alex_use_mmap || RelationUsesLocalBuffers(index))
		return NULL;
	init_mappings();

	/* The key is hashed as bytes, padding included. */
	memset(&key, 0, sizeof(key));
	key.node = index->rd_node;
	key.incarnation = incarnation;
	entry = hash_search(mapping_table, &key, HASH_ENTER, &found);
	mapping = &entry->mapping;

	if (!found)
	{
		memset((char *) entry + sizeof(key), 0, sizeof(*entry) - sizeof(key));
		mapping->relid = RelationGetRelid(index);
		namestrcpy(&entry->name, RelationGetRelationName(index));
		dlist_push_tail(&all_mappings, &entry->all_node);
	}
	else if (mapping->references == 0)
	{
		dlist_delete(&entry->unused_node);
		unused_count--;
	}

	mapping->references++;
	return mapping;
}

void
alex_mapping_release(AlexMapping *mapping)
{
	MappingEntry *entry = (MappingEntry *) mapping;

	Assert(mapping->references > 0);
	if (--mapping->references > 0)
		return;

	dlist_push_tail(&unused_mappings, &entry->unused_node);
	unused_count++;

	if (mapping->stale)
		mapping_remove(entry);
	else if (unused_count > MAX_UNUSED_MAPPINGS)
		mapping_remove(dlist_head_element(MappingEntry, unused_node,
										  &unused_mappings));
}

static void
segment_path(const AlexMapping *mapping, uint32 segment, char *path, Size size)
{
	char	   *first = relpathperm(mapping->node, MAIN_FORKNUM);

	if (segment == 0)
		strlcpy(path, first, size);
	else
		snprintf(path, size, "%s.%u", first, segment);
	pfree(first);
}

/*
 * Makes an error of a fault at an address in one of our mappings.
 *
 * A handler may not do in general what ereport does: allocate memory, format
 * text, leave by a long jump.  Here it may, because this signal is not
 * asynchronous: it is raised by the very instruction that reads the mapped
 * page, and that is always plain code of ours, never the inside of malloc or
 * of anything else that must not be left or entered again.
 */
static void
report_fault(MappingEntry *entry, uint32 segment, Size offset)
{
	char		path[MAXPGPATH];
	BlockNumber block = segment * (BlockNumber) RELSEG_SIZE + offset / BLCKSZ;

	segment_path(&entry->mapping, segment, path, sizeof(path));
	ereport(ERROR,
			(errcode(ERRCODE_IO_ERROR),
			 errmsg("could not read block %u of index \"%s\" through its memory mapping",
					block, NameStr(entry->name)),
			 errdetail("The file \"%s\" is too short, or reading it failed.",
					   path),
			 errhint("Check the storage device and its file system, then REINDEX the index if the file is damaged.")));
}

/* Hands a SIGBUS that is not ours to whoever handled it before. */
static void
chain_sigbus(int signal_number, siginfo_t *info, void *context)
{
	if (previous_sigbus.sa_flags & SA_SIGINFO)
		previous_sigbus.sa_sigaction(signal_number, info, context);
	else if (previous_sigbus.sa_handler != SIG_DFL &&
			 previous_sigbus.sa_handler != SIG_IGN)
		previous_sigbus.sa_handler(signal_number);
	else if (previous_sigbus.sa_handler == SIG_DFL || info->si_code > 0)
	{
		/*
		 * Die of it.  A fault would come again upon return, but a signal sent
		 * by kill() would not.
		 */
		signal(SIGBUS, SIG_DFL);
		raise(signal_number);
	}
}

/*
 * SIGBUS: an error for the query that touched the page, if it was one of our
 * mapped pages.  A critical section would turn the error into a panic; mapped
 * pages are never read in one, so such a fault is not ours either.
 *
 * ereport leaves by siglongjmp, which does not restore the signal mask in
 * PostgreSQL.  The handler is therefore installed with SA_NODEFER and an
 * empty mask: no signal is ever blocked while it runs, and so none stays
 * blocked after it was left.  Otherwise the next fault would kill the server.
 */
static void
handle_sigbus(int signal_number, siginfo_t *info, void *context)
{
	char	   *address = info->si_addr;
	dlist_iter	iter;

	/* si_code is positive if the kernel raised it: only then is si_addr set */
	if (info->si_code > 0 && CritSectionCount == 0)
	{
		dlist_foreach(iter, &all_mappings)
		{
			MappingEntry *entry = dlist_container(MappingEntry, all_node,
												  iter.cur);
			AlexMapping *mapping = &entry->mapping;

			for (int i = 0; i < mapping->nsegments; i++)
			{
				char	   *base = mapping->segments[i];

				if (base != NULL && address >= base &&
					address < base + SEGMENT_BYTES)
					report_fault(entry, i, address - base);
			}
		}
	}
	chain_sigbus(signal_number, info, context);
}

static void
install_sigbus_handler(void)
{
	struct sigaction action;

	if (sigbus_handled)
		return;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = handle_sigbus;
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, &action, &previous_sigbus) < 0)
		elog(ERROR, "could not install a SIGBUS handler: %m");
	sigbus_handled = true;
}

/* Makes room for the segment's address. */
static void
enlarge_segments(AlexMapping *mapping, uint32 segment)
{
	int			nsegments = segment + 1;
	Size		size = sizeof(char *) * nsegments;

	if (nsegments <= mapping->nsegments)
		return;

	if (mapping->segments == NULL)
		mapping->segments = MemoryContextAlloc(TopMemoryContext, size);
	else
		mapping->segments = repalloc(mapping->segments, size);
	while (mapping->nsegments < nsegments)
		mapping->segments[mapping->nsegments++] = NULL;
}

char *
alex_mapping_segment(AlexMapping *mapping, uint32 segment)
{
	char		path[MAXPGPATH];
	char	   *base;
	int			fd;

	install_sigbus_handler();

	segment_path(mapping, segment, path, sizeof(path));
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0)
	{
		if (errno == ENOENT)
		{
			mapping->error = ENOENT;
			return NULL;
		}
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	}

	/* A file that is there: what can fail from here on leaks nothing. */
	enlarge_segments(mapping, segment);
	base = mmap(NULL, SEGMENT_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
	{
		int			save_errno = errno;

		CloseTransientFile(fd);

		/*
		 * Where address space is limited, or the file system cannot map, the
		 * buffer manager still serves.
		 */
		if (save_errno == ENOMEM || save_errno == ENODEV)
		{
			mapping->error = save_errno;
			return NULL;
		}
		errno = save_errno;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not map file \"%s\": %m", path)));
	}
	mapping->segments[segment] = base;

	if (CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not close file \"%s\": %m", path)));

	return base;
}

void
alex_mapping_will_need(AlexMapping *mapping, BlockNumber block,
					   BlockNumber nblocks)
{
	while (nblocks > 0)
	{
		char	   *address = unconstify(char *, alex_mapping_page(mapping, block));
		BlockNumber n = Min(nblocks, ADVICE_BLOCKS);

		n = Min(n, RELSEG_SIZE - block % RELSEG_SIZE);
		if (address == NULL)
			return;
		/* advice that cannot be taken is no error: the page will be read */
		(void) madvise(address, (Size) n * BLCKSZ, MADV_WILLNEED);
		block += n;
		nblocks -= n;
	}
}
