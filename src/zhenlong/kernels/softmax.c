/* What the output head does with rows of logits, in fp32 or bf16: the log-probability of each row's target, and powers
   e^(logit - largest) in place of the logits. Sums are of fp32 powers, by blocks added up in double. */

#include "vectors.h"

enum { BLOCK = 1024 }; /* powers that are added up by lanes */

typedef struct {
    int64_t rows, vocabulary, row; /* `row` numbers from a row to the next one */
    int64_t half;                  /* logits of bf16 */
    void *logits;
} Logits;

typedef uint16_t halves __attribute__((vector_size(LANES * 2)));
typedef uint32_t words __attribute__((vector_size(LANES * 4)));

INLINE vec widened(halves given) { return (vec)(__builtin_convertvector(given, words) << 16); }

/* Rounded to the nearest bf16, the even one of two. */
INLINE halves narrowed(vec given)
{
    const words bits = (words)given;
    return __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, halves);
}

/* `count` logits from place j on, minus infinity in the lanes behind them. */
INLINE vec taken(const Logits *of, int64_t r, int64_t j, int64_t count)
{
    if (!of->half) {
        const float *from = (const float *)of->logits + r * of->row + j;
        if (count == LANES) return load(from);
        vec some = splat(-INFINITY);
        memcpy(&some, from, count * sizeof(float));
        return some;
    }
    const uint16_t *from = (const uint16_t *)of->logits + r * of->row + j;
    halves some = narrowed(splat(-INFINITY));
    memcpy(&some, from, count == LANES ? sizeof some : count * sizeof(uint16_t));
    return widened(some);
}

INLINE void put(const Logits *of, int64_t r, int64_t j, int64_t count, vec numbers)
{
    if (of->half) {
        const halves some = narrowed(numbers);
        memcpy((uint16_t *)of->logits + r * of->row + j, &some, count == LANES ? sizeof some : count * sizeof(uint16_t));
    } else {
        memcpy((float *)of->logits + r * of->row + j, &numbers, count == LANES ? sizeof numbers : count * sizeof(float));
    }
}

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Makes powers of `count` logits, and adds them, and power times exponent, up by lanes. */
INLINE void raise_some(const Logits *of, int64_t r, int64_t j, int64_t count, float top, vec *total, vec *weighted)
{
    const vec exponent = taken(of, r, j, count) - splat(top), power = exponential(exponent);
    *total += power;
    *weighted += power * chosen(power == splat(0), splat(0), exponent); /* not 0 times minus infinity */
    put(of, r, j, count, power);
}

/* Makes powers of one row. Returns their sum; `spread` gets the sum of power times exponent. */
INLINE double raise(const Logits *of, int64_t r, float top, double *spread)
{
    double sum = 0;
    *spread = 0;
    for (int64_t begin = 0; begin < of->vocabulary; begin += BLOCK) {
        const int64_t end = least(of->vocabulary, begin + BLOCK);
        vec total = splat(0), weighted = splat(0);
        int64_t j = begin;
        for (; j + LANES <= end; j += LANES) raise_some(of, r, j, LANES, top, &total, &weighted);
        if (j < end) raise_some(of, r, j, end - j, top, &total, &weighted);
        sum += sum_of(total);
        *spread += sum_of(weighted);
    }
    return sum;
}

INLINE float top_of(const Logits *of, int64_t r)
{
    vec most = splat(-INFINITY);
    int64_t j = 0;
    for (; j + LANES <= of->vocabulary; j += LANES) {
        const vec next = taken(of, r, j, LANES);
        most = chosen(next > most, next, most);
    }
    if (j < of->vocabulary) {
        const vec next = taken(of, r, j, of->vocabulary - j);
        most = chosen(next > most, next, most);
    }
    float top = -INFINITY;
    for (int i = 0; i < LANES; i++) top = most[i] > top ? most[i] : top;
    return top;
}

/* scored, tops and sums [R], and unless it is NULL spread [R], the entropies; logits become powers. */
void score_rows(
    const Logits *of, const int64_t *target, float *scored, float *tops, float *sums, float *spread)
{
#pragma omp parallel for schedule(static) if (of->rows * of->vocabulary > 1 << 15)
    for (int64_t r = 0; r < of->rows; r++) {
        const float top = top_of(of, r);
        const float found = taken(of, r, target[r], 1)[0];
        double weighted;
        const double sum = raise(of, r, top, &weighted), log_sum = log(sum);
        scored[r] = (float)(found - top - log_sum);
        tops[r] = top;
        sums[r] = (float)sum;
        if (spread) spread[r] = (float)(log_sum - weighted / sum);
    }
}

/* Logits become powers. */
void raise_rows(const Logits *of, const float *tops)
{
#pragma omp parallel for schedule(static) if (of->rows * of->vocabulary > 1 << 15)
    for (int64_t r = 0; r < of->rows; r++) {
        double unused;
        raise(of, r, tops[r], &unused);
    }
}
