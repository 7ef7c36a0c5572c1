/*-------------------------------------------------------------------------
 *
 * model.c
 *	  Reading a model tree: lookup of fences, pages, and the checker.
 *
 * A lookup descends from the root to a data node, whose model predicts the
 * number of a fence, and searches the array of all fence keys from there,
 * line by line, in steps that double.  The array is sorted, so the search
 * needs no bounds of the node: a key that lies between the last fence of one
 * node and the first of the next is found from either of them, and a model
 * that is wrong costs time, never the result.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/model.c
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "alex/learned.h"
#include "model_format.h"

/*
 * The lookup is compiled twice, for mapped pages and for pages handed out by
 * get_page; only inlining everything into each of the two gets rid of the
 * distinction.
 */
#if defined(__GNUC__)
#define ALEX_MODEL_INLINE		inline __attribute__((always_inline))
#define ALEX_MODEL_PREFETCH(address) __builtin_prefetch(address)
#else
#define ALEX_MODEL_INLINE		inline
#define ALEX_MODEL_PREFETCH(address) ((void) 0)
#endif

/* A tree that is being read, with what the lookup needs of its totals. */
typedef struct ModelReader
{
	const AlexModelSource *source;
	uint32_t	nfences;
	uint32_t	first_key_line;
} ModelReader;

static ALEX_MODEL_INLINE const AlexModelLine *
model_line(const AlexModelSource *source, uint32_t line, bool mapped)
{
	uint32_t	page = line / ALEX_MODEL_PAGE_LINES;

	/* Each page up to this one has a line of header. */
	if (mapped)
		return (const AlexModelLine *) (source->first_page) +
			((size_t) line + page + 1);

	return (const AlexModelLine *) source->get_page(source->context, page) +
		(line - page * ALEX_MODEL_PAGE_LINES + 1);
}

/* The same for callers that are not in a hurry. */
static const AlexModelLine *
model_any_line(const AlexModelSource *source, uint32_t line)
{
	return model_line(source, line, source->first_page != NULL);
}

/*
 * Are there fences, and do their arrays lie within the tree?  It is asked at
 * each lookup, since the tree's pages may have been read anew from a damaged
 * disk after they were verified.
 */
static inline bool
model_has_fences(const AlexModelSource *source, const AlexModelNode *root)
{
	return root->nfences > 0 &&
		(uint64_t) root->first_key_line +
		alex_model_fence_lines(root->nfences) <= source->nlines;
}

static ALEX_MODEL_INLINE const uint64_t *
key_line(const ModelReader *reader, uint32_t line, bool mapped)
{
	return model_line(reader->source, reader->first_key_line + line,
					  mapped)->keys;
}

static ALEX_MODEL_INLINE uint64_t
fence_key(const ModelReader *reader, uint32_t fence, bool mapped)
{
	return key_line(reader, fence / ALEX_MODEL_LINE_KEYS,
					mapped)[fence % ALEX_MODEL_LINE_KEYS];
}

static ALEX_MODEL_INLINE uint64_t
fence_tid(const ModelReader *reader, uint32_t fence, bool mapped)
{
	uint32_t	first_tid_line = reader->first_key_line +
		alex_model_key_lines(reader->nfences);

	return model_line(reader->source,
					  first_tid_line + fence / ALEX_MODEL_LINE_KEYS,
					  mapped)->tids[fence % ALEX_MODEL_LINE_KEYS];
}

/* The line of a fence's place. */
static ALEX_MODEL_INLINE const AlexModelLine *
place_line(const ModelReader *reader, uint32_t fence)
{
	return model_line(reader->source,
					  reader->first_key_line +
					  2 * alex_model_key_lines(reader->nfences) +
					  fence / ALEX_MODEL_LINE_PLACES, true);
}

/*
 * How many of a line's keys are less than key.  Counting all eight has no
 * branch that could be predicted wrongly.  The padding after the last fence
 * is never less than any key.
 */
static ALEX_MODEL_INLINE uint32_t
count_less(const uint64_t *keys, uint64_t key)
{
	return ((uint32_t) (keys[0] < key) + (uint32_t) (keys[1] < key)) +
		((uint32_t) (keys[2] < key) + (uint32_t) (keys[3] < key)) +
		((uint32_t) (keys[4] < key) + (uint32_t) (keys[5] < key)) +
		((uint32_t) (keys[6] < key) + (uint32_t) (keys[7] < key));
}

/*
 * The last of the lines [low, high) that begins with a key less than the
 * given one, or low.  Mispredicted branches would cost more than the loads.
 */
static ALEX_MODEL_INLINE uint32_t
search_lines(const ModelReader *reader, uint32_t low, uint32_t high,
			 uint64_t key, bool mapped)
{
	uint32_t	count = high - low;

	while (count > 1)
	{
		uint32_t	half = count / 2;
		bool		less = key_line(reader, low + half, mapped)[0] < key;

		low += half & -(uint32_t) less;
		count -= half;
	}
	return low;
}

/*
 * The last line that begins with a key less than the given one, sought to
 * the left of "line", which does not; line 0 if none does.
 */
static uint32_t
search_left(const ModelReader *reader, uint32_t line, uint64_t key,
			bool mapped)
{
	uint32_t	high = line;
	uint32_t	low = 0;

	for (uint32_t step = 1; step < high; step *= 2)
	{
		if (key_line(reader, high - step, mapped)[0] < key)
		{
			low = high - step;
			break;
		}
		high -= step;
	}
	return search_lines(reader, low, high, key, mapped);
}

/* The same to the right of "line", which does begin with a lesser key. */
static uint32_t
search_right(const ModelReader *reader, uint32_t line, uint64_t key,
			 bool mapped)
{
	uint32_t	low = line;
	uint32_t	high = alex_model_key_lines(reader->nfences);

	for (uint32_t step = 1; step < high - low; step *= 2)
	{
		if (!(key_line(reader, low + step, mapped)[0] < key))
		{
			high = low + step;
			break;
		}
		low += step;
	}
	return search_lines(reader, low, high, key, mapped);
}

/* The number of fences with a key less than the given one. */
static ALEX_MODEL_INLINE uint32_t
search_keys(const ModelReader *reader, uint32_t predicted, uint64_t key,
			bool mapped)
{
	uint32_t	nlines = alex_model_key_lines(reader->nfences);
	uint32_t	line = alex_model_window(predicted, nlines);
	const uint64_t *keys1 = key_line(reader, line, mapped);
	const uint64_t *keys2 = key_line(reader, line + 1, mapped);

	if (keys1[0] < key &&
		(keys2[ALEX_MODEL_LINE_KEYS - 1] >= key || line + 2 == nlines))
		return line * ALEX_MODEL_LINE_KEYS +
			count_less(keys1, key) + count_less(keys2, key);

	if (keys1[0] < key)
		line = search_right(reader, line + 1, key, mapped);
	else
		line = search_left(reader, line, key, mapped);
	return line * ALEX_MODEL_LINE_KEYS +
		count_less(key_line(reader, line, mapped), key);
}

/*
 * The first fence after "fence", which is <= (key, tid) and has that key,
 * that is greater than (key, tid).
 */
static uint32_t
search_tids(const ModelReader *reader, uint32_t fence, uint64_t key,
			uint64_t tid, bool mapped)
{
	uint32_t	low = fence;
	uint32_t	high = reader->nfences;

	for (uint32_t step = 1; step < high - low; step *= 2)
	{
		if (fence_key(reader, low + step, mapped) != key ||
			fence_tid(reader, low + step, mapped) > tid)
		{
			high = low + step;
			break;
		}
		low += step;
	}

	while (high - low > 1)
	{
		uint32_t	middle = low + (high - low) / 2;

		if (fence_key(reader, middle, mapped) != key ||
			fence_tid(reader, middle, mapped) > tid)
			high = middle;
		else
			low = middle;
	}
	return high;
}

static ALEX_MODEL_INLINE uint32_t
model_find(const AlexModelSource *source, uint64_t key, uint64_t tid,
		   bool mapped)
{
	const AlexModelNode *node = &model_line(source, 0, mapped)->node;
	ModelReader reader;
	uint32_t	fence;

	if (!model_has_fences(source, node))
		return 0;
	reader.source = source;
	reader.nfences = node->nfences;
	reader.first_key_line = node->first_key_line;

	for (int depth = 1; node->kind == ALEX_MODEL_INNER; depth++)
	{
		uint32_t	slot = alex_model_slot(node, key);
		uint64_t	slot_line = (uint64_t) node->first +
			slot / ALEX_MODEL_LINE_SLOTS;
		uint32_t	child;

		if (slot_line >= reader.first_key_line ||
			depth == ALEX_MODEL_MAX_DEPTH)
			return 0;
		child = model_line(source, (uint32_t) slot_line,
						   mapped)->slots[slot % ALEX_MODEL_LINE_SLOTS];
		if (child >= reader.first_key_line)
			return 0;
		node = &model_line(source, child, mapped)->node;
	}

	fence = search_keys(&reader,
						alex_model_position(node, key, reader.nfences),
						key, mapped);

	/*
	 * Most keys that are looked up are not the key of a fence, and for most
	 * of the others the TID asked for is the least possible one.
	 */
	if (fence < reader.nfences &&
		fence_key(&reader, fence, mapped) == key &&
		fence_tid(&reader, fence, mapped) <= tid)
		fence = search_tids(&reader, fence, key, tid, mapped);

	/* if the padding is damaged, it may count as well */
	if (fence > reader.nfences)
		fence = reader.nfences;
	return fence > 0 ? fence - 1 : 0;
}

uint32_t
alex_model_find(const AlexModelSource *source, uint64_t key, uint64_t tid)
{
	if (source->first_page != NULL)
		return model_find(source, key, tid, true);
	return model_find(source, key, tid, false);
}

/*
 * Descends one level with each key whose node is an inner one.  Returns false
 * if there was none.  numbers[] is working space.
 */
static bool
descend_group(const ModelReader *reader, const uint64_t *keys, int nkeys,
			  const AlexModelNode **nodes, uint32_t *numbers, int depth)
{
	bool		any = false;

	for (int i = 0; i < nkeys; i++)
	{
		uint64_t	line;

		if (nodes[i] == NULL || nodes[i]->kind != ALEX_MODEL_INNER)
			continue;
		any = true;
		numbers[i] = alex_model_slot(nodes[i], keys[i]);
		line = (uint64_t) nodes[i]->first + numbers[i] / ALEX_MODEL_LINE_SLOTS;
		if (line >= reader->first_key_line || depth == ALEX_MODEL_MAX_DEPTH)
			nodes[i] = NULL;
		else
			ALEX_MODEL_PREFETCH(model_line(reader->source, (uint32_t) line,
										   true));
	}
	for (int i = 0; any && i < nkeys; i++)
	{
		uint32_t	line;
		uint32_t	child;

		if (nodes[i] == NULL || nodes[i]->kind != ALEX_MODEL_INNER)
			continue;
		line = nodes[i]->first + numbers[i] / ALEX_MODEL_LINE_SLOTS;
		child = model_line(reader->source, line,
						   true)->slots[numbers[i] % ALEX_MODEL_LINE_SLOTS];
		nodes[i] = child >= reader->first_key_line ? NULL :
			&model_line(reader->source, child, true)->node;
		ALEX_MODEL_PREFETCH(nodes[i]);
	}
	return any;
}

void
alex_model_find_group(const AlexModelSource *source, const uint64_t *keys,
					  int nkeys, uint32_t *numbers)
{
	const AlexModelNode *root = &model_line(source, 0, true)->node;
	const AlexModelNode *nodes[ALEX_MODEL_GROUP];
	uint32_t	nlines;
	ModelReader reader;

	memset(numbers, 0, (size_t) nkeys * sizeof(*numbers));
	if (!model_has_fences(source, root))
		return;
	reader.source = source;
	reader.nfences = root->nfences;
	reader.first_key_line = root->first_key_line;
	nlines = alex_model_key_lines(reader.nfences);

	for (int i = 0; i < nkeys; i++)
		nodes[i] = root;
	for (int depth = 1;
		 descend_group(&reader, keys, nkeys, nodes, numbers, depth); depth++)
		;
	for (int i = 0; i < nkeys; i++)
	{
		uint32_t	line;

		if (nodes[i] == NULL)
			continue;
		numbers[i] = alex_model_position(nodes[i], keys[i], reader.nfences);
		line = alex_model_window(numbers[i], nlines);
		ALEX_MODEL_PREFETCH(key_line(&reader, line, true));
		ALEX_MODEL_PREFETCH(key_line(&reader, line + 1, true));
	}
	for (int i = 0; i < nkeys; i++)
	{
		uint32_t	fence = 0;

		if (nodes[i] != NULL)
			fence = search_keys(&reader, numbers[i], keys[i], true);
		numbers[i] = fence > 0 ? fence - 1 : 0;
		ALEX_MODEL_PREFETCH(place_line(&reader, numbers[i]));
	}
}

uint32_t
alex_model_nfences(const AlexModelSource *source)
{
	const AlexModelNode *root = &model_any_line(source, 0)->node;

	return model_has_fences(source, root) ? root->nfences : 0;
}

/*
 * Fills in the place of a fence, if there is such a fence; *reader is then
 * ready for its key and TID.
 */
static bool
read_place(const AlexModelSource *source, uint32_t number, AlexFence *fence,
		   ModelReader *reader)
{
	const AlexModelNode *root = &model_any_line(source, 0)->node;
	const AlexModelPlace *place;
	uint32_t	first_place_line;

	if (!model_has_fences(source, root) || number >= root->nfences)
	{
		memset(fence, 0, sizeof(*fence));
		return false;
	}
	reader->source = source;
	reader->nfences = root->nfences;
	reader->first_key_line = root->first_key_line;
	first_place_line = reader->first_key_line +
		2 * alex_model_key_lines(reader->nfences);

	place = &model_any_line(source,
							first_place_line + number / ALEX_MODEL_LINE_PLACES)
		->places[number % ALEX_MODEL_LINE_PLACES];
	fence->stamp = place->stamp;
	fence->block = place->block;
	fence->entries = place->entries;
	return true;
}

void
alex_model_place(const AlexModelSource *source, uint32_t number,
				 AlexFence *fence)
{
	ModelReader reader;

	(void) read_place(source, number, fence, &reader);
}

double
alex_model_fraction(const AlexModelSource *source, uint32_t number,
					uint64_t key)
{
	const AlexModelNode *root = &model_any_line(source, 0)->node;
	bool		mapped = source->first_page != NULL;
	ModelReader reader;
	uint64_t	first;
	uint64_t	next;

	if (!model_has_fences(source, root) || number + 1 >= root->nfences)
		return 0;
	reader.source = source;
	reader.nfences = root->nfences;
	reader.first_key_line = root->first_key_line;

	first = fence_key(&reader, number, mapped);
	next = fence_key(&reader, number + 1, mapped);
	return key > first && key < next ?
		(double) (key - first) / (double) (next - first) : 0;
}

void
alex_model_fence(const AlexModelSource *source, uint32_t number,
				 AlexFence *fence)
{
	ModelReader reader;

	if (!read_place(source, number, fence, &reader))
		return;
	fence->key = fence_key(&reader, number, source->first_page != NULL);
	fence->tid = fence_tid(&reader, number, source->first_page != NULL);
}

uint32_t
alex_model_pages(uint32_t nlines)
{
	return nlines / ALEX_MODEL_PAGE_LINES +
		(nlines % ALEX_MODEL_PAGE_LINES != 0);
}

void
alex_model_page(void *page, uint64_t stamp, uint32_t number,
				const void *lines, uint32_t nlines)
{
	AlexModelPageHeader *header = (AlexModelPageHeader *) page;
	uint32_t	first = number * ALEX_MODEL_PAGE_LINES;
	uint32_t	count = nlines - first;
	size_t		bytes;

	if (count > ALEX_MODEL_PAGE_LINES)
		count = ALEX_MODEL_PAGE_LINES;
	bytes = (size_t) count * ALEX_LINE_SIZE;

	header->header.stamp = stamp;
	header->header.kind = ALEX_PAGE_MODEL;
	header->header.version = ALEX_SEALED_VERSION;
	header->header.ndead = 0;
	header->header.unused = 0;
	header->number = number;
	header->nlines = nlines;
	header->unused = 0;
	memcpy((char *) page + ALEX_LINE_SIZE,
		   (const char *) lines + (size_t) first * ALEX_LINE_SIZE, bytes);
	memset((char *) page + ALEX_LINE_SIZE + bytes, 0,
		   ALEX_PAGE_SIZE - ALEX_LINE_SIZE - bytes);
	header->header.hash = alex_page_hash(page, stamp, ALEX_PAGE_SIZE);
}

/* A walk over the nodes of a tree that is being checked. */
typedef struct ModelWalk
{
	const AlexModelSource *source;
	uint32_t	nfences;
	uint32_t	first_key_line;
	uint32_t	next_fence;		/* the first fence not covered yet */
} ModelWalk;

static const char *
check_model(const AlexModelNode *node)
{
	const int64_t limit = INT64_C(1) << 62;

	if (node->curve != ALEX_MODEL_LINEAR &&
		node->curve != ALEX_MODEL_LOGARITHMIC)
		return "model node has an unknown curve";
	if (node->shift != (node->span == 0 ? 0 : alex_leading_zeros(node->span)))
		return "model node's shift does not fit its span";
	if (node->multiplier > (uint64_t) limit ||
		node->intercept > limit || node->intercept < -limit)
		return "model node's line is too steep or too far out";
	if (node->unused != 0)
		return "unused part of a model node is not zero";
	return NULL;
}

static const char *check_node(ModelWalk *walk, uint32_t line, int depth);

/*
 * Checks the slots and the children of an inner node.  The slots never go
 * back to an earlier child, and children come after their parents: so the
 * walk ends.
 */
static const char *
check_children(ModelWalk *walk, const AlexModelNode *node, uint32_t line,
			   int depth)
{
	uint32_t	last_child = line;
	uint64_t	end_line;

	if (depth == ALEX_MODEL_MAX_DEPTH)
		return "model tree is too deep";
	if (node->intercept != 0)
		return "inner model node has an intercept";
	if (node->count < 2 || (node->count & (node->count - 1)) != 0)
		return "inner model node's slots are not a power of two";
	end_line = (uint64_t) node->first +
		(node->count - 1) / ALEX_MODEL_LINE_SLOTS + 1;
	if (node->first <= line || end_line > walk->first_key_line)
		return "inner model node's slots are not within the nodes";

	for (uint32_t i = 0; i < node->count; i += ALEX_MODEL_LINE_SLOTS)
	{
		uint32_t	slot_line = node->first + i / ALEX_MODEL_LINE_SLOTS;
		AlexModelLine slots = *model_any_line(walk->source, slot_line);

		for (uint32_t j = 0; j < ALEX_MODEL_LINE_SLOTS; j++)
		{
			const char *error;

			if (i + j >= node->count)
			{
				if (slots.slots[j] != 0)
					return "padding of model slots is not zero";
				continue;
			}
			if (slots.slots[j] == last_child)
				continue;
			if (slots.slots[j] < last_child ||
				slots.slots[j] >= walk->first_key_line)
				return "model slot names a line that cannot be its child";
			last_child = slots.slots[j];
			error = check_node(walk, last_child, depth + 1);
			if (error != NULL)
				return error;
		}
	}
	return last_child == line ? "inner model node has no child" : NULL;
}

static const char *
check_node(ModelWalk *walk, uint32_t line, int depth)
{
	AlexModelNode node = model_any_line(walk->source, line)->node;
	const char *error = check_model(&node);

	if (error != NULL)
		return error;
	if (line != 0 &&
		(node.nlines != 0 || node.nfences != 0 || node.first_key_line != 0))
		return "model node other than the root has totals";

	if (node.kind == ALEX_MODEL_INNER)
		return check_children(walk, &node, line, depth);
	if (node.kind != ALEX_MODEL_DATA)
		return "model node is of an unknown kind";
	if (node.first != walk->next_fence)
		return "model data node does not begin where the last one ended";
	if (node.count == 0 || node.count > walk->nfences - walk->next_fence)
		return "model data node has a wrong number of fences";
	walk->next_fence += node.count;
	return NULL;
}

/* Checks the order of the fences, and the padding after them. */
static const char *
check_fences(const AlexModelSource *source, uint32_t nfences,
			 uint32_t first_key_line)
{
	uint32_t	key_lines = alex_model_key_lines(nfences);
	uint32_t	first_place_line = first_key_line + 2 * key_lines;
	uint64_t	last_key = 0;
	uint64_t	last_tid = 0;
	uint32_t	fence = 0;

	for (uint32_t i = 0; i < key_lines; i++)
	{
		AlexModelLine keys = *model_any_line(source, first_key_line + i);
		AlexModelLine tids = *model_any_line(source,
											 first_key_line + key_lines + i);

		for (int j = 0; j < ALEX_MODEL_LINE_KEYS; j++, fence++)
		{
			if (fence >= nfences)
			{
				if (keys.keys[j] != UINT64_MAX || tids.tids[j] != 0)
					return "padding of model fences is wrong";
				continue;
			}
			if (fence > 0 && alex_compare(last_key, last_tid,
										  keys.keys[j], tids.tids[j]) >= 0)
				return "model fences are out of order";
			last_key = keys.keys[j];
			last_tid = tids.tids[j];
		}
	}

	for (uint32_t i = nfences; i % ALEX_MODEL_LINE_PLACES != 0; i++)
	{
		uint32_t	line = first_place_line + i / ALEX_MODEL_LINE_PLACES;
		AlexModelPlace place = model_any_line(source, line)
			->places[i % ALEX_MODEL_LINE_PLACES];

		if (place.stamp != 0 || place.block != 0 || place.entries != 0)
			return "padding of model places is not zero";
	}
	return NULL;
}

const char *
alex_model_check(const AlexModelSource *source, uint32_t nlines,
				 uint32_t nfences)
{
	AlexModelNode root;
	ModelWalk	walk;
	const char *error;

	if (nlines == 0 || nfences == 0)
		return "model tree is empty";
	if (nlines != source->nlines)
		return "model tree has another number of lines";
	root = model_any_line(source, 0)->node;
	if (root.nlines != nlines)
		return "model root has a wrong number of lines";
	if (root.nfences != nfences)
		return "model root has a wrong number of fences";
	if (root.first_key_line == 0 ||
		(uint64_t) root.first_key_line +
		alex_model_fence_lines(nfences) != nlines)
		return "model fences do not fill the end of the tree";

	walk.source = source;
	walk.nfences = nfences;
	walk.first_key_line = root.first_key_line;
	walk.next_fence = 0;
	error = check_node(&walk, 0, 1);
	if (error != NULL)
		return error;
	if (walk.next_fence != nfences)
		return "model data nodes do not cover all fences";

	error = check_fences(source, nfences, root.first_key_line);
	if (error != NULL)
		return error;

	for (uint32_t i = 0; i < nfences; i++)
	{
		AlexFence	fence;

		alex_model_fence(source, i, &fence);
		if (alex_model_find(source, fence.key, fence.tid) != i)
			return "model fence is not found from its own key";
	}
	return NULL;
}
