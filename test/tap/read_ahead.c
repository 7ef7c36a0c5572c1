/*-------------------------------------------------------------------------
 *
 * read_ahead.c
 *	  Writes down which blocks of mapped files a server asks for.
 *
 * tap/read_ahead compiles this into a library that is loaded into the server
 * by LD_PRELOAD.  For each madvise(MADV_WILLNEED) within a mapped file a line
 *
 *		PATH FIRST COUNT
 *
 * is appended to the file that READ_AHEAD_LOG names, with FIRST and COUNT in
 * blocks of 8 kB.  As long as the file that READ_AHEAD_FAILS names exists,
 * these calls fail.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * test/tap/read_ahead.c
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK			8192
#define MAX_MAPPINGS	1024

typedef struct Mapping
{
	char	   *base;
	size_t		size;
	char		path[PATH_MAX];
} Mapping;

/* A later one at the same address is looked at first. */
static Mapping mappings[MAX_MAPPINGS];
static int	nmappings = 0;

static void
remember(char *base, size_t size, int fd)
{
	Mapping    *mapping = &mappings[nmappings];
	char		link[64];
	ssize_t		length;

	if (nmappings == MAX_MAPPINGS)
		abort();
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, mapping->path, sizeof(mapping->path) - 1);
	if (length <= 0)
		return;
	mapping->path[length] = '\0';
	mapping->base = base;
	mapping->size = size;
	nmappings++;
}

#define REMEMBERED_MAPPING(name) \
void * \
name(void *address, size_t size, int protection, int flags, int fd, off_t offset) \
{ \
	static void *(*next) (void *, size_t, int, int, int, off_t); \
	void *base; \
	if (next == NULL) \
		*(void **) &next = dlsym(RTLD_NEXT, #name); \
	base = next(address, size, protection, flags, fd, offset); \
	if (base != MAP_FAILED && fd >= 0 && (flags & MAP_SHARED) != 0 && \
		offset == 0) \
		remember(base, size, fd); \
	return base; \
}

REMEMBERED_MAPPING(mmap)
REMEMBERED_MAPPING(mmap64)

static void
write_down(char *address, size_t size)
{
	const char *name = getenv("READ_AHEAD_LOG");
	char		line[PATH_MAX + 64];
	int			length;
	int			fd;

	for (int i = nmappings - 1; i >= 0; i--)
	{
		Mapping    *mapping = &mappings[i];

		if (address < mapping->base ||
			address + size > mapping->base + mapping->size)
			continue;
		length = snprintf(line, sizeof(line), "%s %zu %zu\n", mapping->path,
						  (size_t) (address - mapping->base) / BLOCK,
						  size / BLOCK);
		fd = open(name, O_WRONLY | O_APPEND | O_CREAT, 0600);
		if (fd < 0 || write(fd, line, length) != length)
			abort();
		close(fd);
		return;
	}
	/* what is not a whole mapped range is nothing to be asked for */
	abort();
}

int
madvise(void *address, size_t size, int advice)
{
	static int	(*next) (void *, size_t, int);
	const char *fails = getenv("READ_AHEAD_FAILS");

	if (next == NULL)
		*(void **) &next = dlsym(RTLD_NEXT, "madvise");
	if (advice == MADV_WILLNEED)
	{
		write_down(address, size);
		if (access(fails, F_OK) == 0)
		{
			errno = EIO;
			return -1;
		}
	}
	return next(address, size, advice);
}
