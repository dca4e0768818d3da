/* What a decoder layer does between its products, in fp32, forward and backward: root-mean-square norms, gated units and
   rotations, each in one pass over its rows.

   Rows of x are `x_row` floats apart; results lie row after row. Legend: M rows, D width. */

#include "vectors.h"

enum {
    SERIAL = 16384, /* numbers that one thread computes sooner alone */
    BLOCK = 128,    /* rows whose gradients of a norm's weight are summed together */
    SQUARE = 64     /* side of what is transposed at once */
};

/* out = x / sqrt(mean(x^2) + epsilon) * weight; scales [M] are 1 over the roots. Without a weight it is 1. */
void rms_norm(
    int64_t rows, int64_t width, const float *x, int64_t x_row, const float *weight, float epsilon, float *out,
    float *scales)
{
#pragma omp parallel for schedule(static) if (rows * width > SERIAL)
    for (int64_t m = 0; m < rows; m++) {
        const float *from = x + m * x_row;
        float *to = out + m * width;
        const float scale = 1 / sqrtf(dot(from, from, width) / width + epsilon);
        if (scales) scales[m] = scale;
        if (weight)
            for (int64_t d = 0; d < width; d++) to[d] = from[d] * scale * weight[d];
        else
            for (int64_t d = 0; d < width; d++) to[d] = from[d] * scale;
    }
}

/* From the gradient [M, D] of the result: that of x, and of the weight summed over every BLOCK rows, [M / BLOCK, D]. */
void rms_norm_backward(
    int64_t rows, int64_t width, const float *restrict gradient, int64_t gradient_row, const float *restrict x,
    int64_t x_row, const float *restrict weight, const float *scales, float *restrict d_x, float *restrict d_weights)
{
#pragma omp parallel for schedule(static) if (rows * width > SERIAL)
    for (int64_t block = 0; block < (rows + BLOCK - 1) / BLOCK; block++) {
        float *restrict sums = d_weights + block * width;
        memset(sums, 0, width * sizeof(float));
        for (int64_t m = block * BLOCK; m < rows && m < (block + 1) * BLOCK; m++) {
            const float *restrict from = x + m * x_row, *restrict given = gradient + m * gradient_row;
            float *restrict to = d_x + m * width;
            const float scale = scales[m];
            for (int64_t d = 0; d < width; d++) to[d] = given[d] * weight[d];
            const float pull = dot(to, from, width) * scale * scale * scale / width;
            for (int64_t d = 0; d < width; d++) {
                to[d] = to[d] * scale - from[d] * pull;
                sums[d] += given[d] * from[d] * scale;
            }
        }
    }
}

INLINE void gated_slopes(vec given, vec gate, vec up, vec *d_gate, vec *d_up)
{
    const vec share = sigmoid(gate), unit = gate * share;
    *d_gate = given * up * (share + unit * (splat(1) - share));
    *d_up = given * unit;
}

/* The last, partial vector of a row: loaded with zeros behind, stored as far as the row goes. */
INLINE vec load_some(const float *from, int64_t count)
{
    vec loaded = splat(0);
    memcpy(&loaded, from, count * sizeof(float));
    return loaded;
}

INLINE void store_some(float *to, vec stored, int64_t count) { memcpy(to, &stored, count * sizeof(float)); }

/* out = silu(gate) * up */
void gated(
    int64_t rows, int64_t width, const float *gate, int64_t gate_row, const float *up, int64_t up_row, float *out)
{
#pragma omp parallel for schedule(static) if (rows * width > SERIAL)
    for (int64_t m = 0; m < rows; m++) {
        const float *g = gate + m * gate_row, *u = up + m * up_row;
        float *to = out + m * width;
        int64_t d = 0;
        for (; d + LANES <= width; d += LANES) store(to + d, gated_unit(load(g + d), load(u + d)));
        if (d < width)
            store_some(to + d, gated_unit(load_some(g + d, width - d), load_some(u + d, width - d)), width - d);
    }
}

void gated_backward(
    int64_t rows, int64_t width, const float *gradient, int64_t gradient_row, const float *gate, int64_t gate_row,
    const float *up, int64_t up_row, float *d_gate, float *d_up)
{
#pragma omp parallel for schedule(static) if (rows * width > SERIAL)
    for (int64_t m = 0; m < rows; m++) {
        const float *given = gradient + m * gradient_row, *g = gate + m * gate_row, *u = up + m * up_row;
        float *to_gate = d_gate + m * width, *to_up = d_up + m * width;
        vec a, b;
        int64_t d = 0;
        for (; d + LANES <= width; d += LANES) {
            gated_slopes(load(given + d), load(g + d), load(u + d), &a, &b);
            store(to_gate + d, a);
            store(to_up + d, b);
        }
        if (d < width) {
            const int64_t rest = width - d;
            gated_slopes(load_some(given + d, rest), load_some(g + d, rest), load_some(u + d, rest), &a, &b);
            store_some(to_gate + d, a, rest);
            store_some(to_up + d, b, rest);
        }
    }
}

/* out [N, H, D] = x * cos + turned(x) * sin, where turned(x) is (-second half, first half) of each head (RoFormer, §3.4.2,
   in the order of GPT-NeoX). x [N, H, D] by `x_token` and `x_head`; cos and sin [N, D]. `back` applies the transpose. */
void rotate(
    int64_t tokens, int64_t heads, int64_t size, const float *x, int64_t x_token, int64_t x_head,
    const float *restrict cosines, const float *restrict sines, int back, float *out)
{
    const int64_t half = size / 2;
#pragma omp parallel for schedule(static) if (tokens * heads * size > SERIAL)
    for (int64_t n = 0; n < tokens; n++) {
        const float *restrict c = cosines + n * size, *restrict s = sines + n * size;
        for (int64_t h = 0; h < heads; h++) {
            const float *restrict from = x + n * x_token + h * x_head;
            float *restrict to = out + (n * heads + h) * size;
            if (back)
                for (int64_t d = 0; d < half; d++) {
                    to[d] = from[d] * c[d] + from[d + half] * s[d + half];
                    to[d + half] = from[d + half] * c[d + half] - from[d] * s[d];
                }
            else
                for (int64_t d = 0; d < half; d++) {
                    to[d] = from[d] * c[d] - from[d + half] * s[d];
                    to[d + half] = from[d + half] * c[d + half] + from[d] * s[d + half];
                }
        }
    }
}

/* out [columns, rows] = x [rows, columns], by squares that fit the cache. */
void transpose(int64_t rows, int64_t columns, const float *x, int64_t x_row, float *out)
{
#pragma omp parallel for collapse(2) schedule(static) if (rows * columns > SERIAL)
    for (int64_t n = 0; n < columns; n += SQUARE)
        for (int64_t m = 0; m < rows; m += SQUARE) {
            const int64_t last_row = m + SQUARE < rows ? m + SQUARE : rows;
            const int64_t last_column = n + SQUARE < columns ? n + SQUARE : columns;
            for (int64_t i = m; i < last_row; i += LANES)
                for (int64_t j = n; j < last_column; j += LANES) {
                    if (i + LANES <= last_row && j + LANES <= last_column) {
                        turn_square(x + i * x_row + j, x_row, out + j * rows + i, rows);
                        continue;
                    }
                    for (int64_t a = i; a < last_row && a < i + LANES; a++)
                        for (int64_t b = j; b < last_column && b < j + LANES; b++) out[b * rows + a] = x[a * x_row + b];
                }
        }
}
