/* RMSNorm and SwiGLU in fp32, forward and backward, each in one pass over its rows; and a transposed copy.

   `x_row` is the stride between rows of x in floats; results are contiguous. Shapes: M rows, D width. */

#include "vectors.h"

enum {
    PARALLEL_THRESHOLD = 16384, /* elements: up to so many, one thread is faster */
    BLOCK = 128,                /* rows per partial sum of a norm's weight gradient */
    TILE = 64                   /* side of a transposed tile */
};

/* out = x / sqrt(mean(x^2) + epsilon) * weight; inverse_rms [M] = 1 / root. weight may be NULL: 1. */
void rms_norm(int64_t rows, int64_t width, const float *x, int64_t x_row, const float *weight, float epsilon,
              float *out, float *inverse_rms)
{
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_THRESHOLD)
    for (int64_t m = 0; m < rows; m++) {
        const float *from = x + m * x_row;
        float *to = out + m * width;
        const float scale = 1 / sqrtf(dot(from, from, width) / width + epsilon);
        if (inverse_rms) inverse_rms[m] = scale;
        if (weight)
            for (int64_t d = 0; d < width; d++) to[d] = from[d] * scale * weight[d];
        else
            for (int64_t d = 0; d < width; d++) to[d] = from[d] * scale;
    }
}

/* From the output gradient [M, D]: that of x, and partial weight gradients over BLOCK rows each, [M / BLOCK, D]. */
void rms_norm_backward(int64_t rows, int64_t width, const float *restrict gradient, int64_t gradient_row,
                       const float *restrict x, int64_t x_row, const float *restrict weight, const float *inverse_rms,
                       float *restrict d_x, float *restrict d_weights)
{
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_THRESHOLD)
    for (int64_t block = 0; block < (rows + BLOCK - 1) / BLOCK; block++) {
        float *restrict sums = d_weights + block * width;
        memset(sums, 0, width * sizeof(float));
        for (int64_t m = block * BLOCK; m < rows && m < (block + 1) * BLOCK; m++) {
            const float *restrict from = x + m * x_row, *restrict given = gradient + m * gradient_row;
            float *restrict to = d_x + m * width;
            const float scale = inverse_rms[m];
            for (int64_t d = 0; d < width; d++) to[d] = given[d] * weight[d];
            const float pull = dot(to, from, width) * scale * scale * scale / width;
            for (int64_t d = 0; d < width; d++) {
                to[d] = to[d] * scale - from[d] * pull;
                sums[d] += given[d] * from[d] * scale;
            }
        }
    }
}

INLINE void swiglu_gradients(vec given, vec gate, vec up, vec *d_gate, vec *d_up)
{
    const vec gate_sigmoid = sigmoid(gate), unit = gate * gate_sigmoid;
    *d_gate = given * up * (gate_sigmoid + unit * (splat(1) - gate_sigmoid));
    *d_up = given * unit;
}

/* The last, partial vector of a row: padded with zeros on load, truncated on store. */
INLINE vec load_partial(const float *from, int64_t count)
{
    vec loaded = splat(0);
    memcpy(&loaded, from, count * sizeof(float));
    return loaded;
}

INLINE void store_partial(float *to, vec stored, int64_t count) { memcpy(to, &stored, count * sizeof(float)); }

/* out = silu(gate) * up */
void swiglu(int64_t rows, int64_t width, const float *gate, int64_t gate_row, const float *up, int64_t up_row,
            float *out)
{
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_THRESHOLD)
    for (int64_t m = 0; m < rows; m++) {
        const float *g = gate + m * gate_row, *u = up + m * up_row;
        float *to = out + m * width;
        int64_t d = 0;
        for (; d + LANES <= width; d += LANES) store(to + d, swiglu_vec(load(g + d), load(u + d)));
        if (d < width)
            store_partial(to + d, swiglu_vec(load_partial(g + d, width - d), load_partial(u + d, width - d)),
                          width - d);
    }
}

void swiglu_backward(int64_t rows, int64_t width, const float *gradient, int64_t gradient_row, const float *gate,
                     int64_t gate_row, const float *up, int64_t up_row, float *d_gate, float *d_up)
{
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_THRESHOLD)
    for (int64_t m = 0; m < rows; m++) {
        const float *given = gradient + m * gradient_row, *g = gate + m * gate_row, *u = up + m * up_row;
        float *to_gate = d_gate + m * width, *to_up = d_up + m * width;
        vec a, b;
        int64_t d = 0;
        for (; d + LANES <= width; d += LANES) {
            swiglu_gradients(load(given + d), load(g + d), load(u + d), &a, &b);
            store(to_gate + d, a);
            store(to_up + d, b);
        }
        if (d < width) {
            const int64_t rest = width - d;
            swiglu_gradients(load_partial(given + d, rest), load_partial(g + d, rest), load_partial(u + d, rest), &a,
                             &b);
            store_partial(to_gate + d, a, rest);
            store_partial(to_up + d, b, rest);
        }
    }
}

/* out [columns, rows] = transpose of x [rows, columns], by tiles that fit the cache. */
void transpose(int64_t rows, int64_t columns, const float *x, int64_t x_row, float *out)
{
#pragma omp parallel for collapse(2) schedule(static) if (rows * columns > PARALLEL_THRESHOLD)
    for (int64_t n = 0; n < columns; n += TILE)
        for (int64_t m = 0; m < rows; m += TILE) {
            const int64_t last_row = m + TILE < rows ? m + TILE : rows;
            const int64_t last_column = n + TILE < columns ? n + TILE : columns;
            for (int64_t i = m; i < last_row; i += LANES)
                for (int64_t j = n; j < last_column; j += LANES) {
                    if (i + LANES <= last_row && j + LANES <= last_column) {
                        transpose_tile(x + i * x_row + j, x_row, out + j * rows + i, rows);
                        continue;
                    }
                    for (int64_t a = i; a < last_row && a < i + LANES; a++)
                        for (int64_t b = j; b < last_column && b < j + LANES; b++) out[b * rows + a] = x[a * x_row + b];
                }
        }
}
