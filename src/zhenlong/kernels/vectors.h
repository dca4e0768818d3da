/* Float vectors of the processor's register width, by the vector extensions of GCC and Clang. */

#ifndef ZHENLONG_VECTORS_H
#define ZHENLONG_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16, REGISTERS = 32 };
#else
enum { LANES = 8, REGISTERS = 16 };
#endif

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ints __attribute__((vector_size(LANES * 4)));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from)
{
    vec loaded;
    memcpy(&loaded, from, sizeof loaded);
    return loaded;
}

INLINE void store(float *to, vec stored) { memcpy(to, &stored, sizeof stored); }

INLINE vec splat(float number) { return number - (vec){0}; }

INLINE vec blend(ints where, vec yes, vec no) { return (vec)((where & (ints)yes) | (~where & (ints)no)); }

INLINE float horizontal_sum(vec numbers)
{
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += numbers[i];
    return sum;
}

INLINE ints lane_indices(void)
{
    ints numbers;
    for (int i = 0; i < LANES; i++) numbers[i] = i;
    return numbers;
}

/* e^x within 2 ulp; 0 below -87, e^88 above 88. x = n log 2 + r; e^r by the polynomial of Cephes' expf. */
INLINE vec exp_vec(vec x)
{
    const ints small = x < splat(-87.0f);
    x = blend(small, splat(-87.0f), x);
    x = blend(x > splat(88.0f), splat(88.0f), x);
    const vec magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to integers */
    const vec shifted = x * splat(1.44269504f) + magic;
    const vec n = shifted - magic;
    const vec r = x - n * splat(0.693359375f) - n * splat(-2.12194440e-4f);
    vec p = splat(1.9875691500e-4f);
    p = p * r + splat(1.3981999507e-3f);
    p = p * r + splat(8.3334519073e-3f);
    p = p * r + splat(4.1665795894e-2f);
    p = p * r + splat(1.6666665459e-1f);
    p = p * r + splat(5.0000001201e-1f);
    p = p * r * r + r + splat(1);
    const ints power = ((ints)shifted - (ints)magic + 127) << 23;
    return (vec)(~small & (ints)(p * (vec)power));
}

INLINE vec sigmoid(vec x) { return splat(1) / (splat(1) + exp_vec(-x)); }

INLINE vec swiglu_vec(vec gate, vec up) { return gate * sigmoid(gate) * up; }

/* Dot product. */
INLINE float dot(const float *a, const float *b, int64_t size)
{
    vec sum = splat(0);
    int64_t d = 0;
    for (; d + LANES <= size; d += LANES) sum += load(a + d) * load(b + d);
    float rest = 0;
    for (; d < size; d++) rest += a[d] * b[d];
    return horizontal_sum(sum) + rest;
}

/* Maximum of row[low:high], -inf if empty. */
INLINE float max_in_range(const float *row, int64_t low, int64_t high)
{
    float max = -INFINITY;
    for (; low < high && low % LANES; low++) max = row[low] > max ? row[low] : max;
    if (low + LANES <= high) {
        vec all = load(row + low);
        for (low += LANES; low + LANES <= high; low += LANES) {
            const vec next = load(row + low);
            all = blend(next > all, next, all);
        }
        for (int i = 0; i < LANES; i++) max = all[i] > max ? all[i] : max;
    }
    for (; low < high; low++) max = row[low] > max ? row[low] : max;
    return max;
}

/* row[low:high] = e^(row - shift), the rest of row[:columns] = 0; returns their sums by lane. */
INLINE vec exp_in_range(float *row, int64_t low, int64_t high, int64_t columns, float shift)
{
    vec total = splat(0);
    for (int64_t j = 0; j < columns; j += LANES) {
        vec power = splat(0);
        if (j + LANES > low && j < high) {
            power = exp_vec(load(row + j) - splat(shift));
            if (j < low || j + LANES > high) {
                const ints place = lane_indices() + (int32_t)j;
                const ints inside = (place >= (int32_t)low) & (place < (int32_t)high);
                power = (vec)(inside & (ints)power);
            }
        }
        store(row + j, power);
        total += power;
    }
    return total;
}

/* Transposes LANES x LANES floats. */
INLINE void transpose_tile(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
#if defined(__clang__)
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) to[j * to_stride + i] = from[i * from_stride + j];
#else
    vec rows[LANES];
    for (int i = 0; i < LANES; i++) rows[i] = load(from + i * from_stride);
    /* Each round swaps the off-diagonal quarters of squares of side 2 * half. */
#pragma GCC unroll 4
    for (int half = LANES / 2; half; half /= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (!(i & half)) {
                ints low, high;
                for (int j = 0; j < LANES; j++) {
                    low[j] = j & half ? LANES + (j ^ half) : j;
                    high[j] = j & half ? LANES + j : j ^ half;
                }
                const vec a = rows[i], b = rows[i | half];
                rows[i] = __builtin_shuffle(a, b, low);
                rows[i | half] = __builtin_shuffle(a, b, high);
            }
    }
    for (int i = 0; i < LANES; i++) store(to + i * to_stride, rows[i]);
#endif
}

#endif
