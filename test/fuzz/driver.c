/*-------------------------------------------------------------------------
 *
 * driver.c
 *	  What a fuzz target is linked with where there is no libFuzzer: runs the
 *	  corpus, then random changes of it, which no coverage guides.
 *
 *	  TARGET [-max_total_time=SECONDS] [-OPTION=VALUE ...] DIRECTORY...
 *
 * libFuzzer's other options are accepted and mean nothing.  The input that
 * was last tried is in the file "last-input", which is what to look at after
 * a crash.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../unit/unit.h"

#define MAX_INPUTS		10000
#define MAX_SIZE		65536

static uint8_t *inputs[MAX_INPUTS];
static size_t sizes[MAX_INPUTS];
static int	ninputs;
static uint8_t *last;			/* mapped: it survives us */
static unsigned long nruns;

static void
read_input(const char *path)
{
	FILE	   *file = fopen(path, "rb");

	if (file == NULL || ninputs == MAX_INPUTS)
	{
		perror(path);
		exit(1);
	}
	inputs[ninputs] = malloc(MAX_SIZE);
	sizes[ninputs] = fread(inputs[ninputs], 1, MAX_SIZE, file);
	ninputs++;
	fclose(file);
}

static void
read_directory(const char *name)
{
	DIR		   *directory = opendir(name);
	struct dirent *entry;

	if (directory == NULL)
	{
		perror(name);
		exit(1);
	}
	while ((entry = readdir(directory)) != NULL)
	{
		char		path[4096];

		snprintf(path, sizeof(path), "%s/%s", name, entry->d_name);
		if (entry->d_name[0] != '.')
			read_input(path);
	}
	closedir(directory);
}

static void
run(const uint8_t *data, size_t size)
{
	uint8_t    *copy = malloc(size);

	memcpy(last, &size, sizeof(size));
	memcpy(last + sizeof(size), data, size);
	memcpy(copy, data, size);
	(void) LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	nruns++;
}

/* Changes some bytes, or bits, or exchanges a piece for one of another input. */
static size_t
mutate(uint8_t *data, size_t size, uint64_t *state)
{
	for (int n = 1 + (int) (unit_random(state) % 4); n > 0 && size > 0; n--)
	{
		uint64_t	choice = unit_random(state);
		size_t		at = unit_random(state) % size;
		int			other = (int) (unit_random(state) % (uint64_t) ninputs);

		if (choice % 4 == 0)
			data[at] ^= (uint8_t) (1 << (choice >> 8) % 8);
		else if (choice % 4 == 1)
			data[at] = (uint8_t) (choice >> 8);
		else if (choice % 4 == 2)
			data[at] = (choice >> 8) % 2 ? 0xFF : 0;
		else if (at < sizes[other])
		{
			size_t		length = 1 + (choice >> 8) % 64;

			if (length > size - at)
				length = size - at;
			if (length > sizes[other] - at)
				length = sizes[other] - at;
			memcpy(data + at, inputs[other] + at, length);
		}
	}
	return unit_random(state) % 16 == 0 ? unit_random(state) % (size + 1) : size;
}

int
main(int argc, char **argv)
{
	static uint8_t data[MAX_SIZE];
	uint64_t	state = 1;
	long		seconds = 0;
	time_t		start = time(NULL);
	int			file = open("last-input", O_RDWR | O_CREAT, 0666);

	if (file < 0 || ftruncate(file, sizeof(size_t) + MAX_SIZE) != 0)
	{
		perror("last-input");
		return 1;
	}
	last = mmap(NULL, sizeof(size_t) + MAX_SIZE, PROT_READ | PROT_WRITE,
				MAP_SHARED, file, 0);
	for (int i = 1; i < argc; i++)
	{
		if (argv[i][0] != '-')
			read_directory(argv[i]);
		else if (strncmp(argv[i], "-max_total_time=", 16) == 0)
			seconds = atol(argv[i] + 16);
	}

	for (int i = 0; i < ninputs; i++)
		run(inputs[i], sizes[i]);
	while (ninputs > 0 && time(NULL) - start < seconds)
	{
		int			which = (int) (unit_random(&state) % (uint64_t) ninputs);

		memcpy(data, inputs[which], sizes[which]);
		run(data, mutate(data, sizes[which], &state));
	}
	fprintf(stderr, "Done %lu runs\n", nruns);
	return 0;
}
