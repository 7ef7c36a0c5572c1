/*-------------------------------------------------------------------------
 *
 * server.c
 *	  Stand-ins for the little of the server that the store's decoders and
 *	  redo call.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include <setjmp.h>

#include "access/xlog.h"
#include "access/xlogutils.h"
#include "executor/instrument.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "alex/store.h"

/* More than this nothing of a relation so small can need. */
#define ALLOCATION_LIMIT	(1024 * 1024 * 4)

static Block pages[SERVER_PAGES];
static int	npages;
static int	pins[SERVER_PAGES];
static int	locks[SERVER_PAGES];

static RelationData relation;
static FormData_pg_class class;

static jmp_buf error_jump;
static int	error_level;
static void *allocations[4096];
static int	nallocations;

/* Variables of the server that inline functions look at. */
Block	   *LocalBufferBlockPointers = pages;
char	   *BufferBlocks = NULL;
int			NBuffers = 0;
int			NLocBuffer = SERVER_PAGES;
int			MaxBackends = 1;
volatile uint32 CritSectionCount = 0;
volatile sig_atomic_t InterruptPending = false;
bool		VacuumCostActive = false;
int			VacuumCostBalance = 0;
int			VacuumCostPageHit = 1;
BufferUsage pgBufferUsage;
int			wal_level = WAL_LEVEL_REPLICA;
HotStandbyState standbyState = STANDBY_DISABLED;
MemoryContext CurrentMemoryContext = NULL;
MemoryContext TopMemoryContext = NULL;
bool		alex_verify_checksums = true;

Relation
server_take_relation(FuzzInput *input)
{
	npages = fuzz_take8(input) % (SERVER_PAGES + 1);
	for (int i = 0; i < SERVER_PAGES; i++)
	{
		uint16_t	length = 0;

		if (pages[i] == NULL)
			pages[i] = malloc(BLCKSZ);
		if (i < npages)
			fuzz_take(input, &length, sizeof(length));
		if (length > BLCKSZ)
			length = BLCKSZ;
		fuzz_take(input, pages[i], length);
		memset((char *) pages[i] + length, 0, BLCKSZ - length);
	}

	strcpy(NameStr(class.relname), "fuzzed");
	class.relpersistence = RELPERSISTENCE_PERMANENT;
	relation.rd_rel = &class;
	relation.rd_node.relNode = 16384;
	return &relation;
}

Page
server_page(BlockNumber block)
{
	return (Page) pages[block];
}

bool
server_try(void (*function) (void *argument), void *argument)
{
	bool		result = false;

	memset(pins, 0, sizeof(pins));
	memset(locks, 0, sizeof(locks));
	if (setjmp(error_jump) == 0)
	{
		function(argument);
		result = true;
		for (int i = 0; i < SERVER_PAGES; i++)
			FUZZ_REQUIRE(pins[i] == 0 && locks[i] == 0);
	}
	while (nallocations > 0)
		free(allocations[--nallocations]);
	return result;
}

/* Errors */

bool
errstart(int elevel, const char *domain)
{
	error_level = elevel;
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	if (error_level >= ERROR)
		longjmp(error_jump, 1);
}

int
errcode(int sqlerrcode)
{
	return 0;
}

#define SAY(name) \
int \
name(const char *format,...) \
{ \
	char		text[1024]; \
	va_list		arguments; \
\
	va_start(arguments, format); \
	vsnprintf(text, sizeof(text), format, arguments); \
	va_end(arguments); \
	return 0; \
}

SAY(errmsg)
SAY(errmsg_internal)
SAY(errdetail)
SAY(errhint)

void
ExceptionalCondition(const char *conditionName, const char *errorType,
					 const char *fileName, int lineNumber)
{
	fprintf(stderr, "%s:%d: assertion failed: %s\n", fileName, lineNumber,
			conditionName);
	abort();
}

/* Memory, which goes at the end of server_try() */

void *
palloc0(Size size)
{
	if (size > ALLOCATION_LIMIT)
		ereport(ERROR, (errmsg("invalid memory alloc request size %zu", size)));
	FUZZ_REQUIRE(nallocations < lengthof(allocations));
	return allocations[nallocations++] = calloc(1, size);
}

void *
palloc(Size size)
{
	void	   *memory = palloc0(size);

	memset(memory, 0x7F, size);
	return memory;
}

void
pfree(void *pointer)
{
	int			i = nallocations - 1;

	while (i >= 0 && allocations[i] != pointer)
		i--;
	FUZZ_REQUIRE(i >= 0);
	allocations[i] = allocations[--nallocations];
	free(pointer);
}

char *
psprintf(const char *format,...)
{
	char	   *text = palloc(1024);
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(text, 1024, format, arguments);
	va_end(arguments);
	return text;
}

/* What lives as long as the backend. */
void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	return calloc(1, size);
}

void *
MemoryContextAllocHuge(MemoryContext context, Size size)
{
	return calloc(1, size);
}

void *
ShmemInitStruct(const char *name, Size size, bool *found)
{
	*found = false;
	return calloc(1, size);
}

void
appendStringInfo(StringInfo string, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(string->data, string->maxlen, format, arguments);
	va_end(arguments);
}

void
appendStringInfoString(StringInfo string, const char *text)
{
	appendStringInfo(string, "%s", text);
}

void
appendStringInfoChar(StringInfo string, char character)
{
	appendStringInfo(string, "%c", character);
}

/* Buffers */

static int
buffer_block(Buffer buffer)
{
	int			block = -buffer - 1;

	FUZZ_REQUIRE(block >= 0 && block < npages && pins[block] > 0);
	return block;
}

Buffer
ReadBufferExtended(Relation reln, ForkNumber fork, BlockNumber block,
				   ReadBufferMode mode, BufferAccessStrategy strategy)
{
	FUZZ_REQUIRE(block != P_NEW);
	if (block >= npages)
		ereport(ERROR, (errmsg("could not read block %u", block)));
	pins[block]++;
	return -1 - (Buffer) block;
}

/* Like the server, but that asked to extend the relation we refuse. */
Buffer
ReadBuffer(Relation reln, BlockNumber block)
{
	return ReadBufferExtended(reln, MAIN_FORKNUM, block, RBM_NORMAL, NULL);
}

bool
ReadRecentBuffer(RelFileNode node, ForkNumber fork, BlockNumber block,
				 Buffer recent)
{
	return false;
}

BlockNumber
BufferGetBlockNumber(Buffer buffer)
{
	return buffer_block(buffer);
}

void
LockBuffer(Buffer buffer, int mode)
{
	int			block = buffer_block(buffer);

	if (mode == BUFFER_LOCK_UNLOCK)
	{
		FUZZ_REQUIRE(locks[block] > 0);
		locks[block]--;
		return;
	}

	/* a waiter in between would stop even the second of two share locks */
	FUZZ_REQUIRE(locks[block] == 0);
	locks[block]++;
}

void
ReleaseBuffer(Buffer buffer)
{
	pins[buffer_block(buffer)]--;
}

void
UnlockReleaseBuffer(Buffer buffer)
{
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	ReleaseBuffer(buffer);
}

void
MarkBufferDirty(Buffer buffer)
{
	FUZZ_REQUIRE(locks[buffer_block(buffer)] > 0);
}

BlockNumber
RelationGetNumberOfBlocksInFork(Relation reln, ForkNumber fork)
{
	return npages;
}

bool
RecoveryInProgress(void)
{
	return false;
}

void
PageInit(Page page, Size page_size, Size special_size)
{
	memset(page, 0, page_size);
	((PageHeader) page)->pd_lower = SizeOfPageHeaderData;
	((PageHeader) page)->pd_upper = page_size;
}

uint64		alex_database_birth_known = 1;

uint64
alex_database_learn_birth(void)
{
	return alex_database_birth_known;
}

/* There are no mapped pages here. */
AlexMapping *
alex_mapping_acquire(Relation index, uint64 incarnation)
{
	return NULL;
}
