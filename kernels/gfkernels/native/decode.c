/* Decoding: one token through all layers in one call, and attention of one query over a whole document.
 *
 * Notation: C channels, H heads, D head dim, F width of the channel mix, R width of compressed_k, N keys. Batch is 1.
 * Weights and stored rows are float32 or bfloat16 (ROW); everything between them is float32 and never rounded to ROW.
 *
 * One parallel region serves a whole call. Matrix rows are shared out among the threads; whatever is cheap (norms,
 * mixes of one row) every thread computes for itself, so that threads wait for each other after products only.
 */
#include <stdlib.h>

#include "common.h"

#ifdef _OPENMP
#include <omp.h>
#else
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_get_num_threads(void) { return 1; }
#endif

/* How far ahead of its use a weight is asked for: measured, 20 to 25 GB/s without, 50 to 55 with 6 to 12 KiB. */
#define AHEAD_BYTES 8192

#define BARRIER _Pragma("omp barrier")

typedef struct { const float *weight, *bias; float eps; } norm_t;

/* Channel mix of RWKV-6: sigmoid(r) * (relu(k)^2 W_V). key (F, C), receptance (C, C), value (C, F). */
typedef struct {
    const float *mix_k, *mix_r;
    const void *key, *receptance, *value;
} channel_mix_t;

/* A Finch or Finch-C2 layer. Low-rank pairs: *_down (rank, C), *_up (rank, C). mix_down (5 * mix_rank, C), mix_up
 * (5, mix_rank, C), mixes (5, C) in the order r, k, v, second value or gate, decay. Absent parts are NULL. */
typedef struct {
    norm_t ln1, ln2, ln_x;
    const float *mix_x, *mixes;
    const void *mix_down, *mix_up;
    const void *receptance, *key, *value, *gate, *output;
    const void *decay_down, *decay_up, *value2_down, *value2_up;
    const float *decay, *bonus;
    channel_mix_t ffn;
    int32_t times_one_minus_w, second_value;
} finch_layer_t;

/* Memory of a layer before and after the token; NULL before the first one. Finch layers alone have a wkv_state. */
typedef struct {
    const float *wkv;
    const void *time_shift, *channel_shift;
    float *wkv_after;
    void *time_shift_after, *channel_shift_after;
} layer_state_t;

/* A GOLD layer. kv_down (2 * mix_rank, C), kv_up (2, mix_rank, C), q_down (mix_rank, C), q_up (mix_rank, C),
 * key_down, value_down (rank, C), key_up, value_up (rank, C). */
typedef struct {
    norm_t ln1, ln2, ln_q, ln_k, ln_v, ln_x;
    const float *mix_x, *mix_q, *mix_k, *mix_v, *mix_v_cache;
    const void *q_down, *q_up, *kv_down, *kv_up, *key_down, *key_up, *value_down, *value_up;
    const void *query, *output;
    channel_mix_t ffn;
} gold_layer_t;

/* Keys and values of a GOLD layer: those of the document and those of the rows since, (n, C) each. */
typedef struct {
    const void *document_k, *document_v, *recent_k, *recent_v;
    int64_t document_rows, recent_rows;
} gold_rows_t;

typedef struct { int32_t layers, C, D, F, R, mix_rank, decay_rank, value2_rank, rank; } dims_t;

/* Part `thread` of n things, cut at multiples of `grain`. */
static inline int cut(int n, int grain, int thread, int threads) {
    int64_t grains = (n + grain - 1) / grain;
    int64_t at = grains * thread / threads * grain;
    return (int)(at < n ? at : n);
}
#define PART(n, grain) int from = cut(n, grain, thread, threads), to = cut(n, grain, thread + 1, threads)

#define IN float
#define GET load_f32
#define ROW float
#define STORE store_f32
#define NAME(name) name##_of
#include "norms.inc.c"
#undef ROW
#undef STORE

static void norm_row(int C, const float *x, norm_t norm, float *out) {
    norm_of(C, x, norm.weight, norm.bias, norm.eps, out);
}

/* The norm of each head by itself, as Finch has it. */
static void norm_heads(int C, int D, const float *x, norm_t norm, float *out) {
    for (int h = 0; h < C; h += D) {
        norm_t part = {norm.weight + h, norm.bias + h, norm.eps};
        norm_row(D, x + h, part, out + h);
    }
}

static inline void tanh_row(int n, float *x) {
    #pragma omp simd
    for (int i = 0; i < n; i++) x[i] = tanh_of(x[i]);
}

/* Interleaved pairs (2i, 2i + 1) turned by the angle of pair i. cosine, sine (D / 2). */
static void rotate_row(int C, int D, const float *cosine, const float *sine, float *x) {
    for (int h = 0; h < C; h += D)
        for (int i = 0; i < D / 2; i++) {
            float a = x[h + 2 * i], b = x[h + 2 * i + 1];
            x[h + 2 * i] = a * cosine[i] - b * sine[i];
            x[h + 2 * i + 1] = a * sine[i] + b * cosine[i];
        }
}

/* Keys that one query meets at a time; as many lanes as a vector has. */
#define KEYS LANES

#if defined(__clang__)
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t lanes_t __attribute__((vector_size(64)));
#define PICK(a, b, ...) __builtin_shuffle(a, b, (lanes_t){__VA_ARGS__})
#endif

/* Lane i of the result: the sum of the lanes of v[i]. */
static inline vec sums_of(vec v[LANES]) {
    for (int i = 0; i < 8; i++)
        v[i] = PICK(v[i], v[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
             + PICK(v[i], v[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    for (int i = 0; i < 4; i++)
        v[i] = PICK(v[i], v[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
             + PICK(v[i], v[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    for (int i = 0; i < 2; i++)
        v[i] = PICK(v[i], v[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
             + PICK(v[i], v[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    return PICK(v[0], v[1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
         + PICK(v[0], v[1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
}

/* What one thread has seen of the keys: per head the largest score, the sum of exp(score - largest), and per channel
 * the weighted sum of the values. */
typedef struct { float *largest, *total, *sum; } partial_t;

/* y = the softmax average over all parts, in their order. */
static void merge_parts(int parts, int C, int D, const partial_t *part, float *y) {
    for (int h = 0; h < C / D; h++) {
        float largest = -__builtin_inff(), total = 0.0f;
        for (int p = 0; p < parts; p++) if (part[p].largest[h] > largest) largest = part[p].largest[h];
        for (int c = 0; c < D; c++) y[h * D + c] = 0.0f;
        for (int p = 0; p < parts; p++) {
            if (part[p].total[h] == 0.0f) continue;
            float scale = fast_exp(part[p].largest[h] - largest);
            total += part[p].total[h] * scale;
            for (int c = 0; c < D; c++) y[h * D + c] += part[p].sum[h * D + c] * scale;
        }
        for (int c = 0; c < D; c++) y[h * D + c] /= total;
    }
}

#define BODY "decode_rows.inc.c"
#include "each_row_type.inc.c"
