/*-------------------------------------------------------------------------
 *
 * io_errors.c
 *	  Makes system calls of a server fail, as a broken device would.
 *
 * tap/io_errors compiles this into a library that is loaded into the server
 * by LD_PRELOAD.  As long as the file that IO_ERRORS names exists, its lines
 *
 *		CALL ERRNO PATH FIRST LAST
 *
 * say which calls fail.  CALL is "read" or "write"; PATH is the end of a
 * file's name (or, if it ends with a slash, a part of it); FIRST and LAST are
 * blocks of 8 kB.  Where a file is mapped into memory, blocks that cannot be
 * read are replaced by pages that lie beyond the end of a file: touching them
 * raises SIGBUS, as it does when the kernel cannot read a page.  A third CALL,
 * "allocate", makes no file of that name grow by posix_fallocate().
 *
 * Copyright (c) 2026, alexam contributors
 *
 * test/tap/io_errors.c
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define BLOCK		8192

/* One line of the file with the errors. */
typedef struct Rule
{
	char		call[16];
	int			error;
	char		path[PATH_MAX];
	long long	first;
	long long	last;
} Rule;

static bool
path_matches(const char *path, const char *pattern)
{
	size_t		length = strlen(path);
	size_t		pattern_length = strlen(pattern);

	if (pattern[pattern_length - 1] == '/')
		return strstr(path, pattern) != NULL;
	return length >= pattern_length &&
		strcmp(path + length - pattern_length, pattern) == 0;
}

/*
 * Finds the first rule for a call that touches these bytes of the file.
 */
static bool
find_rule(const char *call, int fd, long long offset, long long size,
		  Rule *rule)
{
	const char *name = getenv("IO_ERRORS");
	char		link[64];
	char		path[PATH_MAX];
	bool		found = false;
	ssize_t		length;
	FILE	   *file;

	if (name == NULL || access(name, R_OK) != 0)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length <= 0)
		return false;
	path[length] = '\0';

	file = fopen(name, "r");
	if (file == NULL)
		return false;
	while (!found &&
		   fscanf(file, "%15s %d %4095s %lld %lld", rule->call, &rule->error,
				  rule->path, &rule->first, &rule->last) == 5)
		found = strcmp(rule->call, call) == 0 &&
			path_matches(path, rule->path) &&
			offset < (rule->last + 1) * BLOCK &&
			offset + size > rule->first * BLOCK;
	fclose(file);
	return found;
}

/* True, with errno set, if the call is to fail. */
static bool
fails(const char *call, int fd, long long offset, long long size)
{
	int			save_errno = errno;
	Rule		rule;

	if (find_rule(call, fd, offset, size, &rule))
	{
		errno = rule.error;
		return true;
	}
	errno = save_errno;
	return false;
}

/* A function of the same name, with and without 64, that fails on demand. */
#define FAILING_IO(name, call, buffer_type) \
ssize_t \
name(int fd, buffer_type buffer, size_t size, off_t offset) \
{ \
	static ssize_t (*next) (int, buffer_type, size_t, off_t); \
	if (next == NULL) \
		*(void **) &next = dlsym(RTLD_NEXT, #name); \
	return fails(call, fd, offset, size) ? -1 : next(fd, buffer, size, offset); \
}

FAILING_IO(pread, "read", void *)
FAILING_IO(pread64, "read", void *)
FAILING_IO(pwrite, "write", const void *)
FAILING_IO(pwrite64, "write", const void *)

#define FAILING_ALLOCATION(name) \
int \
name(int fd, off_t offset, off_t size) \
{ \
	static int (*next) (int, off_t, off_t); \
	if (next == NULL) \
		*(void **) &next = dlsym(RTLD_NEXT, #name); \
	return fails("allocate", fd, offset, size) ? errno : next(fd, offset, size); \
}

FAILING_ALLOCATION(posix_fallocate)
FAILING_ALLOCATION(posix_fallocate64)

/* Lays pages that cannot be touched over the blocks that cannot be read. */
static void
spoil(char *base, size_t size, int fd, off_t offset)
{
	int			save_errno = errno;
	Rule		rule;

	if (base != MAP_FAILED && fd >= 0 &&
		find_rule("read", fd, offset, size, &rule))
	{
		long long	first = rule.first * BLOCK - offset;
		long long	last = (rule.last + 1) * BLOCK - offset;
		int			empty = memfd_create("empty", MFD_CLOEXEC);

		first = first < 0 ? 0 : first;
		last = last > (long long) size ? (long long) size : last;
		if (empty < 0 ||
			mmap(base + first, last - first, PROT_READ,
				 MAP_SHARED | MAP_FIXED, empty, 0) == MAP_FAILED)
			abort();
		close(empty);
	}
	errno = save_errno;
}

#define FAILING_MAPPING(name) \
void * \
name(void *address, size_t size, int protection, int flags, int fd, off_t offset) \
{ \
	static void *(*next) (void *, size_t, int, int, int, off_t); \
	void *base; \
	if (next == NULL) \
		*(void **) &next = dlsym(RTLD_NEXT, #name); \
	base = next(address, size, protection, flags, fd, offset); \
	if ((flags & MAP_FIXED) == 0) \
		spoil(base, size, fd, offset); \
	return base; \
}

FAILING_MAPPING(mmap)
FAILING_MAPPING(mmap64)
