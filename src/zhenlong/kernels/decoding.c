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

typedef struct { /* of [R, heads, D] */
    float *at;
    int64_t row, head;
} Heads;

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
    const Decoding *step, Heads q, Cache own, Cache shared, Heads out, int64_t prompt, int64_t key_head, float *memory)
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
            const float *from = q.at + step->order[begin + r] * q.row + (key_head * group + g) * q.head;
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
            float *to = out.at + row * out.row + (key_head * group + g) * out.head;
            const float by = 1 / totals[r * group + g];
            for (int64_t d = 0; d < size; d++) to[d] = seen[(r * group + g) * size + d] * by;
        }
    }
}

/* `heads` are q, the new keys and values, and the result. Returns 0, or 1 where memory ran out. */
int decoding_attention(const Decoding *step, const Heads *heads, const Cache *own, const Cache *shared)
{
    const Heads q = heads[0], k = heads[1], v = heads[2], out = heads[3];
    const int64_t size = step->size, group = step->heads / step->key_heads, place = step->column * size;
    int64_t most = 0, longest = 0, earliest = step->column;
    for (int64_t p = 0; p < step->prompts; p++)
        if (step->first[p + 1] - step->first[p] > most) most = step->first[p + 1] - step->first[p];
    for (int64_t r = 0; r < step->rows; r++) {
        if (step->lengths[r] > longest) longest = step->lengths[r];
        if (step->entered[r] < earliest) earliest = step->entered[r];
    }
    const int64_t width = up(longest, PANEL) + up(step->column + 1 - earliest, LANES) + LANES;
    const int64_t floats = most * group * (2 * size + width + 1) + 2 * PANEL * size + 128;
    int failed = 0;
#pragma omp parallel if (step->rows * step->heads * width * size > 1 << 18)
    {
        float *memory = aligned_alloc(64, up(floats * sizeof(float), 64));
        if (!memory) failed = 1;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < step->rows; r++)
            for (int64_t g = 0; g < step->key_heads; g++) {
                memcpy(own->keys + r * own->slot + g * own->head + place, k.at + r * k.row + g * k.head,
                       size * sizeof(float));
                memcpy(own->values + r * own->slot + g * own->head + place, v.at + r * v.row + g * v.head,
                       size * sizeof(float));
            }
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < step->prompts * step->key_heads; task++)
            if (memory) task_of(step, q, *own, *shared, out, task / step->key_heads, task % step->key_heads, memory);
        free(memory);
    }
    return failed;
}

/* Turns pairs of neighbouring dimensions of the first `heads` heads of x [N, ..., D], in place, by complex numbers [N, D / 2]. */
void rotate_pairs(int64_t tokens, int64_t heads, int64_t size, float *x, int64_t token, const float *turns)
{
    for (int64_t n = 0; n < tokens; n++)
        for (int64_t h = 0; h < heads; h++) {
            float *restrict pair = x + n * token + h * size;
            const float *restrict by = turns + n * size;
            for (int64_t d = 0; d < size; d += 2) {
                const float real = pair[d], imaginary = pair[d + 1];
                pair[d] = real * by[d] - imaginary * by[d + 1];
                pair[d + 1] = real * by[d + 1] + imaginary * by[d];
            }
        }
}

/* What the head size has to be a multiple of for `decoding_attention`. */
int panel_width(void) { return PANEL; }
