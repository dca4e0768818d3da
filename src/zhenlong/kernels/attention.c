/* Attention over a forest of token segments in fp32, forward and backward.

   A query attends to its own segment up to itself and to all ancestor segments, or to the last `window` tokens of
   these. A segment may contribute keys and values only: queries are separate rows, and each segment names its first.
   One task is one head of one tree: it packs keys and values once, then processes queries in tiles of TILE rows,
   holding a tile's scores against its whole path. Above the diagonal it computes only what completes a panel of
   columns. Tasks write to separate memory, so results do not depend on the number of threads.

   Shapes: N tokens, P queries, H query heads, G key heads, D head size, S segments. Rows of `padded` floats hold D
   values, then zeros up to whole panels. */

#include <stdlib.h>

#include "panels.h"

enum { TILE = 32 }; /* queries per tile */

typedef struct {
    const int64_t *start, *length, *parent; /* [S], parents before children */
    const int64_t *first_query;   /* [S], the first query of each segment, negative for a segment without queries */
    const int64_t *first_segment; /* [trees + 1], the first segment of each tree */
    int64_t trees, heads, kv_heads, head_dim, window; /* window 0: no sliding window */
    float scale;
} AttentionParams;

/* The part of a segment that a tile attends to: columns [0, columns) of its panels, at `column` of its scores. */
typedef struct {
    int64_t segment, offset, position, length, column, begin, columns;
} SegmentSpan;

/* Copies rows [length, padded] of one head of a segment, times `by`; pads rows to a whole panel and columns with 0. */
static void pack_rows(StridedTensor from, int64_t head, int64_t start, int64_t length, int64_t size, float by,
                      float *to)
{
    const int64_t padded = round_up(size, PANEL);
    for (int64_t t = 0; t < length; t++, to += padded) {
        const float *row = from.data + (start + t) * from.token_stride + head * from.head_stride;
        for (int64_t d = 0; d < size; d++) to[d] = row[d] * by;
        for (int64_t d = size; d < padded; d++) to[d] = 0;
    }
    memset(to, 0, (round_up(length, PANEL) - length) * padded * sizeof(float));
}

/* Number of segments on the path from the root to this one. */
static int64_t path_length(const AttentionParams *params, int64_t segment)
{
    int64_t depth = 0;
    for (int64_t s = segment; s >= 0; s = params->parent[s]) depth++;
    return depth;
}

/* Spans of the path that queries [from, to) of `segment` attend to. Returns their number; total width in `columns`. */
static int64_t visible_spans(const AttentionParams *params, const int64_t *offsets, int64_t segment, int64_t from,
                             int64_t to, SegmentSpan *spans, int64_t *columns)
{
    const int64_t count = path_length(params, segment);
    int64_t position = 0, place = count;
    for (int64_t s = segment; s >= 0; s = params->parent[s])
        spans[--place] = (SegmentSpan){.segment = s, .offset = offsets[s], .length = params->length[s]};
    for (int64_t i = 0; i < count; i++) {
        spans[i].position = position;
        position += spans[i].length;
    }
    const int64_t before = position - params->length[segment]; /* position of the segment's first token */
    int64_t kept = 0;
    *columns = 0;
    for (int64_t i = 0; i < count; i++) {
        SegmentSpan span = spans[i];
        const int64_t oldest = params->window ? before + from - params->window + 1 - span.position : 0;
        span.begin = oldest > 0 ? oldest / PANEL * PANEL : 0;
        const int64_t end = round_up(span.segment == segment ? to : span.length, PANEL);
        if (span.begin >= end) continue;
        span.columns = end - span.begin;
        span.column = *columns;
        *columns += span.columns;
        spans[kept++] = span;
    }
    return kept;
}

/* Columns [low, high) of a span that the query at `position` of its tree attends to. */
static void visible_columns(const AttentionParams *params, const SegmentSpan *span, int64_t position, int64_t *low,
                            int64_t *high)
{
    const int64_t last = position - span->position + 1, oldest = params->window ? last - params->window : 0;
    *high = (last < span->length ? last : span->length) - span->begin;
    *low = oldest > span->begin ? oldest - span->begin : 0;
    if (*low > *high) *low = *high;
}

/* Position of a segment's first token in its tree. */
static int64_t start_position(const AttentionParams *params, int64_t segment)
{
    int64_t position = 0;
    for (int64_t s = params->parent[segment]; s >= 0; s = params->parent[s]) position += params->length[s];
    return position;
}

/* Offsets [S] of segments in the packed rows of their tree, and the maximum of each size over all trees. */
typedef struct {
    int64_t *offsets;
    int64_t rows, columns, depth;
} TreeLayout;

static TreeLayout layout_of(const AttentionParams *params)
{
    const int64_t segments = params->first_segment[params->trees];
    TreeLayout layout = {malloc((segments + 1) * sizeof(int64_t)), 0, 0, 0};
    if (!layout.offsets) return layout;
    for (int64_t tree = 0; tree < params->trees; tree++) {
        int64_t rows = 0;
        for (int64_t s = params->first_segment[tree]; s < params->first_segment[tree + 1]; s++) {
            layout.offsets[s] = rows;
            rows += round_up(params->length[s], PANEL);
            int64_t columns = 0;
            for (int64_t on = s; on >= 0; on = params->parent[on]) columns += round_up(params->length[on], PANEL);
            const int64_t depth = path_length(params, s);
            if (columns > layout.columns) layout.columns = columns;
            if (depth > layout.depth) layout.depth = depth;
        }
        if (rows > layout.rows) layout.rows = rows;
    }
    layout.columns += LANES; /* rows of scores a power of two apart would collide in the cache's sets */
    return layout;
}

static void forward_task(const AttentionParams *params, const TreeLayout *layout, const StridedTensor *tensors,
                         float *lse, int64_t tree, int64_t head, float *memory, SegmentSpan *spans)
{
    const StridedTensor q = tensors[0], k = tensors[1], v = tensors[2], out = tensors[3];
    const int64_t size = params->head_dim, padded = round_up(size, PANEL),
                  key_head = head / (params->heads / params->kv_heads);
    float *keys = arena_alloc(&memory, layout->rows * padded), *values = arena_alloc(&memory, layout->rows * padded);
    float *queries = arena_alloc(&memory, TILE * padded), *result = arena_alloc(&memory, TILE * padded);
    float *scores = arena_alloc(&memory, TILE * layout->columns);
    for (int64_t s = params->first_segment[tree]; s < params->first_segment[tree + 1]; s++) {
        const int64_t start = params->start[s], length = params->length[s], place = layout->offsets[s] * padded;
        pack_rows(k, key_head, start, length, size, 1, values + place);
        pack_panels(values + place, length, padded, keys + place);
        pack_rows(v, key_head, start, length, size, 1, values + place);
    }
    for (int64_t s = params->first_segment[tree]; s < params->first_segment[tree + 1]; s++) {
        const int64_t at = params->first_query[s], length = at < 0 ? 0 : params->length[s],
                      first = start_position(params, s);
        for (int64_t from = 0; from < length; from += TILE) {
            const int64_t rows = length - from < TILE ? length - from : TILE;
            int64_t columns;
            const int64_t count = visible_spans(params, layout->offsets, s, from, from + rows, spans, &columns);
            const int64_t row = columns + LANES;
            pack_rows(q, head, at + from, rows, size, params->scale, queries);
            for (int64_t i = 0; i < count; i++)
                matmul(rows, spans[i].columns, padded, queries, padded, 1,
                       keys + (spans[i].offset + spans[i].begin) * padded, PANEL * padded, PANEL,
                       scores + spans[i].column, row, 0);
            float sums[TILE];
            for (int64_t r = 0; r < rows; r++) {
                float max_score = -INFINITY;
                for (int64_t i = 0; i < count; i++) {
                    int64_t low, high;
                    visible_columns(params, &spans[i], first + from + r, &low, &high);
                    max_score = fmaxf(max_score, max_in_range(scores + r * row + spans[i].column, low, high));
                }
                vec total = splat(0);
                for (int64_t i = 0; i < count; i++) {
                    int64_t low, high;
                    visible_columns(params, &spans[i], first + from + r, &low, &high);
                    total += exp_in_range(scores + r * row + spans[i].column, low, high, spans[i].columns, max_score);
                }
                sums[r] = horizontal_sum(total);
                lse[(at + from + r) * params->heads + head] = max_score + logf(sums[r]);
            }
            for (int64_t i = 0; i < count; i++)
                matmul(rows, padded, spans[i].columns, scores + spans[i].column, row, 1,
                       values + (spans[i].offset + spans[i].begin) * padded, PANEL, padded, result, padded, i > 0);
            for (int64_t r = 0; r < rows; r++) {
                float *to = out.data + (at + from + r) * out.token_stride + head * out.head_stride;
                const float by = 1 / sums[r];
                for (int64_t d = 0; d < size; d++) to[d] = result[r * padded + d] * by;
            }
        }
    }
}

static void backward_task(const AttentionParams *params, const TreeLayout *layout, const StridedTensor *tensors,
                          float *lse, int64_t tree, int64_t head, float *memory, SegmentSpan *spans)
{
    const StridedTensor q = tensors[0], k = tensors[1], v = tensors[2], out = tensors[3], d_out = tensors[4],
                        d_q = tensors[5], d_k = tensors[6], d_v = tensors[7];
    const int64_t size = params->head_dim, padded = round_up(size, PANEL),
                  key_head = head / (params->heads / params->kv_heads);
    const int64_t all = layout->rows * padded;
    float *keys = arena_alloc(&memory, all), *key_panels = arena_alloc(&memory, all),
          *value_panels = arena_alloc(&memory, all);
    float *grad_keys = arena_alloc(&memory, all), *grad_values = arena_alloc(&memory, all);
    float *queries = arena_alloc(&memory, TILE * padded), *grad_out = arena_alloc(&memory, TILE * padded),
          *result = arena_alloc(&memory, TILE * padded);
    float *weights = arena_alloc(&memory, TILE * layout->columns),
          *d_scores = arena_alloc(&memory, TILE * layout->columns);
    int64_t used = 0;
    for (int64_t s = params->first_segment[tree]; s < params->first_segment[tree + 1]; s++) {
        const int64_t start = params->start[s], length = params->length[s], place = layout->offsets[s] * padded;
        pack_rows(v, key_head, start, length, size, 1, keys + place);
        pack_panels(keys + place, length, padded, value_panels + place);
        pack_rows(k, key_head, start, length, size, 1, keys + place);
        pack_panels(keys + place, length, padded, key_panels + place);
        used = layout->offsets[s] + round_up(length, PANEL);
    }
    memset(grad_keys, 0, used * padded * sizeof(float));
    memset(grad_values, 0, used * padded * sizeof(float));
    for (int64_t s = params->first_segment[tree]; s < params->first_segment[tree + 1]; s++) {
        const int64_t at = params->first_query[s], length = at < 0 ? 0 : params->length[s],
                      first = start_position(params, s);
        for (int64_t from = 0; from < length; from += TILE) {
            const int64_t rows = length - from < TILE ? length - from : TILE;
            int64_t columns;
            const int64_t count = visible_spans(params, layout->offsets, s, from, from + rows, spans, &columns);
            const int64_t row = columns + LANES;
            pack_rows(q, head, at + from, rows, size, params->scale, queries);
            pack_rows(d_out, head, at + from, rows, size, 1, grad_out);
            for (int64_t i = 0; i < count; i++) {
                const int64_t place = (spans[i].offset + spans[i].begin) * padded;
                matmul(rows, spans[i].columns, padded, queries, padded, 1, key_panels + place, PANEL * padded, PANEL,
                       weights + spans[i].column, row, 0);
                matmul(rows, spans[i].columns, padded, grad_out, padded, 1, value_panels + place, PANEL * padded, PANEL,
                       d_scores + spans[i].column, row, 0);
            }
            for (int64_t r = 0; r < rows; r++) {
                const int64_t query = at + from + r;
                const float *output = out.data + query * out.token_stride + head * out.head_stride;
                float delta = 0;
                for (int64_t d = 0; d < size; d++) delta += output[d] * grad_out[r * padded + d];
                for (int64_t i = 0; i < count; i++) {
                    int64_t low, high;
                    visible_columns(params, &spans[i], first + from + r, &low, &high);
                    float *weight = weights + r * row + spans[i].column,
                          *d_score = d_scores + r * row + spans[i].column;
                    exp_in_range(weight, low, high, spans[i].columns, lse[query * params->heads + head]);
                    for (int64_t j = 0; j < spans[i].columns; j += LANES)
                        store(d_score + j, load(weight + j) * (load(d_score + j) - splat(delta)));
                }
            }
            for (int64_t i = 0; i < count; i++) {
                const int64_t place = (spans[i].offset + spans[i].begin) * padded;
                matmul(rows, padded, spans[i].columns, d_scores + spans[i].column, row, 1, keys + place, PANEL, padded,
                       result, padded, i > 0);
                matmul(spans[i].columns, padded, rows, weights + spans[i].column, 1, row, grad_out, PANEL, padded,
                       grad_values + place, padded, 1);
                matmul(spans[i].columns, padded, rows, d_scores + spans[i].column, 1, row, queries, PANEL, padded,
                       grad_keys + place, padded, 1);
            }
            for (int64_t r = 0; r < rows; r++) {
                float *to = d_q.data + (at + from + r) * d_q.token_stride + head * d_q.head_stride;
                for (int64_t d = 0; d < size; d++) to[d] = result[r * padded + d] * params->scale;
            }
        }
    }
    for (int64_t s = params->first_segment[tree]; s < params->first_segment[tree + 1]; s++)
        for (int64_t t = 0; t < params->length[s]; t++) {
            const int64_t token = params->start[s] + t, place = (layout->offsets[s] + t) * padded;
            memcpy(d_k.data + token * d_k.token_stride + head * d_k.head_stride, grad_keys + place,
                   size * sizeof(float));
            memcpy(d_v.data + token * d_v.token_stride + head * d_v.head_stride, grad_values + place,
                   size * sizeof(float));
        }
}

typedef void Task(const AttentionParams *params, const TreeLayout *layout, const StridedTensor *tensors, float *lse,
                  int64_t tree, int64_t head, float *memory, SegmentSpan *spans);

/* Runs a task for every head of every tree on all threads. A task's scratch memory: `packed_buffers` with a row per
   packed token, `tile_buffers` with a row per query of a tile, `score_buffers` with a row of scores per query. Returns
   0, or 1 if out of memory. */
static int run_tasks(const AttentionParams *params, const StridedTensor *tensors, float *lse, int64_t packed_buffers,
                     int64_t tile_buffers, int64_t score_buffers, Task *task)
{
    const int64_t padded = round_up(params->head_dim, PANEL);
    const TreeLayout layout = layout_of(params);
    const int64_t buffers = packed_buffers + tile_buffers + score_buffers; /* each starts on a cache line */
    const int64_t floats = (packed_buffers * layout.rows + tile_buffers * TILE) * padded +
                           score_buffers * TILE * layout.columns + 16 * buffers;
    int failed = !layout.offsets;
#pragma omp parallel if (!failed)
    {
        float *memory = failed ? NULL : aligned_alloc(64, round_up(floats * sizeof(float), 64));
        SegmentSpan *spans = failed ? NULL : malloc((layout.depth + 1) * sizeof(SegmentSpan));
        const int allocated = memory && spans;
        if (!allocated) failed = 1;
#pragma omp for schedule(dynamic, 1)
        for (int64_t number = 0; number < params->trees * params->heads; number++)
            if (allocated)
                task(params, &layout, tensors, lse, number / params->heads, number % params->heads, memory, spans);
        free(memory);
        free(spans);
    }
    free(layout.offsets);
    return failed;
}

/* Both return 0, or 1 if out of memory. lse [P, H]: log-sum-exp of each query's scores. */

/* `tensors` are q, k, v and out. */
int forest_attention(const AttentionParams *params, const StridedTensor *tensors, float *lse)
{
    return run_tasks(params, tensors, lse, 2, 2, 1, forward_task);
}

/* `tensors` are q, k, v, out and the gradients of out, q, k, v. Gradients of k and v [N, H, D] are per query head; the
   caller sums those of one key head. */
int forest_attention_backward(const AttentionParams *params, const StridedTensor *tensors, float *lse)
{
    return run_tasks(params, tensors, lse, 5, 3, 2, backward_task);
}
