/*-------------------------------------------------------------------------
 *
 * birth.c
 *	  Telling databases of one number apart.
 *
 * A database that is dropped and made anew with the same number, of the same
 * template, has the same relation files with the same incarnations, stamps and
 * manifest versions; but what the two have done since is not the same.  So has a
 * database that is moved to another tablespace and back.  Whatever shared memory
 * knows of a relation file must not be taken for that of its namesake (hazard
 * H10).  What is different is the file PG_VERSION in the database's directory:
 * it is written when the directory is made, here or in recovery, and never again.
 * (Where a file system keeps times in seconds, namesakes made in one second are
 * not told apart.)
 * Should somebody touch it, backends that have looked before and after take what
 * shared memory knows away from each other, which costs time only.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/store/birth.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "common/hashfn.h"
#include "miscadmin.h"

#include "alex/store.h"

uint64		alex_database_birth_known = 0;

uint64
alex_database_learn_birth(void)
{
	char		path[MAXPGPATH];
	struct stat status;
	uint64		parts[2];

	Assert(CritSectionCount == 0);

	/* whoever is connected keeps the database from being dropped or moved */
	snprintf(path, sizeof(path), "%s/PG_VERSION", DatabasePath);
	if (stat(path, &status) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", path)));

	/* not the inode, whose number is unstable in some file systems */
	parts[0] = status.st_mtime;
#if defined(__APPLE__)
	parts[1] = status.st_mtimespec.tv_nsec;
#else
	parts[1] = status.st_mtim.tv_nsec;
#endif
	alex_database_birth_known =
		hash_bytes_extended((unsigned char *) parts, sizeof(parts), 0) | 1;
	return alex_database_birth_known;
}
