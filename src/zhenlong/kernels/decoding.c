/* Attention of one decoding step in fp32: one new token of each running row over its prompt, whose keys and values all
   rows of the prompt share, and over the row's own columns so far. The new keys and values are written here too.

   One task is one prompt and one key head. Legend: R rows, H query heads, G key heads, D head size, a multiple of PANEL. */

#include <stdlib.h>

#include "panels.h"

enum { FEW = 4 }; /* queries for which keys are multiplied as they lie; for more they are turned over first */

typedef struct {
    int64_t rows, prompts, heads, key_heads, size;
    const int64_t *order;            /* [R] the rows, those of a prompt side by side */
    const int64_t *first;            /* [prompts + 1] where each prompt's begin in it */
    const int64_t *lengths;          /* [R] tokens of each row's prompt */
    const int64_t *entered;          /* [R] the first of each row's own columns */
    int64_t column, window;          /* the one to write; a window of 0 is none */
    float scale;
} Decoding;

typedef struct { /* of [slots, G, positions, D]; a head's positions lie one after the other */
    float *keys, *values;
    int64_t slot, head;
} Cache;

/* Sums over lanes of LANES vectors, as one vector. */
INLINE vec sums_of(vec *rows)
{
#if defined(__clang__)
    vec sums;
    for (int i = 0; i < LANES; i++) sums[i] = sum_of(rows[i]);
    return sums;
#else
#pragma GCC unroll 4
    for (int half = LANES / 2; half; half /= 2) {
        ints low, high;
        for (int j = 0; j < LANES; j++) {
            low[j] = j & half ? LANES + (j ^ half) : j;
            high[j] = j & half ? LANES + j : j ^ half;
        }
#pragma GCC unroll 8
        for (int i = 0; i < half; i++) {
            const vec a = rows[i], b = rows[i + half];
            rows[i] = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
        }
    }
    return rows[0];
#endif
}

/* scores[0:count] = the products of one query [D] with keys [count, D]; up to LANES - 1 more are written behind. */
static void dots(const float *query, const float *keys, int64_t count, int64_t size, float *scores)
{
    for (int64_t j = 0; j < count; j += LANES) {
        vec sums[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            const float *key = keys + (j + i < count ? j + i : count - 1) * size;
            sums[i] = load(query) * load(key);
            for (int64_t d = LANES; d < size; d += LANES) sums[i] += load(query + d) * load(key + d);
        }
        store(scores + j, sums_of(sums));
    }
}

static void task_of(
    const Decoding *step, Array q, Cache own, Cache shared, Array out, int64_t prompt, int64_t key_head, float *memory)
{
    const int64_t size = step->size, group = step->heads / step->key_heads;
    const int64_t begin = step->first[prompt], rows = step->first[prompt + 1] - begin, queries = rows * group;
    if (!rows) return;
    const int64_t length = step->lengths[step->order[begin]], of_prompt = up(length, PANEL);
    int64_t earliest = step->column;
    for (int64_t r = begin; r < begin + rows; r++)
        if (step->entered[step->order[r]] < earliest) earliest = step->entered[step->order[r]];
    const int64_t width = of_prompt + up(step->column + 1 - earliest, LANES) + LANES;
    float *asked = cut(&memory, queries * size), *seen = cut(&memory, queries * size);
    float *panel_of_keys = cut(&memory, PANEL * size), *last = cut(&memory, PANEL * size);
    float *scores = cut(&memory, queries * width), *totals = cut(&memory, queries);
    const float *keys = shared.keys + prompt * shared.slot + key_head * shared.head;
    const float *values = shared.values + prompt * shared.slot + key_head * shared.head;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t g = 0; g < group; g++) {
            const float *from = q.at + step->order[begin + r] * q.token + (key_head * group + g) * q.head;
            for (int64_t d = 0; d < size; d++) asked[(r * group + g) * size + d] = from[d] * step->scale;
        }
    for (int64_t p = 0; p < length; p += PANEL) {
        const float *these = keys + p * size;
        if (queries <= FEW) {
            const int64_t count = length - p < PANEL ? length - p : PANEL;
            for (int64_t i = 0; i < queries; i++) dots(asked + i * size, these, count, size, scores + i * width + p);
            continue;
        }
        if (p + PANEL > length) {
            memset(last, 0, PANEL * size * sizeof(float));
            memcpy(last, these, (length - p) * size * sizeof(float));
            these = last;
        }
        turn(these, PANEL, size, panel_of_keys);
        product(queries, PANEL, size, asked, size, 1, panel_of_keys, 0, PANEL, scores + p, width, 0);
    }
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = step->order[begin + r], from = step->entered[row], position = length + step->column - from;
        const int64_t oldest = step->window ? position - step->window + 1 : 0; /* position of the first token seen */
        const int64_t low = oldest > 0 ? (oldest < length ? oldest : length) : 0;
        const int64_t own_low = oldest > length ? oldest - length : 0, count = step->column + 1 - from;
        const float *own_keys = own.keys + row * own.slot + key_head * own.head + from * size;
        for (int64_t i = r * group; i < (r + 1) * group; i++) {
            float *of_shared = scores + i * width, *of_own = of_shared + of_prompt;
            dots(asked + i * size, own_keys, count, size, of_own);
            const float most = fmaxf(largest(of_shared, low, length), largest(of_own, own_low, count));
            totals[i] = sum_of(exponentials(of_shared, low, length, of_prompt, most)
                               + exponentials(of_own, own_low, count, up(count, LANES), most));
        }
    }
    product(queries, size, length, scores, width, 1, values, PANEL, size, seen, size, 0);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = step->order[begin + r], from = step->entered[row];
        const float *own_values = own.values + row * own.slot + key_head * own.head + from * size;
        product(group, size, step->column + 1 - from, scores + r * group * width + of_prompt, width, 1, own_values,
                PANEL, size, seen + r * group * size, size, 1);
        for (int64_t g = 0; g < group; g++) {
            float *to = out.at + row * out.token + (key_head * group + g) * out.head;
            const float by = 1 / totals[r * group + g];
            for (int64_t d = 0; d < size; d++) to[d] = seen[(r * group + g) * size + d] * by;
        }
    }
}

/* Floats that the largest task needs. */
static int64_t floats_of(const Decoding *step)
{
    int64_t most = 0, longest = 0, earliest = step->column;
    for (int64_t p = 0; p < step->prompts; p++)
        if (step->first[p + 1] - step->first[p] > most) most = step->first[p + 1] - step->first[p];
    for (int64_t r = 0; r < step->rows; r++) {
        if (step->lengths[r] > longest) longest = step->lengths[r];
        if (step->entered[r] < earliest) earliest = step->entered[r];
    }
    const int64_t width = up(longest, PANEL) + up(step->column + 1 - earliest, LANES) + LANES;
    return most * (step->heads / step->key_heads) * (2 * step->size + width + 1) + 2 * PANEL * step->size + 128;
}

/* `heads` are q, the new keys and values, and the result. Returns 0, or 1 where memory ran out. */
int decoding_attention(const Decoding *step, const Array *heads, const Cache *own, const Cache *shared)
{
    const Array q = heads[0], k = heads[1], v = heads[2], out = heads[3];
    const int64_t size = step->size, place = step->column * size, floats = floats_of(step);
    int failed = 0;
#pragma omp parallel if (floats * step->prompts * step->key_heads > 1 << 14)
    {
        float *memory = aligned_alloc(64, up(floats * sizeof(float), 64));
        if (!memory) failed = 1;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < step->rows; r++)
            for (int64_t g = 0; g < step->key_heads; g++) {
                memcpy(own->keys + r * own->slot + g * own->head + place, k.at + r * k.token + g * k.head,
                       size * sizeof(float));
                memcpy(own->values + r * own->slot + g * own->head + place, v.at + r * v.token + g * v.head,
                       size * sizeof(float));
            }
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < step->prompts * step->key_heads; task++)
            if (memory) task_of(step, q, *own, *shared, out, task / step->key_heads, task % step->key_heads, memory);
        free(memory);
    }
    return failed;
}

/* Turns pairs of neighbouring dimensions of one head by complex numbers. */
INLINE void rotate_head(float *restrict pair, const float *restrict by, int64_t size)
{
    for (int64_t d = 0; d < size; d += 2) {
        const float real = pair[d], imaginary = pair[d + 1];
        pair[d] = real * by[d] - imaginary * by[d + 1];
        pair[d + 1] = real * by[d + 1] + imaginary * by[d];
    }
}

/* The same for the first `heads` heads of x [N, ..., D], in place; turns are [N, D / 2]. */
void rotate_pairs(int64_t tokens, int64_t heads, int64_t size, float *x, int64_t token, const float *turns)
{
    for (int64_t n = 0; n < tokens; n++)
        for (int64_t h = 0; h < heads; h++) rotate_head(x + n * token + h * size, turns + n * size, size);
}

enum { ROW_BLOCK = 32 }; /* rows that one task of a product computes */

/* The weights of a decoder layer: panels [outputs / PANEL, inputs, PANEL], and the bias [outputs] of the first or none. */
typedef struct {
    const float *projection, *bias, *output, *gates, *down;
    int64_t window;
} Layer;

typedef struct {
    int64_t layers, hidden, inner;
    int64_t own_layer, shared_layer; /* from a layer's cache to the next one's, in floats */
    float epsilon;
} Stack;

/* c [rows, N] = or += a [rows, depth] w, for rows and panels that the threads of a parallel region share. */
static void shared_product(
    int64_t rows, int64_t panels, int64_t depth, const float *a, const float *weights, const float *bias, float *c,
    int64_t c_row, int add)
{
#pragma omp for collapse(2) schedule(static)
    for (int64_t p = 0; p < panels; p++)
        for (int64_t r = 0; r < rows; r += ROW_BLOCK) {
            const int64_t count = rows - r < ROW_BLOCK ? rows - r : ROW_BLOCK;
            float *to = c + r * c_row + p * PANEL;
            product(count, PANEL, depth, a + r * depth, depth, 1, weights + p * depth * PANEL, 0, PANEL, to, c_row, add);
            if (bias)
                for (int64_t i = 0; i < count; i++)
                    for (int64_t j = 0; j < PANEL; j++) to[i * c_row + j] += bias[p * PANEL + j];
        }
}

/* between [rows, inner] = silu(x gates) * (x ups), shared likewise. */
static void shared_unit(int64_t rows, int64_t inner, int64_t depth, const float *x, const float *gates, float *between)
{
#pragma omp for collapse(2) schedule(static)
    for (int64_t p = 0; p < inner; p += PANEL)
        for (int64_t r = 0; r < rows; r += ROW_BLOCK) {
            const int64_t count = rows - r < ROW_BLOCK ? rows - r : ROW_BLOCK;
            float ups[ROW_BLOCK * PANEL], *to = between + r * inner + p;
            product(count, PANEL, depth, x + r * depth, depth, 1, gates + p * depth, 0, PANEL, to, inner, 0);
            product(count, PANEL, depth, x + r * depth, depth, 1, gates + (inner + p) * depth, 0, PANEL, ups, PANEL, 0);
            for (int64_t i = 0; i < count; i++)
                for (int64_t j = 0; j < PANEL; j += LANES)
                    store(to + i * inner + j, gated_unit(load(to + i * inner + j), load(ups + i * PANEL + j)));
        }
}

static void shared_norm(int64_t rows, int64_t width, const float *x, float epsilon, float *out)
{
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *from = x + r * width;
        const float scale = 1 / sqrtf(dot(from, from, width) / width + epsilon);
        for (int64_t d = 0; d < width; d++) out[r * width + d] = from[d] * scale;
    }
}

/* All layers of a decoding step: states [R, hidden] of the new tokens become those behind the last layer, in place. `turns`
   [R, D / 2] rotate queries and keys; the caches are the first layer's. Returns 0, or 1 where memory ran out. */
int decoding_layers(
    const Decoding *given, const Stack *stack, const Layer *layers, float *states, const float *turns, const Cache *own,
    const Cache *shared)
{
    const int64_t rows = given->rows, size = given->size, heads = given->heads, key_heads = given->key_heads;
    const int64_t hidden = stack->hidden, inner = stack->inner, group = heads / key_heads;
    const int64_t width = (heads + 2 * key_heads) * size, place = given->column * size;
    const int64_t floats = floats_of(given), numbers = rows * (hidden + width + heads * size + inner) + 128;
    float *memory = aligned_alloc(64, up(numbers * sizeof(float), 64)), *rest = memory;
    if (!memory) return 1;
    float *x = cut(&rest, rows * hidden), *both = cut(&rest, rows * width);
    float *seen = cut(&rest, rows * heads * size), *between = cut(&rest, rows * inner);
    const Array q = {both, width, size}, out = {seen, heads * size, size};
    int failed = 0;
#pragma omp parallel
    {
        float *scratch = aligned_alloc(64, up(floats * sizeof(float), 64));
        if (!scratch) failed = 1;
        for (int64_t l = 0; l < stack->layers; l++) {
            const Layer *layer = layers + l;
            Decoding step = *given;
            Cache mine = *own, theirs = *shared;
            step.window = layer->window;
            mine.keys += l * stack->own_layer, mine.values += l * stack->own_layer;
            theirs.keys += l * stack->shared_layer, theirs.values += l * stack->shared_layer;
            shared_norm(rows, hidden, states, stack->epsilon, x);
            shared_product(rows, width / PANEL, hidden, x, layer->projection, layer->bias, both, width, 0);
#pragma omp for schedule(dynamic, 1)
            for (int64_t task = 0; task < step.prompts * key_heads; task++) {
                const int64_t prompt = task / key_heads, g = task % key_heads;
                if (!scratch) continue;
                for (int64_t i = step.first[prompt]; i < step.first[prompt + 1]; i++) {
                    const int64_t r = step.order[i], to = r * mine.slot + g * mine.head + place;
                    float *row = both + r * width;
                    for (int64_t h = g * group; h < (g + 1) * group; h++)
                        rotate_head(row + h * size, turns + r * size, size);
                    rotate_head(row + (heads + g) * size, turns + r * size, size);
                    memcpy(mine.keys + to, row + (heads + g) * size, size * sizeof(float));
                    memcpy(mine.values + to, row + (heads + key_heads + g) * size, size * sizeof(float));
                }
                task_of(&step, q, mine, theirs, out, prompt, g, scratch);
            }
            shared_product(rows, hidden / PANEL, heads * size, seen, layer->output, NULL, states, hidden, 1);
            shared_norm(rows, hidden, states, stack->epsilon, x);
            shared_unit(rows, inner, hidden, x, layer->gates, between);
            shared_product(rows, hidden / PANEL, inner, between, layer->down, NULL, states, hidden, 1);
        }
        free(scratch);
    }
    free(memory);
    return failed;
}

/* A weight [outputs, inputs], outputs a multiple of PANEL and inputs of LANES, as panels. */
void pack_weight(int64_t outputs, int64_t inputs, const float *weight, float *panels)
{
    turn(weight, outputs, inputs, panels);
}

/* What the head size has to be a multiple of for `decoding_attention`. */
int panel_width(void) { return PANEL; }
