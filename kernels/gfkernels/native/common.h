/* What the C kernels share: number formats, elementary functions, vectors. See kernels.c.
 *
 * Plain C with GCC/Clang vector extensions, so that any CPU will do.
 */
#ifndef GFKERNELS_NATIVE_COMMON_H
#define GFKERNELS_NATIVE_COMMON_H
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

/* One name of two parts, each expanded first. */
#define JOIN_EXPANDED(a, b) a##b
#define JOIN(a, b) JOIN_EXPANDED(a, b)

typedef uint16_t bf16;

static inline float load_bf16(bf16 x) { uint32_t u = (uint32_t)x << 16; float f; memcpy(&f, &u, 4); return f; }
static inline bf16 store_bf16(float f) {
    uint32_t u; memcpy(&u, &f, 4);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    /* A NaN must stay one: rounding could carry it into the sign. */
    return (bf16)((u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}
static inline float load_f32(float x) { return x; }
static inline float store_f32(float x) { return x; }

/* exp to about 1 ulp (Cody-Waite reduction, degree 6); 0 below -87.3, where the result would be denormal. */
static inline float fast_exp(float x) {
    float c = x < -87.3f ? -87.3f : (x > 88.7f ? 88.7f : x);
    float n = (c * 1.44269504f + 12582912.0f) - 12582912.0f;
    float r = (c - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t u = (uint32_t)((int32_t)n + 127) << 23;
    float scale; memcpy(&scale, &u, 4);
    return x < -87.3f ? 0.0f : p * scale;
}

/* 1 - exp(x) for x <= 0, given exp(x), without cancellation near 0. */
static inline float one_minus_exp(float x, float exp_x) {
    float s = 1.0f / 5040.0f;
    s = s * x + 1.0f / 720.0f;
    s = s * x + 1.0f / 120.0f;
    s = s * x + 1.0f / 24.0f;
    s = s * x + 1.0f / 6.0f;
    s = s * x + 0.5f;
    s = s * x + 1.0f;
    return x > -0.3f ? -x * s : 1.0f - exp_x;
}

/* tanh(a) = t / (2 - t) with t = 1 - exp(-2 a): no cancellation near 0. */
static inline float tanh_of(float x) {
    float a = x < 0.0f ? -x : x, e = -2.0f * a, t = one_minus_exp(e, fast_exp(e)), y = t / (2.0f - t);
    return x < 0.0f ? -y : y;
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

/* Strong decays drive states through the denormals, which cost a hundred times as much as other numbers. */
#if defined(__SSE__)
#define FLUSH_ON unsigned flush_saved = _mm_getcsr(); _mm_setcsr(flush_saved | 0x8040u);
#define FLUSH_OFF _mm_setcsr(flush_saved);
#else
#define FLUSH_ON
#define FLUSH_OFF
#endif

typedef float vec __attribute__((vector_size(64), aligned(4)));
typedef uint16_t halves __attribute__((vector_size(32), aligned(2)));
typedef uint32_t words __attribute__((vector_size(64)));
#define LANES 16

static inline vec f32_vector(const float *p) { return *(const vec *)p; }
static inline vec bf16_vector(const bf16 *p) { return (vec)(__builtin_convertvector(*(const halves *)p, words) << 16); }

static inline float lane_sum(vec v) {
    float t[LANES]; memcpy(t, &v, sizeof t);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) t[i] += t[i + width];
    return t[0];
}

/* Limits of rows and heads; call.py knows them as MAX_ROW and MAX_HEAD_DIM. */
#define MAX_ROW 16384
#define MAX_D 128

/* One head, a few tokens: the state as it is stored, S[V][K], without turning it round. */
static inline void wkv_few(int T, int D, const float *r, const float *w, const float *k, const float *v, float *y,
                    int ys, float *S) {
    for (int t = 0; t < T; t++)
        for (int a = 0; a < D; a++) {
            float *row = S + (int64_t)a * D, sum = 0.0f, val = v[(int64_t)t * D + a];
            const float *rt = r + (int64_t)t * D, *wt = w + (int64_t)t * D, *kt = k + (int64_t)t * D;
            #pragma omp simd reduction(+ : sum)
            for (int i = 0; i < D; i++) {
                sum += row[i] * rt[i];
                row[i] = row[i] * wt[i] + val * kt[i];
            }
            y[(int64_t)t * ys + a] = sum;
        }
}

#endif
