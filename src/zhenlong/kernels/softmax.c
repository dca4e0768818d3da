/* Log-softmax of the LM head's logits, fp32 or bf16: the log-probability of each row's target; overwrites logits by
   e^(logit - maximum). Exponentials are summed in fp32 by blocks, the blocks in double. */

#include "vectors.h"

enum { BLOCK = 1024 }; /* exponentials per fp32 partial sum */

typedef struct {
    int64_t rows, vocab_size, row_stride; /* row_stride in elements */
    int64_t is_bf16;                      /* else fp32 */
    void *data;
} Logits;

typedef uint16_t bf16s __attribute__((vector_size(LANES * 2)));
typedef uint32_t bits32 __attribute__((vector_size(LANES * 4)));

INLINE vec bf16_to_float(bf16s given) { return (vec)(__builtin_convertvector(given, bits32) << 16); }

/* Rounds to nearest even. */
INLINE bf16s float_to_bf16(vec given)
{
    const bits32 bits = (bits32)given;
    return __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, bf16s);
}

/* Loads `count` logits from column j on, -inf in the remaining lanes. */
INLINE vec load_logits(const Logits *logits, int64_t r, int64_t j, int64_t count)
{
    if (!logits->is_bf16) {
        const float *from = (const float *)logits->data + r * logits->row_stride + j;
        if (count == LANES) return load(from);
        vec some = splat(-INFINITY);
        memcpy(&some, from, count * sizeof(float));
        return some;
    }
    const uint16_t *from = (const uint16_t *)logits->data + r * logits->row_stride + j;
    bf16s some = float_to_bf16(splat(-INFINITY));
    memcpy(&some, from, count == LANES ? sizeof some : count * sizeof(uint16_t));
    return bf16_to_float(some);
}

INLINE void store_logits(const Logits *logits, int64_t r, int64_t j, int64_t count, vec numbers)
{
    if (logits->is_bf16) {
        const bf16s some = float_to_bf16(numbers);
        memcpy((uint16_t *)logits->data + r * logits->row_stride + j, &some,
               count == LANES ? sizeof some : count * sizeof(uint16_t));
    } else {
        memcpy((float *)logits->data + r * logits->row_stride + j, &numbers,
               count == LANES ? sizeof numbers : count * sizeof(float));
    }
}

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Exponentiates `count` logits in place; adds p and p * (logit - max), p the exponential, to the sums by lane. */
INLINE void exp_chunk(const Logits *logits, int64_t r, int64_t j, int64_t count, float top, vec *total, vec *weighted)
{
    const vec exponent = load_logits(logits, r, j, count) - splat(top), power = exp_vec(exponent);
    *total += power;
    *weighted += power * blend(power == splat(0), splat(0), exponent); /* avoids 0 * -inf */
    store_logits(logits, r, j, count, power);
}

/* Exponentiates one row in place. Returns the sum of p; `weighted_sum` receives the sum of p * (logit - max). */
INLINE double exp_row(const Logits *logits, int64_t r, float top, double *weighted_sum)
{
    double sum = 0;
    *weighted_sum = 0;
    for (int64_t begin = 0; begin < logits->vocab_size; begin += BLOCK) {
        const int64_t end = smaller(logits->vocab_size, begin + BLOCK);
        vec total = splat(0), weighted = splat(0);
        int64_t j = begin;
        for (; j + LANES <= end; j += LANES) exp_chunk(logits, r, j, LANES, top, &total, &weighted);
        if (j < end) exp_chunk(logits, r, j, end - j, top, &total, &weighted);
        sum += horizontal_sum(total);
        *weighted_sum += horizontal_sum(weighted);
    }
    return sum;
}

INLINE float max_logit_of(const Logits *logits, int64_t r)
{
    vec most = splat(-INFINITY);
    int64_t j = 0;
    for (; j + LANES <= logits->vocab_size; j += LANES) {
        const vec next = load_logits(logits, r, j, LANES);
        most = blend(next > most, next, most);
    }
    if (j < logits->vocab_size) {
        const vec next = load_logits(logits, r, j, logits->vocab_size - j);
        most = blend(next > most, next, most);
    }
    float top = -INFINITY;
    for (int i = 0; i < LANES; i++) top = most[i] > top ? most[i] : top;
    return top;
}

/* Writes log_probs, max_logits, exp_sums and, unless NULL, entropies, [R] each; exponentiates logits in place. */
void log_softmax_gather(const Logits *logits, const int64_t *target, float *log_probs, float *max_logits,
                        float *exp_sums, float *entropies)
{
#pragma omp parallel for schedule(static) if (logits->rows * logits->vocab_size > 1 << 15)
    for (int64_t r = 0; r < logits->rows; r++) {
        const float top = max_logit_of(logits, r);
        const float target_logit = load_logits(logits, r, target[r], 1)[0];
        double weighted;
        const double sum = exp_row(logits, r, top, &weighted), log_sum = log(sum);
        log_probs[r] = (float)(target_logit - top - log_sum);
        max_logits[r] = top;
        exp_sums[r] = (float)sum;
        if (entropies) entropies[r] = (float)(log_sum - weighted / sum);
    }
}

/* Overwrites logits by e^(logit - max_logit). */
void exp_rows(const Logits *logits, const float *max_logits)
{
#pragma omp parallel for schedule(static) if (logits->rows * logits->vocab_size > 1 << 15)
    for (int64_t r = 0; r < logits->rows; r++) {
        double unused;
        exp_row(logits, r, max_logits[r], &unused);
    }
}
