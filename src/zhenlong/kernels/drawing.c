/* Drawing ids from rows of logits with given uniform numbers: powers, their sums by blocks, and the inverse of these. */

#include <stdlib.h>

#include "vectors.h"

enum { WIDTH = 64 }; /* ids in a block: the sum over blocks is searched first, then one block */

typedef struct {
    int64_t rows, vocabulary, draws;
    float temperature;
} Draws;

/* powers [blocks * WIDTH] of one row, and until [blocks], the sums up to the end of each block. */
static void sum_up(const Draws *of, const float *logits, float *powers, double *until)
{
    const float most = largest(logits, 0, of->vocabulary), by = 1 / of->temperature;
    double sum = 0;
    for (int64_t v = 0; v < of->vocabulary; v += WIDTH) {
        vec total = splat(0);
        for (int64_t j = v; j < v + WIDTH; j += LANES) {
            vec power = splat(0);
            if (j + LANES <= of->vocabulary) {
                power = exponential((load(logits + j) - splat(most)) * splat(by));
            } else if (j < of->vocabulary) {
                const int64_t rest = of->vocabulary - j;
                vec some = splat(most);
                memcpy(&some, logits + j, rest * sizeof(float));
                power = (vec)((counting() < (int32_t)rest) & (ints)exponential((some - splat(most)) * splat(by)));
            }
            store(powers + j, power);
            total += power;
        }
        sum += sum_of(total);
        until[v / WIDTH] = sum;
    }
}

/* The first place where a rising sum is above `target`, the last place if none is. */
static int64_t above(const double *until, int64_t count, double target)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (until[middle] > target)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* ids and log_probs [R, K] from logits [R, V], rows `row` floats apart, and uniforms [R, K] in [0, 1). Returns 0, or 1
   where memory ran out. */
int draw(
    const Draws *of, const float *logits, int64_t row, const double *uniforms, int64_t *ids, float *log_probs)
{
    const int64_t blocks = (of->vocabulary + WIDTH - 1) / WIDTH;
    int failed = 0;
#pragma omp parallel if (of->rows * of->vocabulary > 1 << 15)
    {
        float *powers = malloc(blocks * WIDTH * sizeof(float));
        double *until = malloc(blocks * sizeof(double));
        const int ready = powers && until;
        if (!ready) failed = 1;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < of->rows; r++) {
            if (!ready) continue;
            sum_up(of, logits + r * row, powers, until);
            for (int64_t k = 0; k < of->draws; k++) {
                const double target = uniforms[r * of->draws + k] * until[blocks - 1];
                const int64_t block = above(until, blocks, target);
                const double start = block ? until[block - 1] : 0;
                double inner[WIDTH], sum = 0;
                for (int j = 0; j < WIDTH; j++) inner[j] = sum += powers[block * WIDTH + j];
                const int64_t place =
                    block * WIDTH + above(inner, WIDTH, (target - start) / (until[block] - start) * sum);
                ids[r * of->draws + k] = place;
                log_probs[r * of->draws + k] = (float)log(powers[place] / until[blocks - 1]);
            }
        }
        free(powers);
        free(until);
    }
    return failed;
}
