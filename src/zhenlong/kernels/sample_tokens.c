/* Drawing ids from rows of logits with given uniform numbers: powers, their sums by blocks, and the inverse of these. */

#include <stdlib.h>

#include "vectors.h"

enum { BLOCK = 64 }; /* ids in a block: the sum over blocks is searched first, then one block */

typedef struct {
    int64_t rows, vocab_size, samples;
    float temperature;
} SampleParams;

/* powers [blocks * BLOCK] of one row, and cumulative [blocks], the sums up to the end of each block. */
static void exp_cumsum(const SampleParams *params, const float *logits, float *powers, double *cumulative)
{
    const float max_logit = max_in_range(logits, 0, params->vocab_size), inverse_temperature = 1 / params->temperature;
    double sum = 0;
    for (int64_t v = 0; v < params->vocab_size; v += BLOCK) {
        vec total = splat(0);
        for (int64_t j = v; j < v + BLOCK; j += LANES) {
            vec power = splat(0);
            if (j + LANES <= params->vocab_size) {
                power = exp_vec((load(logits + j) - splat(max_logit)) * splat(inverse_temperature));
            } else if (j < params->vocab_size) {
                const int64_t rest = params->vocab_size - j;
                vec some = splat(max_logit);
                memcpy(&some, logits + j, rest * sizeof(float));
                power = (vec)((lane_indices() < (int32_t)rest) & (ints)exp_vec((some - splat(max_logit)) * splat(inverse_temperature)));
            }
            store(powers + j, power);
            total += power;
        }
        sum += horizontal_sum(total);
        cumulative[v / BLOCK] = sum;
    }
}

/* The first place where a rising sum is above `target`, the last place if none is. */
static int64_t upper_bound(const double *cumulative, int64_t count, double target)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (cumulative[middle] > target)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* ids and log_probs [R, K] from logits [R, V], rows `row` floats apart, and uniforms [R, K] in [0, 1). Returns 0, or 1
   where memory ran out. */
int sample_from_logits(
    const SampleParams *params, const float *logits, int64_t row, const double *uniforms, int64_t *ids, float *log_probs)
{
    const int64_t blocks = (params->vocab_size + BLOCK - 1) / BLOCK;
    int failed = 0;
#pragma omp parallel if (params->rows * params->vocab_size > 1 << 15)
    {
        float *powers = malloc(blocks * BLOCK * sizeof(float));
        double *cumulative = malloc(blocks * sizeof(double));
        const int allocated = powers && cumulative;
        if (!allocated) failed = 1;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < params->rows; r++) {
            if (!allocated) continue;
            exp_cumsum(params, logits + r * row, powers, cumulative);
            for (int64_t k = 0; k < params->samples; k++) {
                const double target = uniforms[r * params->samples + k] * cumulative[blocks - 1];
                const int64_t block = upper_bound(cumulative, blocks, target);
                const double start = block ? cumulative[block - 1] : 0;
                double inner[BLOCK], sum = 0;
                for (int j = 0; j < BLOCK; j++) inner[j] = sum += powers[block * BLOCK + j];
                const int64_t token =
                    block * BLOCK + upper_bound(inner, BLOCK, (target - start) / (cumulative[block] - start) * sum);
                ids[r * params->samples + k] = token;
                log_probs[r * params->samples + k] = (float)log(powers[token] / cumulative[blocks - 1]);
            }
        }
        free(powers);
        free(cumulative);
    }
    return failed;
}
