/* Attention of one decoding step in fp32: one new token of each running sequence over its prompt, whose keys and values
   all sequences of the prompt share, and over the sequence's own columns so far. Writes the new keys and values, too.

   One task is one prompt and one key head. Shapes: R sequences, H query heads, G key heads, D head size, a multiple of
   PANEL. */

#include <stdlib.h>

#include "panels.h"

enum { FEW_QUERIES = 4 }; /* up to so many queries use the keys as stored; more use a transposed copy */

typedef struct {
    int64_t sequences, prompts, heads, kv_heads, head_dim;
    const int64_t *order;          /* [R] sequences, grouped by prompt */
    const int64_t *prompt_starts;  /* [prompts + 1] start of each prompt's sequences in `order` */
    const int64_t *prompt_lengths; /* [R] tokens of each sequence's prompt */
    const int64_t *start_columns;  /* [R] first cache column of each sequence */
    int64_t column, window;        /* column to write; window 0: no sliding window */
    float scale;
} DecodeParams;

typedef struct { /* of [slots, G, positions, D]; positions of a head are contiguous */
    float *keys, *values;
    int64_t slot_stride, head_stride;
} KVCachePointers;

/* The horizontal sums of LANES vectors, as one vector. */
INLINE vec horizontal_sums(vec *rows)
{
#if defined(__clang__)
    vec sums;
    for (int i = 0; i < LANES; i++) sums[i] = horizontal_sum(rows[i]);
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

/* scores[0:count] = dot products of one query [D] with keys [count, D]; writes up to LANES - 1 values past the end. */
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
        store(scores + j, horizontal_sums(sums));
    }
}

static void attend_prompt(const DecodeParams *step, StridedTensor q, KVCachePointers own, KVCachePointers shared,
                          StridedTensor out, int64_t prompt, int64_t key_head, float *memory)
{
    const int64_t size = step->head_dim, group = step->heads / step->kv_heads;
    const int64_t begin = step->prompt_starts[prompt], rows = step->prompt_starts[prompt + 1] - begin,
                  queries = rows * group;
    if (!rows) return;
    const int64_t length = step->prompt_lengths[step->order[begin]], prompt_columns = round_up(length, PANEL);
    int64_t earliest = step->column;
    for (int64_t r = begin; r < begin + rows; r++)
        if (step->start_columns[step->order[r]] < earliest) earliest = step->start_columns[step->order[r]];
    const int64_t width = prompt_columns + round_up(step->column + 1 - earliest, LANES) + LANES;
    float *scaled_queries = arena_alloc(&memory, queries * size), *attended = arena_alloc(&memory, queries * size);
    float *key_panel = arena_alloc(&memory, PANEL * size), *last = arena_alloc(&memory, PANEL * size);
    float *scores = arena_alloc(&memory, queries * width), *exp_sums = arena_alloc(&memory, queries);
    const float *keys = shared.keys + prompt * shared.slot_stride + key_head * shared.head_stride;
    const float *values = shared.values + prompt * shared.slot_stride + key_head * shared.head_stride;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t g = 0; g < group; g++) {
            const float *from =
                q.data + step->order[begin + r] * q.token_stride + (key_head * group + g) * q.head_stride;
            for (int64_t d = 0; d < size; d++) scaled_queries[(r * group + g) * size + d] = from[d] * step->scale;
        }
    for (int64_t p = 0; p < length; p += PANEL) {
        const float *these = keys + p * size;
        if (queries <= FEW_QUERIES) {
            const int64_t count = length - p < PANEL ? length - p : PANEL;
            for (int64_t i = 0; i < queries; i++)
                dots(scaled_queries + i * size, these, count, size, scores + i * width + p);
            continue;
        }
        if (p + PANEL > length) {
            memset(last, 0, PANEL * size * sizeof(float));
            memcpy(last, these, (length - p) * size * sizeof(float));
            these = last;
        }
        pack_panels(these, PANEL, size, key_panel);
        matmul(queries, PANEL, size, scaled_queries, size, 1, key_panel, 0, PANEL, scores + p, width, 0);
    }
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = step->order[begin + r], from = step->start_columns[row],
                      position = length + step->column - from;
        const int64_t oldest =
            step->window ? position - step->window + 1 : 0; /* position of the first token in the window */
        const int64_t low = oldest > 0 ? (oldest < length ? oldest : length) : 0;
        const int64_t own_low = oldest > length ? oldest - length : 0, count = step->column + 1 - from;
        const float *own_keys = own.keys + row * own.slot_stride + key_head * own.head_stride + from * size;
        for (int64_t i = r * group; i < (r + 1) * group; i++) {
            float *prompt_scores = scores + i * width, *own_scores = prompt_scores + prompt_columns;
            dots(scaled_queries + i * size, own_keys, count, size, own_scores);
            const float max_score =
                fmaxf(max_in_range(prompt_scores, low, length), max_in_range(own_scores, own_low, count));
            exp_sums[i] = horizontal_sum(exp_in_range(prompt_scores, low, length, prompt_columns, max_score) +
                                         exp_in_range(own_scores, own_low, count, round_up(count, LANES), max_score));
        }
    }
    matmul(queries, size, length, scores, width, 1, values, PANEL, size, attended, size, 0);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = step->order[begin + r], from = step->start_columns[row];
        const float *own_values = own.values + row * own.slot_stride + key_head * own.head_stride + from * size;
        matmul(group, size, step->column + 1 - from, scores + r * group * width + prompt_columns, width, 1, own_values,
               PANEL, size, attended + r * group * size, size, 1);
        for (int64_t g = 0; g < group; g++) {
            float *to = out.data + row * out.token_stride + (key_head * group + g) * out.head_stride;
            const float by = 1 / exp_sums[r * group + g];
            for (int64_t d = 0; d < size; d++) to[d] = attended[(r * group + g) * size + d] * by;
        }
    }
}

/* Scratch floats of the largest task. */
static int64_t scratch_floats(const DecodeParams *step)
{
    int64_t max_samples = 0, longest = 0, earliest = step->column;
    for (int64_t p = 0; p < step->prompts; p++)
        if (step->prompt_starts[p + 1] - step->prompt_starts[p] > max_samples)
            max_samples = step->prompt_starts[p + 1] - step->prompt_starts[p];
    for (int64_t r = 0; r < step->sequences; r++) {
        if (step->prompt_lengths[r] > longest) longest = step->prompt_lengths[r];
        if (step->start_columns[r] < earliest) earliest = step->start_columns[r];
    }
    const int64_t width = round_up(longest, PANEL) + round_up(step->column + 1 - earliest, LANES) + LANES;
    return max_samples * (step->heads / step->kv_heads) * (2 * step->head_dim + width + 1) +
           2 * PANEL * step->head_dim + 128;
}

/* `heads` are q, new keys, new values, output. Returns 0, or 1 if out of memory. */
int decoding_attention(const DecodeParams *step, const StridedTensor *heads, const KVCachePointers *own,
                       const KVCachePointers *shared)
{
    const StridedTensor q = heads[0], k = heads[1], v = heads[2], out = heads[3];
    const int64_t size = step->head_dim, place = step->column * size, floats = scratch_floats(step);
    int failed = 0;
#pragma omp parallel if (floats * step->prompts * step->kv_heads > 1 << 14)
    {
        float *memory = aligned_alloc(64, round_up(floats * sizeof(float), 64));
        if (!memory) failed = 1;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < step->sequences; r++)
            for (int64_t g = 0; g < step->kv_heads; g++) {
                memcpy(own->keys + r * own->slot_stride + g * own->head_stride + place,
                       k.data + r * k.token_stride + g * k.head_stride, size * sizeof(float));
                memcpy(own->values + r * own->slot_stride + g * own->head_stride + place,
                       v.data + r * v.token_stride + g * v.head_stride, size * sizeof(float));
            }
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < step->prompts * step->kv_heads; task++)
            if (memory)
                attend_prompt(step, q, *own, *shared, out, task / step->kv_heads, task % step->kv_heads, memory);
        free(memory);
    }
    return failed;
}

/* Multiplies adjacent pairs of dimensions of one head by complex numbers. */
INLINE void rope_interleaved_head(float *restrict pair, const float *restrict by, int64_t size)
{
    for (int64_t d = 0; d < size; d += 2) {
        const float real = pair[d], imaginary = pair[d + 1];
        pair[d] = real * by[d] - imaginary * by[d + 1];
        pair[d + 1] = real * by[d + 1] + imaginary * by[d];
    }
}

/* RoPE on adjacent pairs, in place, for the first `heads` heads of x [N, ..., D]; freqs_cis [N, D / 2] are complex. */
void rope_interleaved(int64_t tokens, int64_t heads, int64_t size, float *x, int64_t token, const float *freqs_cis)
{
    for (int64_t n = 0; n < tokens; n++)
        for (int64_t h = 0; h < heads; h++) rope_interleaved_head(x + n * token + h * size, freqs_cis + n * size, size);
}

enum { ROW_BLOCK = 32 }; /* rows per task of a matmul */

/* Weights of a decoder layer: panels [outputs / PANEL, inputs, PANEL]; the bias [outputs] of qkv_proj or NULL. */
typedef struct {
    const float *qkv_proj, *qkv_bias, *o_proj, *gate_up_proj, *down_proj;
    int64_t window;
} LayerPointers;

typedef struct {
    int64_t layers, hidden_size, intermediate_size;
    int64_t response_layer_stride, prompt_layer_stride; /* stride between layers of a cache, in floats */
    float epsilon;
} DecoderParams;

/* c [rows, N] = or += a [rows, depth] w, shared among the threads of the enclosing parallel region. */
static void parallel_matmul(int64_t rows, int64_t panels, int64_t depth, const float *a, const float *weights,
                            const float *bias, float *c, int64_t c_row, int add)
{
#pragma omp for collapse(2) schedule(static)
    for (int64_t p = 0; p < panels; p++)
        for (int64_t r = 0; r < rows; r += ROW_BLOCK) {
            const int64_t count = rows - r < ROW_BLOCK ? rows - r : ROW_BLOCK;
            float *to = c + r * c_row + p * PANEL;
            matmul(count, PANEL, depth, a + r * depth, depth, 1, weights + p * depth * PANEL, 0, PANEL, to, c_row, add);
            if (bias)
                for (int64_t i = 0; i < count; i++)
                    for (int64_t j = 0; j < PANEL; j++) to[i * c_row + j] += bias[p * PANEL + j];
        }
}

/* between [rows, inner] = silu(x gates) * (x ups), shared likewise. */
static void parallel_swiglu(int64_t rows, int64_t inner, int64_t depth, const float *x, const float *gates,
                            float *between)
{
#pragma omp for collapse(2) schedule(static)
    for (int64_t p = 0; p < inner; p += PANEL)
        for (int64_t r = 0; r < rows; r += ROW_BLOCK) {
            const int64_t count = rows - r < ROW_BLOCK ? rows - r : ROW_BLOCK;
            float ups[ROW_BLOCK * PANEL], *to = between + r * inner + p;
            matmul(count, PANEL, depth, x + r * depth, depth, 1, gates + p * depth, 0, PANEL, to, inner, 0);
            matmul(count, PANEL, depth, x + r * depth, depth, 1, gates + (inner + p) * depth, 0, PANEL, ups, PANEL, 0);
            for (int64_t i = 0; i < count; i++)
                for (int64_t j = 0; j < PANEL; j += LANES)
                    store(to + i * inner + j, swiglu_vec(load(to + i * inner + j), load(ups + i * PANEL + j)));
        }
}

static void parallel_rms_norm(int64_t rows, int64_t width, const float *x, float epsilon, float *out)
{
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *from = x + r * width;
        const float scale = 1 / sqrtf(dot(from, from, width) / width + epsilon);
        for (int64_t d = 0; d < width; d++) out[r * width + d] = from[d] * scale;
    }
}

/* All layers of a decoding step: replaces states [R, hidden] of the new tokens by the last layer's output. `freqs_cis`
   [R, D / 2] rotate queries and keys; the caches are the first layer's. Returns 0, or 1 if out of memory. */
int decoding_layers(const DecodeParams *given, const DecoderParams *decoder, const LayerPointers *layers, float *states,
                    const float *freqs_cis, const KVCachePointers *own, const KVCachePointers *shared)
{
    const int64_t rows = given->sequences, size = given->head_dim, heads = given->heads, key_heads = given->kv_heads;
    const int64_t hidden = decoder->hidden_size, inner = decoder->intermediate_size, group = heads / key_heads;
    const int64_t width = (heads + 2 * key_heads) * size, place = given->column * size;
    const int64_t floats = scratch_floats(given), numbers = rows * (hidden + width + heads * size + inner) + 128;
    float *memory = aligned_alloc(64, round_up(numbers * sizeof(float), 64)), *rest = memory;
    if (!memory) return 1;
    float *x = arena_alloc(&rest, rows * hidden), *qkv = arena_alloc(&rest, rows * width);
    float *attended = arena_alloc(&rest, rows * heads * size), *between = arena_alloc(&rest, rows * inner);
    const StridedTensor q = {qkv, width, size}, out = {attended, heads * size, size};
    int failed = 0;
#pragma omp parallel
    {
        float *scratch = aligned_alloc(64, round_up(floats * sizeof(float), 64));
        if (!scratch) failed = 1;
        for (int64_t l = 0; l < decoder->layers; l++) {
            const LayerPointers *layer = layers + l;
            DecodeParams step = *given;
            KVCachePointers layer_own = *own, layer_shared = *shared;
            step.window = layer->window;
            layer_own.keys += l * decoder->response_layer_stride,
                layer_own.values += l * decoder->response_layer_stride;
            layer_shared.keys += l * decoder->prompt_layer_stride,
                layer_shared.values += l * decoder->prompt_layer_stride;
            parallel_rms_norm(rows, hidden, states, decoder->epsilon, x);
            parallel_matmul(rows, width / PANEL, hidden, x, layer->qkv_proj, layer->qkv_bias, qkv, width, 0);
#pragma omp for schedule(dynamic, 1)
            for (int64_t task = 0; task < step.prompts * key_heads; task++) {
                const int64_t prompt = task / key_heads, g = task % key_heads;
                if (!scratch) continue;
                for (int64_t i = step.prompt_starts[prompt]; i < step.prompt_starts[prompt + 1]; i++) {
                    const int64_t r = step.order[i], to = r * layer_own.slot_stride + g * layer_own.head_stride + place;
                    float *row = qkv + r * width;
                    for (int64_t h = g * group; h < (g + 1) * group; h++)
                        rope_interleaved_head(row + h * size, freqs_cis + r * size, size);
                    rope_interleaved_head(row + (heads + g) * size, freqs_cis + r * size, size);
                    memcpy(layer_own.keys + to, row + (heads + g) * size, size * sizeof(float));
                    memcpy(layer_own.values + to, row + (heads + key_heads + g) * size, size * sizeof(float));
                }
                attend_prompt(&step, q, layer_own, layer_shared, out, prompt, g, scratch);
            }
            parallel_matmul(rows, hidden / PANEL, heads * size, attended, layer->o_proj, NULL, states, hidden, 1);
            parallel_rms_norm(rows, hidden, states, decoder->epsilon, x);
            parallel_swiglu(rows, inner, hidden, x, layer->gate_up_proj, between);
            parallel_matmul(rows, hidden / PANEL, inner, between, layer->down_proj, NULL, states, hidden, 1);
        }
        free(scratch);
    }
    free(memory);
    return failed;
}

/* Packs a weight [outputs, inputs] into panels; outputs is a multiple of PANEL, inputs of LANES. */
void pack_weight(int64_t outputs, int64_t inputs, const float *weight, float *panels)
{
    pack_panels(weight, outputs, inputs, panels);
}

/* `decoding_attention` needs a head size that is a multiple of this. */
int panel_width(void) { return PANEL; }
