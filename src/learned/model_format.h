/*-------------------------------------------------------------------------
 *
 * model_format.h
 *	  The format of a model tree, shared by its trainer and its reader.
 *
 * A model tree is a sequence of 64-byte lines.  Line 0 is the root node and
 * also carries the tree's totals.  The lines after it hold the other nodes,
 * one a line, and the slots of inner nodes, sixteen line numbers a line.
 * Then come three parallel arrays with one element a fence:
 *
 *		keys	uint64			8 a line, the last line padded with UINT64_MAX
 *		TIDs	uint64			8 a line, padded with zeros
 *		places	AlexModelPlace	4 a line, padded with zeros
 *
 * A data node is a range of fences.  An inner node maps a key to one of its
 * slots by computation alone, and a slot names the line of a node; slots next
 * to each other may name the same node.  In tree order the data nodes cover
 * all fences without gaps.
 *
 * Lines are stored on pages of ALEX_MODEL_PAGE_LINES lines, each after a
 * header of one line.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/model_format.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_MODEL_FORMAT_H
#define ALEX_MODEL_FORMAT_H

#include "alex/learned.h"

/* Levels of nodes, the data node included. */
#define ALEX_MODEL_MAX_DEPTH	5

#define ALEX_MODEL_DATA			1
#define ALEX_MODEL_INNER		2

#define ALEX_MODEL_LINEAR		0
#define ALEX_MODEL_LOGARITHMIC	1

/*
 * A node, and in line 0 the tree's totals as well (zero in other nodes).
 *
 * The predicted position of a key is
 *
 *		delta = key - base, or zero if key is less
 *		delta = alex_model_logarithm(delta), if the curve is logarithmic
 *		delta = the lesser of delta and span
 *		(intercept + high half of ((delta << shift) * multiplier)) >> 32
 *
 * or zero if that is negative.  Intercept and result have 32 fraction bits;
 * shift brings span's highest bit to the top, which gives the multiplier its
 * precision.  The position never decreases as the key grows.  All arithmetic
 * is on integers, so that no key, however odd, can lead to an infinity or to
 * a rounding that differs between the trainer and a reader.
 *
 * The logarithmic curve is for keys whose gaps widen all along, as those of
 * sizes, prices or popularities do: it takes the place of several levels of
 * linear inner nodes.
 */
typedef struct AlexModelNode
{
	uint64_t	base;			/* 0 */
	uint64_t	span;			/* 8 */
	uint64_t	multiplier;		/* 16 */
	int64_t		intercept;		/* 24: zero in inner nodes */
	uint32_t	first;			/* 32: data: first fence; inner: line of slots */
	uint32_t	count;			/* 36: data: fences; inner: slots, 2^n */
	uint16_t	kind;			/* 40: ALEX_MODEL_DATA or ALEX_MODEL_INNER */
	uint8_t		shift;			/* 42 */
	uint8_t		curve;			/* 43: linear or logarithmic */
	uint32_t	nlines;			/* 44: of the tree */
	uint32_t	nfences;		/* 48 */
	uint32_t	first_key_line; /* 52 */
	uint64_t	unused;			/* 56: zero */
} AlexModelNode;

/* Where the page of a fence is, and what is on it. */
typedef struct AlexModelPlace
{
	uint64_t	stamp;
	uint32_t	block;
	uint32_t	entries;
} AlexModelPlace;

#define ALEX_MODEL_LINE_SLOTS	16
#define ALEX_MODEL_LINE_KEYS	8
#define ALEX_MODEL_LINE_PLACES	4

typedef union AlexModelLine
{
	AlexModelNode node;
	uint32_t	slots[ALEX_MODEL_LINE_SLOTS];
	uint64_t	keys[ALEX_MODEL_LINE_KEYS];
	uint64_t	tids[ALEX_MODEL_LINE_KEYS];
	AlexModelPlace places[ALEX_MODEL_LINE_PLACES];
} AlexModelLine;

/* The first 64 bytes of a model page. */
typedef struct AlexModelPageHeader
{
	AlexPageHeader header;		/* 0 */
	uint32_t	number;			/* 48: of this page within the tree */
	uint32_t	nlines;			/* 52: of the tree */
	uint64_t	unused;			/* 56: zero */
} AlexModelPageHeader;

_Static_assert(sizeof(AlexModelNode) == ALEX_LINE_SIZE,
			   "a node is one line");
_Static_assert(sizeof(AlexModelPlace) == 16, "four places fill a line");
_Static_assert(sizeof(AlexModelLine) == ALEX_LINE_SIZE,
			   "all kinds of lines have one size");
_Static_assert(sizeof(AlexModelPageHeader) == ALEX_LINE_SIZE,
			   "the header of a page is one line");

/*
 * Lines of the array of keys, and of that of TIDs.  Never just one, since a
 * search begins by looking at two.
 */
static inline uint32_t
alex_model_key_lines(uint32_t nfences)
{
	return nfences <= 2 * ALEX_MODEL_LINE_KEYS ? 2 :
		(nfences - 1) / ALEX_MODEL_LINE_KEYS + 1;
}

/* Lines of all three arrays. */
static inline uint32_t
alex_model_fence_lines(uint32_t nfences)
{
	return 2 * alex_model_key_lines(nfences) +
		nfences / ALEX_MODEL_LINE_PLACES +
		(nfences % ALEX_MODEL_LINE_PLACES != 0);
}

/*
 * The first of the two lines of keys that a search for a key predicted at
 * that position looks at: they have at least four keys on either side of it,
 * as far as there are so many.
 */
static inline uint32_t
alex_model_window(uint32_t predicted, uint32_t nlines)
{
	uint32_t	line = predicted / ALEX_MODEL_LINE_KEYS +
		predicted / (ALEX_MODEL_LINE_KEYS / 2) % 2;

	line = line < nlines ? line : nlines - 1;
	return line > 0 ? line - 1 : 0;
}

static inline uint64_t
alex_multiply_high(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
	return (uint64_t) (((unsigned __int128) a * b) >> 64);
#else
	uint64_t	a_low = a & 0xFFFFFFFF;
	uint64_t	a_high = a >> 32;
	uint64_t	b_low = b & 0xFFFFFFFF;
	uint64_t	b_high = b >> 32;
	uint64_t	middle1 = a_high * b_low + ((a_low * b_low) >> 32);
	uint64_t	middle2 = a_low * b_high + (middle1 & 0xFFFFFFFF);

	return a_high * b_high + (middle1 >> 32) + (middle2 >> 32);
#endif
}

/* Leading zero bits of a number that is not zero. */
static inline int
alex_leading_zeros(uint64_t value)
{
#ifdef __GNUC__
	return __builtin_clzll(value);
#else
	int			zeros = 0;

	for (; (value >> 63) == 0; value <<= 1)
		zeros++;
	return zeros;
#endif
}

/*
 * The binary logarithm with 58 fraction bits, linear between powers of two;
 * zero for 0 and 1.
 */
static inline uint64_t
alex_model_logarithm(uint64_t value)
{
	int			zeros = alex_leading_zeros(value | 1);

	return ((uint64_t) (63 - zeros) << 58) + ((value << zeros << 1) >> 6);
}

/* A key on the scale of a node's model, before span limits it. */
static inline uint64_t
alex_model_scale(const AlexModelNode *node, uint64_t key)
{
	uint64_t	delta = key > node->base ? key - node->base : 0;

	if (node->curve == ALEX_MODEL_LOGARITHMIC)
		delta = alex_model_logarithm(delta);
	return delta;
}

/*
 * Where a node's model puts a key: for a data node the distance from its
 * first fence, for an inner node the slot.  Either may be too large.
 */
static inline uint32_t
alex_model_predict(const AlexModelNode *node, uint64_t key)
{
	uint64_t	delta = alex_model_scale(node, key);
	int64_t		position;

	delta = delta < node->span ? delta : node->span;
	delta <<= node->shift & 63;
	position = (int64_t) ((uint64_t) node->intercept +
						  alex_multiply_high(delta, node->multiplier));
	return position > 0 ? (uint32_t) (position >> 32) : 0;
}

/* The slot of a key in an inner node. */
static inline uint32_t
alex_model_slot(const AlexModelNode *node, uint64_t key)
{
	uint32_t	slot = alex_model_predict(node, key);

	return slot < node->count ? slot : node->count - 1;
}

/* The predicted number of fences with a key less than this one. */
static inline uint32_t
alex_model_position(const AlexModelNode *node, uint64_t key, uint32_t nfences)
{
	uint64_t	position = (uint64_t) node->first +
		alex_model_predict(node, key);

	return position < nfences ? (uint32_t) position : nfences - 1;
}

#endif							/* ALEX_MODEL_FORMAT_H */
