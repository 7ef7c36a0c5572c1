/*-------------------------------------------------------------------------
 *
 * model_train.c
 *	  Training of model trees, in one batch, from the top down.
 *
 * Each node is first a range of fences.  It becomes a data node, or an inner
 * node with a power-of-two number of slots, whatever is expected to make
 * lookups cheaper.  The prices below are nanoseconds on a machine of 2023;
 * only their ratios matter.
 *
 * What an inner node would cost is estimated from a sample of fences: for
 * each of them the slot that it would fall into, and how well a model would
 * do in the data node there.  So an estimate takes about the same time
 * however many fences there are, and the whole training little more than two
 * passes over the fences for each level of the tree.
 *
 * There must be at least one fence.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/model_train.c
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <string.h>

#include "alex/learned.h"
#include "model_format.h"

/* Descending through an inner node: its line and a line of slots. */
#define PRICE_INNER			15.0
/* The answer is not in the two lines predicted. */
#define PRICE_WRONG_LINE	14.0
/* Each doubling of the distance to it: one step out, one step back. */
#define PRICE_DOUBLING		10.0
/*
 * Each further line of keys looked at, when the keys of all fences do not
 * fit into the caches near a processor.
 */
#define PRICE_FAR_LINE		10.0
/*
 * One more line of nodes or slots for each fence: such lines push others out
 * of the caches.
 */
#define PRICE_LINE			256.0

/* Fewer fences than this are not worth a node of their own. */
#define SMALL_NODE			64

/* More fences than this count as far away. */
#define NEAR_FENCES			(128 * 1024)

/* Fences that a fit and the estimate of its error look at, at most. */
#define FIT_FENCES			4096
#define ESTIMATE_FENCES		32

/* Fences whose slots are looked at to estimate what an inner node costs. */
#define SAMPLE_FENCES		64

/* No further ways to cut a range are tried when one is as good as this. */
#define GOOD_INNER_COST		(PRICE_INNER + 8.0)

typedef struct ModelTrainer
{
	const AlexFence *fences;
	uint32_t	nfences;
	AlexAllocate allocate;
	AlexRelease release;

	/* The lines of nodes and slots; the arrays of fences follow at the end */
	AlexModelLine *lines;
	uint32_t	nlines;
	uint32_t	capacity;

	double		key_line_price; /* of looking at one more line of keys */

	uint32_t	nnodes;
	uint32_t	depth;
	double		total_cost;		/* of looking up each fence once */
} ModelTrainer;

/* A fence whose slot is looked at, and what a small node around it costs. */
typedef struct ModelSample
{
	uint32_t	fence;
	double		small_cost;
} ModelSample;

/* Adds zeroed lines and returns the first one's number, 0 without memory. */
static uint32_t
add_lines(ModelTrainer *trainer, uint32_t count)
{
	uint32_t	first = trainer->nlines;

	if (count > trainer->capacity - first)
	{
		uint32_t	capacity = trainer->capacity * 2 + count;
		AlexModelLine *lines;

		lines = trainer->allocate((size_t) capacity * sizeof(AlexModelLine));
		if (lines == NULL)
			return 0;
		memcpy(lines, trainer->lines, (size_t) first * sizeof(AlexModelLine));
		trainer->release(trainer->lines);
		trainer->lines = lines;
		trainer->capacity = capacity;
	}
	memset(&trainer->lines[first], 0, (size_t) count * sizeof(AlexModelLine));
	trainer->nlines = first + count;
	return first;
}

/* A fixed-point number with that many fraction bits, within +-2^62. */
static int64_t
fixed_point(double value, int fraction_bits)
{
	double		scaled = ldexp(value, fraction_bits);
	const double limit = 4611686018427387904.0;

	if (!(scaled > -limit))
		return -(INT64_C(1) << 62);
	if (scaled >= limit)
		return INT64_C(1) << 62;
	return (int64_t) scaled;
}

/*
 * Completes a node that has its base, curve and span with the model
 *
 *		position = intercept + slope * alex_model_scale(key)
 */
static void
set_model(AlexModelNode *node, double slope, double intercept)
{
	node->shift = node->span == 0 ? 0 : alex_leading_zeros(node->span);
	node->multiplier = (uint64_t) fixed_point(slope, 96 - node->shift);
	node->intercept = fixed_point(intercept, 32);
}

/*
 * Fits the model of a data node, which has its first and count already, by
 * least squares over at most max_fences of its fences.
 */
static void
fit_data_node(const ModelTrainer *trainer, AlexModelNode *node, int curve,
			  uint32_t max_fences)
{
	const AlexFence *fences = trainer->fences + node->first;
	uint32_t	stride = (node->count - 1) / max_fences + 1;
	uint64_t	key = fences[0].key;
	double		y = 0;
	double		n = 0;
	double		sum_x = 0;
	double		sum_y = 0;
	double		sum_xx = 0;
	double		sum_xy = 0;
	double		variance;
	double		slope = 0;

	node->kind = ALEX_MODEL_DATA;
	node->curve = curve;
	node->base = key;
	node->span = alex_model_scale(node, fences[node->count - 1].key);

	for (uint32_t i = 0; i < node->count; i += stride)
	{
		double		x = (double) alex_model_scale(node, fences[i].key);

		/* What is predicted is the number of fences with lesser keys */
		if (i == 0 || fences[i].key != key)
		{
			key = fences[i].key;
			y = i + 0.5;
		}
		n += 1;
		sum_x += x;
		sum_y += y;
		sum_xx += x * x;
		sum_xy += x * y;
	}

	variance = sum_xx - sum_x * (sum_x / n);
	if (variance > 0)
		slope = (sum_xy - sum_x * (sum_y / n)) / variance;
	if (!(slope > 0))
		slope = 0;
	set_model(node, slope, (sum_y - slope * sum_x) / n);
}

/*
 * What it costs to find the first "fence" fences are less than a key, when
 * another number was predicted.
 */
static double
distance_cost(const ModelTrainer *trainer, uint32_t fence, uint32_t predicted)
{
	uint32_t	nlines = alex_model_key_lines(trainer->nfences);
	uint32_t	window = alex_model_window(predicted, nlines);
	uint32_t	line = (fence > 0 ? fence - 1 : 0) / ALEX_MODEL_LINE_KEYS;
	uint32_t	distance = 0;
	double		cost;

	if (line < window)
		distance = window - line;
	else if (line > window + 1)
		distance = line - window - 1;
	if (distance == 0)
		return 0;

	cost = PRICE_WRONG_LINE + trainer->key_line_price;
	while (distance > 1)
	{
		cost += PRICE_DOUBLING + 2 * trainer->key_line_price;
		distance /= 2;
	}
	return cost;
}

/* The first of the fences from "first" to "last" that has the last's key. */
static uint32_t
first_equal(const ModelTrainer *trainer, uint32_t first, uint32_t last)
{
	uint64_t	key = trainer->fences[last].key;

	if (last == first || trainer->fences[last - 1].key != key)
		return last;
	while (first < last)
	{
		uint32_t	middle = first + (last - first) / 2;

		if (trainer->fences[middle].key < key)
			first = middle + 1;
		else
			last = middle;
	}
	return first;
}

/*
 * The mean cost of searching a data node, from at most max_fences of its
 * fences.  Keys that are looked up lie anywhere between a fence and the next
 * one, so take the middle.
 */
static double
search_cost(const ModelTrainer *trainer, const AlexModelNode *node,
			uint32_t max_fences)
{
	uint32_t	stride = (node->count - 1) / max_fences + 1;
	uint32_t	n = 0;
	double		sum = 0;

	for (uint32_t i = stride / 2; i < node->count; i += stride)
	{
		uint32_t	fence = node->first + i;
		uint64_t	key = trainer->fences[fence].key;
		uint64_t	gap = 0;

		if (fence + 1 < trainer->nfences)
			gap = trainer->fences[fence + 1].key - key;
		if (gap >= 2)
		{
			key += gap / 2;
			fence++;
		}
		else
			fence = first_equal(trainer, node->first, fence);
		sum += distance_cost(trainer, fence,
							 alex_model_position(node, key, trainer->nfences));
		n++;
	}
	return sum / n;
}

/*
 * Makes a node, which has its first and count already, a data node, with the
 * better of the two curves.  Returns the expected cost of searching it.
 */
static double
choose_data_node(const ModelTrainer *trainer, AlexModelNode *node,
				 uint32_t max_fit, uint32_t max_search)
{
	double		cost;

	fit_data_node(trainer, node, ALEX_MODEL_LINEAR, max_fit);
	cost = search_cost(trainer, node, max_search);
	if (cost > PRICE_WRONG_LINE)
	{
		AlexModelNode curved = *node;
		double		curved_cost;

		fit_data_node(trainer, &curved, ALEX_MODEL_LOGARITHMIC, max_fit);
		curved_cost = search_cost(trainer, &curved, max_search);
		if (curved_cost < cost)
		{
			*node = curved;
			cost = curved_cost;
		}
	}
	return cost;
}

/* A quick estimate of what lookups in a data node of that range cost. */
static double
estimate_data_node(const ModelTrainer *trainer, uint32_t first, uint32_t count)
{
	AlexModelNode node = {.first = first,.count = count};

	return choose_data_node(trainer, &node, ESTIMATE_FENCES,
							ESTIMATE_FENCES) + PRICE_LINE / count;
}

/*
 * The first of the fences [low, high) whose slot is >= slot, or high.  Seeks
 * from "from" in steps that double, as slots are mostly much smaller than
 * the range.
 */
static uint32_t
slot_begin(const ModelTrainer *trainer, const AlexModelNode *inner,
		   uint32_t slot, uint32_t low, uint32_t high, uint32_t from)
{
	uint32_t	step = 1;

	if (from < high && alex_model_slot(inner, trainer->fences[from].key) < slot)
	{
		low = from + 1;
		while (high - low > step)
		{
			if (alex_model_slot(inner, trainer->fences[low + step].key) >= slot)
			{
				high = low + step;
				break;
			}
			low += step + 1;
			step *= 2;
		}
	}
	else
	{
		high = from;
		while (high - low > step)
		{
			if (alex_model_slot(inner, trainer->fences[high - step].key) < slot)
			{
				low = high - step + 1;
				break;
			}
			high -= step;
			step *= 2;
		}
	}

	while (low < high)
	{
		uint32_t	middle = low + (high - low) / 2;

		if (alex_model_slot(inner, trainer->fences[middle].key) < slot)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * An inner node that cuts the keys from base to last into 2^bits slots.  The
 * keys outside of them share the first and last slot.
 */
static AlexModelNode
make_inner_node(uint64_t base, uint64_t last, int curve, int bits)
{
	AlexModelNode inner = {.base = base,.curve = curve};

	inner.kind = ALEX_MODEL_INNER;
	inner.count = UINT32_C(1) << bits;
	inner.span = alex_model_scale(&inner, last);
	set_model(&inner, ldexp(1.0, bits) / ((double) inner.span + 1.0), 0);
	return inner;
}

/* The cost of an inner node itself, for lookups among that many fences. */
static double
inner_node_price(const AlexModelNode *inner, uint32_t count)
{
	return PRICE_INNER +
		PRICE_LINE * inner->count / ALEX_MODEL_LINE_SLOTS / count;
}

/*
 * The expected cost of lookups among fences [first, first + count) with that
 * inner node on top.  Where a slot would hold too many fences for a good data
 * node, one more inner node below is expected to make it good, if that level
 * is still to be had.
 */
static double
estimate_inner_node(const ModelTrainer *trainer, const AlexModelNode *inner,
					uint32_t first, uint32_t count, bool may_split,
					const ModelSample *samples, int nsamples)
{
	double		sum = 0;

	for (int i = 0; i < nsamples; i++)
	{
		uint32_t	fence = samples[i].fence;
		uint32_t	slot = alex_model_slot(inner, trainer->fences[fence].key);
		uint32_t	begin = slot_begin(trainer, inner, slot, first,
									   first + count, fence);
		uint32_t	end = slot_begin(trainer, inner, slot + 1, first,
									 first + count, fence);
		double		cost = samples[i].small_cost;

		/* Smaller slots than this are joined. */
		if (end - begin > SMALL_NODE)
		{
			cost = estimate_data_node(trainer, begin, end - begin);
			if (may_split && cost > PRICE_INNER + samples[i].small_cost)
				cost = PRICE_INNER + samples[i].small_cost;
		}
		sum += cost;
	}

	return inner_node_price(inner, count) + sum / nsamples;
}

/*
 * Finds the best inner node for fences [first, first + count): keys it spans
 * and number of slots.  Returns its expected cost.
 *
 * Three ways of cutting the range are tried: evenly from the first key to
 * the last; evenly over all but a few of the outermost keys, which then share
 * the first and last slot instead of squeezing all others into one; and
 * evenly on a logarithmic scale.
 */
static double
choose_inner_node(const ModelTrainer *trainer, uint32_t first, uint32_t count,
				  bool may_split, AlexModelNode *best)
{
	const AlexFence *fences = trainer->fences + first;
	ModelSample samples[SAMPLE_FENCES];
	int			nsamples = SAMPLE_FENCES;
	double		best_cost = HUGE_VAL;
	int			min_bits = 1;

	if (count / 256 < SAMPLE_FENCES)
		nsamples = count / 256 + 1;
	for (int i = 0; i < nsamples; i++)
	{
		uint32_t	nth = (uint32_t) (((uint64_t) count * (2 * i + 1)) /
									  (2 * nsamples));
		uint32_t	begin = nth < SMALL_NODE / 2 ? 0 : nth - SMALL_NODE / 2;
		uint32_t	size = count - begin;

		if (size > SMALL_NODE)
			size = SMALL_NODE;
		samples[i].fence = first + nth;
		samples[i].small_cost = estimate_data_node(trainer, first + begin,
												   size);
	}

	/* Slots much larger than what is sampled are never the best. */
	while (count >> min_bits > FIT_FENCES)
		min_bits++;

	for (int way = 0; way < 3 && best_cost > GOOD_INNER_COST; way++)
	{
		uint32_t	left_out = way == 1 ? count / 128 + 1 : 0;
		int			curve = way == 2 ? ALEX_MODEL_LOGARITHMIC :
			ALEX_MODEL_LINEAR;
		uint64_t	base = fences[left_out].key;
		uint64_t	last = fences[count - 1 - left_out].key;

		for (int bits = min_bits; (count >> bits) >= 4; bits++)
		{
			AlexModelNode inner = make_inner_node(base, last, curve, bits);
			double		cost;

			/* More slots would cost more than they could save. */
			if (inner.span == 0 || inner_node_price(&inner, count) > best_cost)
				break;
			cost = estimate_inner_node(trainer, &inner, first, count,
									   may_split, samples, nsamples);
			if (cost < best_cost)
			{
				best_cost = cost;
				*best = inner;
			}
		}
	}
	return best_cost;
}

/*
 * The end of the fences, from "begin" on, that share a child of an inner
 * node: those of the first slot, and of further slots while they are few.
 */
static uint32_t
child_end(const ModelTrainer *trainer, const AlexModelNode *inner,
		  uint32_t begin, uint32_t end)
{
	uint32_t	fence = begin;

	while (fence < end)
	{
		uint32_t	slot = alex_model_slot(inner, trainer->fences[fence].key);
		uint32_t	next = slot_begin(trainer, inner, slot + 1, fence, end,
									  fence);

		if (fence > begin && next - begin > SMALL_NODE)
			break;
		fence = next;
	}
	return fence;
}

static bool train_node(ModelTrainer *trainer, uint32_t line, uint32_t depth);

/*
 * Makes a node an inner node over fences [begin, end): fills its slots and
 * trains its children.  Until it is trained, a child's line holds only the
 * range of its fences.
 */
static bool
train_inner_node(ModelTrainer *trainer, uint32_t line, uint32_t depth,
				 AlexModelNode inner, uint32_t begin, uint32_t end)
{
	uint32_t	first_child;
	uint32_t	end_child;
	uint32_t	slot = 0;

	inner.first = add_lines(trainer,
							(inner.count - 1) / ALEX_MODEL_LINE_SLOTS + 1);
	if (inner.first == 0)
		return false;
	trainer->lines[line].node = inner;

	first_child = trainer->nlines;
	while (begin < end)
	{
		uint32_t	next = child_end(trainer, &inner, begin, end);
		uint32_t	end_slot = inner.count;
		uint32_t	child = add_lines(trainer, 1);
		uint32_t   *slots = trainer->lines[inner.first].slots;

		if (child == 0)
			return false;
		trainer->lines[child].node.first = begin;
		trainer->lines[child].node.count = next - begin;

		/*
		 * Empty slots belong to the child on their left, whose last fence is
		 * the answer for their keys.
		 */
		if (next < end)
			end_slot = alex_model_slot(&inner, trainer->fences[next].key);
		while (slot < end_slot)
			slots[slot++] = child;
		begin = next;
	}
	end_child = trainer->nlines;

	for (uint32_t child = first_child; child < end_child; child++)
	{
		if (!train_node(trainer, child, depth + 1))
			return false;
	}
	return true;
}

/* Trains the node of that line, which holds the range of its fences. */
static bool
train_node(ModelTrainer *trainer, uint32_t line, uint32_t depth)
{
	AlexModelNode node = trainer->lines[line].node;
	double		cost;

	trainer->nnodes++;
	if (depth > trainer->depth)
		trainer->depth = depth;

	cost = choose_data_node(trainer, &node, FIT_FENCES, 8 * ESTIMATE_FENCES);
	if (node.count > SMALL_NODE && depth < ALEX_MODEL_MAX_DEPTH &&
		cost > PRICE_INNER)
	{
		AlexModelNode inner = {0};
		double		inner_cost;

		inner_cost = choose_inner_node(trainer, node.first, node.count,
									   depth + 1 < ALEX_MODEL_MAX_DEPTH,
									   &inner);
		if (inner_cost < cost)
			return train_inner_node(trainer, line, depth, inner,
									node.first, node.first + node.count);
	}

	trainer->lines[line].node = node;
	trainer->total_cost += node.count * (cost + (depth - 1) * PRICE_INNER);
	return true;
}

/* Copies the fences into the arrays that follow the nodes. */
static void
store_fences(AlexModelLine *lines, const AlexFence *fences, uint32_t nfences)
{
	uint32_t	key_lines = alex_model_key_lines(nfences);
	uint64_t   *keys = lines[0].keys;
	uint64_t   *tids = lines[key_lines].tids;
	AlexModelPlace *places = lines[2 * (size_t) key_lines].places;

	for (uint32_t i = 0; i < nfences; i++)
	{
		keys[i] = fences[i].key;
		tids[i] = fences[i].tid;
		places[i].stamp = fences[i].stamp;
		places[i].block = fences[i].block;
		places[i].entries = fences[i].entries;
	}
	for (size_t i = nfences;
		 i < (size_t) key_lines * ALEX_MODEL_LINE_KEYS; i++)
	{
		keys[i] = UINT64_MAX;
		tids[i] = 0;
	}
	for (size_t i = nfences; i % ALEX_MODEL_LINE_PLACES != 0; i++)
		memset(&places[i], 0, sizeof(AlexModelPlace));
}

void *
alex_model_train(const AlexFence *fences, uint32_t nfences,
				 AlexAllocate allocate, AlexRelease release,
				 AlexModelInfo *info)
{
	ModelTrainer trainer = {.fences = fences,.nfences = nfences,
	.allocate = allocate,.release = release};
	AlexModelLine *lines = NULL;

	if (nfences > NEAR_FENCES)
		trainer.key_line_price = PRICE_FAR_LINE;
	trainer.capacity = 16 + nfences / 1024;
	trainer.lines = allocate((size_t) trainer.capacity * sizeof(AlexModelLine));
	if (trainer.lines == NULL)
		return NULL;

	add_lines(&trainer, 1);
	trainer.lines[0].node.first = 0;
	trainer.lines[0].node.count = nfences;
	if (train_node(&trainer, 0, 1))
	{
		uint32_t	nlines = trainer.nlines +
			alex_model_fence_lines(nfences);

		lines = allocate((size_t) nlines * sizeof(AlexModelLine));
		if (lines != NULL)
		{
			memcpy(lines, trainer.lines,
				   (size_t) trainer.nlines * sizeof(AlexModelLine));
			store_fences(lines + trainer.nlines, fences, nfences);
			lines[0].node.nlines = nlines;
			lines[0].node.nfences = nfences;
			lines[0].node.first_key_line = trainer.nlines;

			info->nlines = nlines;
			info->nnodes = trainer.nnodes;
			info->depth = trainer.depth;
			info->expected_cost = trainer.total_cost / nfences;
		}
	}
	release(trainer.lines);
	return lines;
}
