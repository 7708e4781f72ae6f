/* Matrix products of several rows in float32, for where no BLAS is at hand that shares the threads of these kernels.
 *
 * Notation: M rows, K summed, N columns. The sums run over k in ascending order in one accumulator for each element,
 * whatever M, N and the number of threads: equal rows give equal bits, however they are cut into calls.
 */
#include "common.h"
#include <stdlib.h>

#if defined(__AVX512F__)
#define WIDTH 16
#define TALL 12
#else
#define WIDTH 8
#define TALL 6
#endif
#define WIDE (2 * WIDTH)
typedef float lanes __attribute__((vector_size(4 * WIDTH), aligned(4)));

/* One tile: R rows of x (row stride ldx) times a packed panel (K, WIDE), into out (row stride ldo), n columns of it. */
#define TILE_OF(R)                                                                                                    \
    static void tile_##R(int K, const float *x, int64_t ldx, const float *panel, float *out, int64_t ldo, int n) {    \
        lanes sum[R][2];                                                                                              \
        for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = (lanes){0};                                               \
        for (int k = 0; k < K; k++) {                                                                                 \
            lanes a = *(const lanes *)(panel + (int64_t)k * WIDE), b = *(const lanes *)(panel + (int64_t)k * WIDE + WIDTH); \
            _Pragma("GCC unroll 16") for (int r = 0; r < R; r++) {                                                    \
                float value = x[r * ldx + k];                                                                         \
                sum[r][0] += value * a;                                                                               \
                sum[r][1] += value * b;                                                                               \
            }                                                                                                         \
        }                                                                                                             \
        for (int r = 0; r < R; r++) memcpy(out + r * ldo, sum[r], 4 * (size_t)n);                                     \
    }
TILE_OF(1)
TILE_OF(2)
TILE_OF(3)
TILE_OF(6)
#if TALL == 12
TILE_OF(12)
#endif

static void tiles(int rows, int K, const float *x, int64_t ldx, const float *panel, float *out, int64_t ldo, int n) {
    int r = 0;
#if TALL == 12
    for (; r + 12 <= rows; r += 12) tile_12(K, x + r * ldx, ldx, panel, out + r * ldo, ldo, n);
#endif
    for (; r + 6 <= rows; r += 6) tile_6(K, x + r * ldx, ldx, panel, out + r * ldo, ldo, n);
    for (; r + 3 <= rows; r += 3) tile_3(K, x + r * ldx, ldx, panel, out + r * ldo, ldo, n);
    for (; r + 2 <= rows; r += 2) tile_2(K, x + r * ldx, ldx, panel, out + r * ldo, ldo, n);
    for (; r < rows; r++) tile_1(K, x + r * ldx, ldx, panel, out + r * ldo, ldo, n);
}

/* Rows that a thread takes with one panel: as many as keep the panel in the second-level cache busy. */
#define ROWS_AT_ONCE 96

/* out (M, N) = x w. x (M, K) with row stride ldx; element (k, n) of w lies at w[k sk + n sn]. 1 where memory lacks. */
int f32_product(int M, int K, int N, const float *x, int64_t ldx, const float *w, int64_t sk, int64_t sn, float *out,
                int threads) {
    int panels = (N + WIDE - 1) / WIDE, blocks = (M + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
    float *packed = aligned_alloc(64, (size_t)(panels ? panels : 1) * (K ? K : 1) * WIDE * 4);
    if (!packed) return 1;
    #pragma omp parallel num_threads(threads)
    {
        #pragma omp for schedule(static)
        for (int p = 0; p < panels; p++) {
            float *panel = packed + (int64_t)p * K * WIDE;
            int n = N - p * WIDE < WIDE ? N - p * WIDE : WIDE;
            const float *from = w + (int64_t)p * WIDE * sn;
            if (n < WIDE) memset(panel, 0, (size_t)K * WIDE * 4);
            if (sn == 1)
                for (int k = 0; k < K; k++) memcpy(panel + (int64_t)k * WIDE, from + k * sk, 4 * (size_t)n);
            else
                for (int k0 = 0; k0 < K; k0 += 16)
                    for (int i = 0; i < n; i++)
                        for (int k = k0; k < K && k < k0 + 16; k++) panel[(int64_t)k * WIDE + i] = from[i * sn + k * sk];
        }
        #pragma omp for schedule(static)
        for (int job = 0; job < panels * blocks; job++) {
            int p = job / blocks, row = job % blocks * ROWS_AT_ONCE;
            int rows = M - row < ROWS_AT_ONCE ? M - row : ROWS_AT_ONCE;
            int n = N - p * WIDE < WIDE ? N - p * WIDE : WIDE;
            tiles(rows, K, x + row * ldx, ldx, packed + (int64_t)p * K * WIDE, out + (int64_t)row * N + p * WIDE, N, n);
        }
    }
    free(packed);
    return 0;
}
