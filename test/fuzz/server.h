/*-------------------------------------------------------------------------
 *
 * server.h
 *	  Stand-ins for the little of the server that the store's decoders and
 *	  redo call: buffers, memory, and errors.
 *
 * The relation has up to SERVER_PAGES pages, each a piece of memory of its
 * own.  Its buffers are local ones, buffer -1 - i for block i.  Who waits for
 * a lock that he holds himself would wait for ever: that ends the program.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_FUZZ_SERVER_H
#define ALEX_FUZZ_SERVER_H

#include "postgres.h"

#include "storage/bufmgr.h"
#include "utils/rel.h"

/* the server's headers put functions of its own in place of these */
#undef fprintf
#undef vsnprintf

#include "fuzz.h"

#define SERVER_PAGES		8

/* The relation's pages follow in the input: a byte with their number, then
 * for each two bytes with the length of what is given of it. */
extern Relation server_take_relation(FuzzInput *input);
extern Page server_page(BlockNumber block);

/*
 * Calls a function; false if it raised an error.  If it did not, it has left
 * no page locked or pinned.
 */
extern bool server_try(void (*function) (void *argument), void *argument);

#endif							/* ALEX_FUZZ_SERVER_H */
