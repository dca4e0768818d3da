/* Small matrix products by panels of two vectors: accumulators stay in registers over the inner dimension. */

#ifndef ZHENLONG_PANELS_H
#define ZHENLONG_PANELS_H

#include "vectors.h"

enum { PANEL = 2 * LANES, ROWS = REGISTERS >= 32 ? 8 : 4 };

typedef struct { /* a tensor [N, heads, D], strides in floats; the last dimension is contiguous */
    float *data;
    int64_t token_stride, head_stride;
} StridedTensor;

INLINE int64_t round_up(int64_t number, int64_t multiple) { return (number + multiple - 1) / multiple * multiple; }

/* Takes the next part of a thread's scratch memory, aligned to a cache line. */
INLINE float *arena_alloc(float **memory, int64_t floats)
{
    float *part = *memory;
    *memory += round_up(floats, 16);
    return part;
}

/* c [rows, PANEL] = or += a [rows, depth] b [depth, PANEL], where a's element (i, p) is at i * a_row + p * a_step. */
INLINE void panel_matmul(const int rows, int64_t depth, const float *a, int64_t a_row, int64_t a_step, const float *b,
                         int64_t b_step, float *c, int64_t c_row, int add)
{
    vec sum[ROWS][2];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        sum[i][0] = add ? load(c + i * c_row) : splat(0);
        sum[i][1] = add ? load(c + i * c_row + LANES) : splat(0);
    }
    for (int64_t p = 0; p < depth; p++) {
        const vec left = load(b + p * b_step), right = load(b + p * b_step + LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            const vec factor = splat(a[i * a_row + p * a_step]);
            sum[i][0] += factor * left;
            sum[i][1] += factor * right;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        store(c + i * c_row, sum[i][0]);
        store(c + i * c_row + LANES, sum[i][1]);
    }
}

/* c [rows, columns] = or += a [rows, depth] b [depth, columns]; panels of b are b_panel apart. */
static inline void matmul(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t a_row, int64_t a_step,
                          const float *b, int64_t b_panel, int64_t b_step, float *c, int64_t c_row, int add)
{
    for (int64_t n = 0; n < columns; n += PANEL, b += b_panel, c += PANEL) {
        int64_t i = 0;
        for (; i + ROWS <= rows; i += ROWS)
            panel_matmul(ROWS, depth, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row, c_row, add);
        for (; i + 2 <= rows; i += 2)
            panel_matmul(2, depth, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row, c_row, add);
        if (i < rows) panel_matmul(1, depth, a + i * a_row, a_row, a_step, b, b_step, c + i * c_row, c_row, add);
    }
}

/* Transposes packed `rows` [length, padded] into panels of PANEL columns, [length / PANEL, padded, PANEL]. */
static inline void pack_panels(const float *rows, int64_t length, int64_t padded, float *to)
{
    for (int64_t t = 0; t < length; t += PANEL, rows += PANEL * padded, to += PANEL * padded)
        for (int64_t d = 0; d < padded; d += LANES)
            for (int64_t half = 0; half < PANEL; half += LANES)
                transpose_tile(rows + half * padded + d, padded, to + d * PANEL + half, PANEL);
}

#endif
