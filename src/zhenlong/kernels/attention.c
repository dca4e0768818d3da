/* Attention over a forest of token segments in fp32, forward and backward.

   A query sees its own segment up to itself and all of its ancestors, or of these the last `window` tokens. The tokens of
   some segments may be seen only: queries are rows of their own, and a segment tells which is its first. One task is
   one head of one tree: its keys and values are packed once, then its queries go by in tiles of TILE rows, whose scores
   against the whole path are kept at once. Nothing is computed above the diagonal but what a panel of columns needs.
   Tasks write to places of their own, so results do not depend on the number of threads.

   Legend: N tokens, P of them that ask, H query heads, G key heads, D head size; S segments. Rows of `wide` floats: D, then zeros up to
   whole panels. */

#include <stdlib.h>

#include "panels.h"

enum { TILE = 32 }; /* queries that go by together */

typedef struct {
    const int64_t *start, *length, *parent; /* [S], parents before children */
    const int64_t *row;                     /* [S], the first query of each segment, negative where none asks */
    const int64_t *first;                   /* [trees + 1], the first segment of each tree */
    int64_t trees, heads, key_heads, size, window; /* a window of 0 is none */
    float scale;
} Shape;

/* What a tile sees of one segment: columns [0, columns) of its panels, at `column` of the tile's scores. */
typedef struct {
    int64_t segment, offset, position, length, column, begin, columns;
} Piece;

/* Rows [length, wide] of one head of a segment, times `by`; rows up to a whole panel and columns beyond D are 0. */
static void pack_rows(Array from, int64_t head, int64_t start, int64_t length, int64_t size, float by, float *to)
{
    const int64_t wide = up(size, PANEL);
    for (int64_t t = 0; t < length; t++, to += wide) {
        const float *row = from.at + (start + t) * from.token + head * from.head;
        for (int64_t d = 0; d < size; d++) to[d] = row[d] * by;
        for (int64_t d = size; d < wide; d++) to[d] = 0;
    }
    memset(to, 0, (up(length, PANEL) - length) * wide * sizeof(float));
}

/* How many segments the path down to this one has. */
static int64_t depth_of(const Shape *shape, int64_t segment)
{
    int64_t depth = 0;
    for (int64_t s = segment; s >= 0; s = shape->parent[s]) depth++;
    return depth;
}

/* The path's pieces that queries [from, to) of `segment` see; returns how many, and the columns of all in `columns`. */
static int64_t see(
    const Shape *shape, const int64_t *offsets, int64_t segment, int64_t from, int64_t to, Piece *pieces,
    int64_t *columns)
{
    const int64_t count = depth_of(shape, segment);
    int64_t position = 0, place = count;
    for (int64_t s = segment; s >= 0; s = shape->parent[s])
        pieces[--place] = (Piece){.segment = s, .offset = offsets[s], .length = shape->length[s]};
    for (int64_t i = 0; i < count; i++) {
        pieces[i].position = position;
        position += pieces[i].length;
    }
    const int64_t before = position - shape->length[segment]; /* position of the segment's first token */
    int64_t kept = 0;
    *columns = 0;
    for (int64_t i = 0; i < count; i++) {
        Piece piece = pieces[i];
        const int64_t oldest = shape->window ? before + from - shape->window + 1 - piece.position : 0;
        piece.begin = oldest > 0 ? oldest / PANEL * PANEL : 0;
        const int64_t end = up(piece.segment == segment ? to : piece.length, PANEL);
        if (piece.begin >= end) continue;
        piece.columns = end - piece.begin;
        piece.column = *columns;
        *columns += piece.columns;
        pieces[kept++] = piece;
    }
    return kept;
}

/* Which columns of a piece the query at `position` of its tree sees: [low, high). */
static void seen(const Shape *shape, const Piece *piece, int64_t position, int64_t *low, int64_t *high)
{
    const int64_t last = position - piece->position + 1, oldest = shape->window ? last - shape->window : 0;
    *high = (last < piece->length ? last : piece->length) - piece->begin;
    *low = oldest > piece->begin ? oldest - piece->begin : 0;
    if (*low > *high) *low = *high;
}

/* How many tokens come before a segment on its path. */
static int64_t position_of(const Shape *shape, int64_t segment)
{
    int64_t position = 0;
    for (int64_t s = shape->parent[segment]; s >= 0; s = shape->parent[s]) position += shape->length[s];
    return position;
}

/* Places of a tree's segments in packed rows, [S], and the most of everything over all trees. */
typedef struct {
    int64_t *offsets;
    int64_t rows, columns, depth;
} Places;

static Places places_of(const Shape *shape)
{
    const int64_t segments = shape->first[shape->trees];
    Places places = {malloc((segments + 1) * sizeof(int64_t)), 0, 0, 0};
    if (!places.offsets) return places;
    for (int64_t tree = 0; tree < shape->trees; tree++) {
        int64_t rows = 0;
        for (int64_t s = shape->first[tree]; s < shape->first[tree + 1]; s++) {
            places.offsets[s] = rows;
            rows += up(shape->length[s], PANEL);
            int64_t columns = 0;
            for (int64_t on = s; on >= 0; on = shape->parent[on]) columns += up(shape->length[on], PANEL);
            const int64_t depth = depth_of(shape, s);
            if (columns > places.columns) places.columns = columns;
            if (depth > places.depth) places.depth = depth;
        }
        if (rows > places.rows) places.rows = rows;
    }
    places.columns += LANES; /* rows of scores a power of two apart would share a few sets of the cache */
    return places;
}

static void forward_task(
    const Shape *shape, const Places *places, const Array *all_given, float *norms, int64_t tree, int64_t head,
    float *memory, Piece *pieces)
{
    const Array q = all_given[0], k = all_given[1], v = all_given[2], out = all_given[3];
    const int64_t size = shape->size, wide = up(size, PANEL), key_head = head / (shape->heads / shape->key_heads);
    float *keys = cut(&memory, places->rows * wide), *values = cut(&memory, places->rows * wide);
    float *queries = cut(&memory, TILE * wide), *result = cut(&memory, TILE * wide);
    float *scores = cut(&memory, TILE * places->columns);
    for (int64_t s = shape->first[tree]; s < shape->first[tree + 1]; s++) {
        const int64_t start = shape->start[s], length = shape->length[s], place = places->offsets[s] * wide;
        pack_rows(k, key_head, start, length, size, 1, values + place);
        turn(values + place, length, wide, keys + place);
        pack_rows(v, key_head, start, length, size, 1, values + place);
    }
    for (int64_t s = shape->first[tree]; s < shape->first[tree + 1]; s++) {
        const int64_t at = shape->row[s], length = at < 0 ? 0 : shape->length[s], first = position_of(shape, s);
        for (int64_t from = 0; from < length; from += TILE) {
            const int64_t rows = length - from < TILE ? length - from : TILE;
            int64_t columns;
            const int64_t count = see(shape, places->offsets, s, from, from + rows, pieces, &columns);
            const int64_t row = columns + LANES;
            pack_rows(q, head, at + from, rows, size, shape->scale, queries);
            for (int64_t i = 0; i < count; i++)
                product(rows, pieces[i].columns, wide, queries, wide, 1,
                        keys + (pieces[i].offset + pieces[i].begin) * wide, PANEL * wide, PANEL,
                        scores + pieces[i].column, row, 0);
            float sums[TILE];
            for (int64_t r = 0; r < rows; r++) {
                float most = -INFINITY;
                for (int64_t i = 0; i < count; i++) {
                    int64_t low, high;
                    seen(shape, &pieces[i], first + from + r, &low, &high);
                    most = fmaxf(most, largest(scores + r * row + pieces[i].column, low, high));
                }
                vec total = splat(0);
                for (int64_t i = 0; i < count; i++) {
                    int64_t low, high;
                    seen(shape, &pieces[i], first + from + r, &low, &high);
                    total += exponentials(scores + r * row + pieces[i].column, low, high, pieces[i].columns, most);
                }
                sums[r] = sum_of(total);
                norms[(at + from + r) * shape->heads + head] = most + logf(sums[r]);
            }
            for (int64_t i = 0; i < count; i++)
                product(rows, wide, pieces[i].columns, scores + pieces[i].column, row, 1,
                        values + (pieces[i].offset + pieces[i].begin) * wide, PANEL, wide, result, wide, i > 0);
            for (int64_t r = 0; r < rows; r++) {
                float *to = out.at + (at + from + r) * out.token + head * out.head;
                const float by = 1 / sums[r];
                for (int64_t d = 0; d < size; d++) to[d] = result[r * wide + d] * by;
            }
        }
    }
}

static void backward_task(
    const Shape *shape, const Places *places, const Array *all_given, float *norms, int64_t tree, int64_t head,
    float *memory, Piece *pieces)
{
    const Array q = all_given[0], k = all_given[1], v = all_given[2], out = all_given[3], d_out = all_given[4],
                d_q = all_given[5], d_k = all_given[6], d_v = all_given[7];
    const int64_t size = shape->size, wide = up(size, PANEL), key_head = head / (shape->heads / shape->key_heads);
    const int64_t all = places->rows * wide;
    float *keys = cut(&memory, all), *turned_keys = cut(&memory, all), *turned_values = cut(&memory, all);
    float *to_keys = cut(&memory, all), *to_values = cut(&memory, all);
    float *queries = cut(&memory, TILE * wide), *given = cut(&memory, TILE * wide), *result = cut(&memory, TILE * wide);
    float *weights = cut(&memory, TILE * places->columns), *slopes = cut(&memory, TILE * places->columns);
    int64_t used = 0;
    for (int64_t s = shape->first[tree]; s < shape->first[tree + 1]; s++) {
        const int64_t start = shape->start[s], length = shape->length[s], place = places->offsets[s] * wide;
        pack_rows(v, key_head, start, length, size, 1, keys + place);
        turn(keys + place, length, wide, turned_values + place);
        pack_rows(k, key_head, start, length, size, 1, keys + place);
        turn(keys + place, length, wide, turned_keys + place);
        used = places->offsets[s] + up(length, PANEL);
    }
    memset(to_keys, 0, used * wide * sizeof(float));
    memset(to_values, 0, used * wide * sizeof(float));
    for (int64_t s = shape->first[tree]; s < shape->first[tree + 1]; s++) {
        const int64_t at = shape->row[s], length = at < 0 ? 0 : shape->length[s], first = position_of(shape, s);
        for (int64_t from = 0; from < length; from += TILE) {
            const int64_t rows = length - from < TILE ? length - from : TILE;
            int64_t columns;
            const int64_t count = see(shape, places->offsets, s, from, from + rows, pieces, &columns);
            const int64_t row = columns + LANES;
            pack_rows(q, head, at + from, rows, size, shape->scale, queries);
            pack_rows(d_out, head, at + from, rows, size, 1, given);
            for (int64_t i = 0; i < count; i++) {
                const int64_t place = (pieces[i].offset + pieces[i].begin) * wide;
                product(rows, pieces[i].columns, wide, queries, wide, 1, turned_keys + place, PANEL * wide, PANEL,
                        weights + pieces[i].column, row, 0);
                product(rows, pieces[i].columns, wide, given, wide, 1, turned_values + place, PANEL * wide, PANEL,
                        slopes + pieces[i].column, row, 0);
            }
            for (int64_t r = 0; r < rows; r++) {
                const int64_t query = at + from + r;
                const float *had = out.at + query * out.token + head * out.head;
                float mean = 0;
                for (int64_t d = 0; d < size; d++) mean += had[d] * given[r * wide + d];
                for (int64_t i = 0; i < count; i++) {
                    int64_t low, high;
                    seen(shape, &pieces[i], first + from + r, &low, &high);
                    float *weight = weights + r * row + pieces[i].column, *slope = slopes + r * row + pieces[i].column;
                    exponentials(weight, low, high, pieces[i].columns, norms[query * shape->heads + head]);
                    for (int64_t j = 0; j < pieces[i].columns; j += LANES)
                        store(slope + j, load(weight + j) * (load(slope + j) - splat(mean)));
                }
            }
            for (int64_t i = 0; i < count; i++) {
                const int64_t place = (pieces[i].offset + pieces[i].begin) * wide;
                product(rows, wide, pieces[i].columns, slopes + pieces[i].column, row, 1, keys + place, PANEL, wide,
                        result, wide, i > 0);
                product(pieces[i].columns, wide, rows, weights + pieces[i].column, 1, row, given, PANEL, wide,
                        to_values + place, wide, 1);
                product(pieces[i].columns, wide, rows, slopes + pieces[i].column, 1, row, queries, PANEL, wide,
                        to_keys + place, wide, 1);
            }
            for (int64_t r = 0; r < rows; r++) {
                float *to = d_q.at + (at + from + r) * d_q.token + head * d_q.head;
                for (int64_t d = 0; d < size; d++) to[d] = result[r * wide + d] * shape->scale;
            }
        }
    }
    for (int64_t s = shape->first[tree]; s < shape->first[tree + 1]; s++)
        for (int64_t t = 0; t < shape->length[s]; t++) {
            const int64_t token = shape->start[s] + t, place = (places->offsets[s] + t) * wide;
            memcpy(d_k.at + token * d_k.token + head * d_k.head, to_keys + place, size * sizeof(float));
            memcpy(d_v.at + token * d_v.token + head * d_v.head, to_values + place, size * sizeof(float));
        }
}

typedef void Task(
    const Shape *shape, const Places *places, const Array *all_given, float *norms, int64_t tree, int64_t head,
    float *memory, Piece *pieces);

/* Every head of every tree, by all threads. Of what a task keeps, `packed` parts have a row for each packed token, `tiles`
   parts a row for each query of a tile, and `scored` parts a row of scores for it. Returns 0, or 1 where memory ran out. */
static int over_tasks(
    const Shape *shape, const Array *given, float *norms, int64_t packed, int64_t tiles, int64_t scored, Task *task)
{
    const int64_t wide = up(shape->size, PANEL);
    const Places places = places_of(shape);
    const int64_t parts = packed + tiles + scored; /* each begins at a whole cache line */
    const int64_t floats = (packed * places.rows + tiles * TILE) * wide + scored * TILE * places.columns + 16 * parts;
    int failed = !places.offsets;
#pragma omp parallel if (!failed)
    {
        float *memory = failed ? NULL : aligned_alloc(64, up(floats * sizeof(float), 64));
        Piece *pieces = failed ? NULL : malloc((places.depth + 1) * sizeof(Piece));
        const int ready = memory && pieces;
        if (!ready) failed = 1;
#pragma omp for schedule(dynamic, 1)
        for (int64_t number = 0; number < shape->trees * shape->heads; number++)
            if (ready)
                task(shape, &places, given, norms, number / shape->heads, number % shape->heads, memory, pieces);
        free(memory);
        free(pieces);
    }
    free(places.offsets);
    return failed;
}

/* Both return 0, or 1 where memory ran out. norms [P, H] are logarithms of the sums of exponentials. */

/* `given` are q, k, v and out. */
int forest_attention(const Shape *shape, const Array *given, float *norms)
{
    return over_tasks(shape, given, norms, 2, 2, 1, forward_task);
}

/* `given` are q, k, v, out, and then the gradients of out, q, k and v. Those of k and v [N, H, D] are of each query head;
   those that share a key head are yet to be added. */
int forest_attention_backward(const Shape *shape, const Array *given, float *norms)
{
    return over_tasks(shape, given, norms, 5, 3, 2, backward_task);
}
