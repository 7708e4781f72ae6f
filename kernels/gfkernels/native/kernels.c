/* The memory-bound rest of a Finch-C2 layer, and WKV6, on the CPU: compiled on first use by native.py.
 *
 * Notation: B batch (1 where it is not named), T tokens, C channels, H heads, D head dim, K key channel, V value channel.
 * Every function exists for float32 and bfloat16 rows; arithmetic and states are float32. Parameter vectors
 * are float32. Written in plain C with GCC/Clang vector extensions; no intrinsics, so any CPU will do.
 */
#include "common.h"

/* One head, `nv` vectors of value channels. ROWS key channels of the state at a time stay in registers while all tokens
 * pass: y (added to from one group of rows to the next) is then the only memory that every step touches. */
#define ROWS 4
#define WKV_COLUMNS(nv)                                                                                   \
    static void wkv_columns_##nv(int T, int D, const float *r, const float *w, const float *k,            \
                                 const float *v, float *y, int ys, float *S) {                            \
        for (int first = 0; first < D; first += ROWS) {                                                   \
            vec s[ROWS][nv];                                                                              \
            _Pragma("GCC unroll 8")                                                                       \
            for (int i = 0; i < ROWS; i++)                                                                \
                _Pragma("GCC unroll 8")                                                                   \
                for (int j = 0; j < nv; j++) s[i][j] = *(vec *)(S + (int64_t)(first + i) * D + LANES * j);\
            for (int t = 0; t < T; t++) {                                                                 \
                const float *rt = r + (int64_t)t * D + first, *wt = w + (int64_t)t * D + first;           \
                const float *kt = k + (int64_t)t * D + first;                                             \
                float *yt = y + (int64_t)t * ys;                                                          \
                vec sum[nv], val[nv];                                                                     \
                _Pragma("GCC unroll 8")                                                                   \
                for (int j = 0; j < nv; j++) {                                                            \
                    sum[j] = first ? *(vec *)(yt + LANES * j) : (vec){0};                                 \
                    val[j] = *(const vec *)(v + (int64_t)t * D + LANES * j);                              \
                }                                                                                         \
                _Pragma("GCC unroll 8")                                                                   \
                for (int i = 0; i < ROWS; i++)                                                            \
                    _Pragma("GCC unroll 8")                                                               \
                    for (int j = 0; j < nv; j++) {                                                        \
                        sum[j] += s[i][j] * rt[i];                                                        \
                        s[i][j] = s[i][j] * wt[i] + val[j] * kt[i];                                       \
                    }                                                                                     \
                _Pragma("GCC unroll 8")                                                                   \
                for (int j = 0; j < nv; j++) *(vec *)(yt + LANES * j) = sum[j];                           \
            }                                                                                             \
            _Pragma("GCC unroll 8")                                                                       \
            for (int i = 0; i < ROWS; i++)                                                                \
                _Pragma("GCC unroll 8")                                                                   \
                for (int j = 0; j < nv; j++) *(vec *)(S + (int64_t)(first + i) * D + LANES * j) = s[i][j];\
        }                                                                                                 \
    }
WKV_COLUMNS(1)
WKV_COLUMNS(2)
WKV_COLUMNS(4)

#define FEW 4
/* Tokens of which r, w, k, v and y of one head stay in the first-level cache. */
#define TILE 32

#define DEFINE(ROW, LOAD, STORE, NAME)                                                                               \
                                                                                                                     \
    /* out = h + (h_prev - h) * mix: token shift and static lerp. h (T, C), before (C): the row before, or NULL.      \
     * previous (T, C): the row before each row, where rows do not follow each other; else NULL. */                  \
    void NAME##_shift_lerp(int T, int C, const ROW *h, const ROW *before, const ROW *previous, const float *mix,     \
                           ROW *out, int threads) {                                                                  \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                            \
        for (int t = 0; t < T; t++) {                                                                                \
            const ROW *now = h + (int64_t)t * C;                                                                     \
            const ROW *prev = previous ? previous + (int64_t)t * C : t ? now - C : before;                           \
            ROW *to = out + (int64_t)t * C;                                                                          \
            for (int c = 0; c < C; c++) {                                                                            \
                float x = LOAD(now[c]), p = prev ? LOAD(prev[c]) : 0.0f;                                             \
                to[c] = STORE(x + (p - x) * mix[c]);                                                                 \
            }                                                                                                        \
        }                                                                                                            \
    }                                                                                                                \
                                                                                                                     \
    /* ddlerp: out[g] = h + (h_prev - h) * (mix[g] + dynamic[g]), g < G. dynamic (G, T, C), out (G, T, C). */        \
    void NAME##_shift_ddlerp(int T, int C, int G, const ROW *h, const ROW *before, const ROW *previous,              \
                             const float *mix, const ROW *dynamic, ROW *out, int threads) {                          \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                            \
        for (int t = 0; t < T; t++) {                                                                                \
            const ROW *now = h + (int64_t)t * C;                                                                     \
            const ROW *prev = previous ? previous + (int64_t)t * C : t ? now - C : before;                           \
            for (int g = 0; g < G; g++) {                                                                            \
                const ROW *dyn = dynamic + ((int64_t)g * T + t) * C;                                                 \
                const float *m = mix + (int64_t)g * C;                                                               \
                ROW *to = out + ((int64_t)g * T + t) * C;                                                            \
                for (int c = 0; c < C; c++) {                                                                        \
                    float x = LOAD(now[c]), p = prev ? LOAD(prev[c]) : 0.0f;                                         \
                    to[c] = STORE(x + (p - x) * (m[c] + LOAD(dyn[c])));                                              \
                }                                                                                                    \
            }                                                                                                        \
        }                                                                                                            \
    }                                                                                                                \
                                                                                                                     \
    /* x += add (when given); h = layer norm of x. x, add, h (T, C). */                                              \
    void NAME##_add_norm(int T, int C, ROW *x, const ROW *add, const float *weight, const float *bias,               \
                         float eps, ROW *h, int threads) {                                                           \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                            \
        for (int t = 0; t < T; t++) {                                                                                \
            ROW *row = x + (int64_t)t * C, *to = h + (int64_t)t * C;                                                 \
            const ROW *more = add ? add + (int64_t)t * C : 0;                                                        \
            float sum = 0.0f, square = 0.0f;                                                                         \
            if (more) for (int c = 0; c < C; c++) row[c] = STORE(LOAD(row[c]) + LOAD(more[c]));                      \
            _Pragma("omp simd reduction(+ : sum)")                                                                   \
            for (int c = 0; c < C; c++) sum += LOAD(row[c]);                                                         \
            float mean = sum / C;                                                                                    \
            _Pragma("omp simd reduction(+ : square)")                                                                \
            for (int c = 0; c < C; c++) { float d = LOAD(row[c]) - mean; square += d * d; }                          \
            float scale = 1.0f / __builtin_sqrtf(square / C + eps);                                                  \
            for (int c = 0; c < C; c++) to[c] = STORE((LOAD(row[c]) - mean) * scale * weight[c] + bias[c]);          \
        }                                                                                                            \
    }                                                                                                                \
                                                                                                                     \
    /* out = layer norm of (y + a + b), y in float32; a and b may be NULL. (T, C) each. */                           \
    void NAME##_sum_norm(int T, int C, float *y, const ROW *a, const ROW *b, const float *weight,                    \
                         const float *bias, float eps, ROW *out, int threads) {                                      \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                            \
        for (int t = 0; t < T; t++) {                                                                                \
            int64_t at = (int64_t)t * C;                                                                             \
            float *row = y + at, sum = 0.0f, square = 0.0f;                                                          \
            if (a) for (int c = 0; c < C; c++) row[c] += LOAD(a[at + c]);                                            \
            if (b) for (int c = 0; c < C; c++) row[c] += LOAD(b[at + c]);                                            \
            _Pragma("omp simd reduction(+ : sum)")                                                                   \
            for (int c = 0; c < C; c++) sum += row[c];                                                               \
            float mean = sum / C;                                                                                    \
            _Pragma("omp simd reduction(+ : square)")                                                                \
            for (int c = 0; c < C; c++) { float d = row[c] - mean; square += d * d; }                                \
            float scale = 1.0f / __builtin_sqrtf(square / C + eps);                                                  \
            for (int c = 0; c < C; c++) out[at + c] = STORE((row[c] - mean) * scale * weight[c] + bias[c]);          \
        }                                                                                                            \
    }                                                                                                                \
                                                                                                                     \
    /* out = x / (sqrt(mean(x^2)) + 1e-8). (T, C) each. */                                                           \
    void NAME##_rms_scale(int T, int C, const ROW *x, ROW *out, int threads) {                                       \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                            \
        for (int t = 0; t < T; t++) {                                                                                \
            const ROW *row = x + (int64_t)t * C;                                                                     \
            ROW *to = out + (int64_t)t * C;                                                                          \
            float square = 0.0f;                                                                                     \
            _Pragma("omp simd reduction(+ : square)")                                                                \
            for (int c = 0; c < C; c++) { float f = LOAD(row[c]); square += f * f; }                                 \
            float scale = 1.0f / (__builtin_sqrtf(square / C) + 1e-8f);                                              \
            for (int c = 0; c < C; c++) to[c] = STORE(LOAD(row[c]) * scale);                                         \
        }                                                                                                            \
    }                                                                                                                \
                                                                                                                     \
    /* x = tanh(x) in place, n numbers. */                                                                           \
    void NAME##_tanh(int64_t n, ROW *x, int threads) {                                                               \
        _Pragma("omp parallel for simd num_threads(threads) schedule(static)")                                       \
        for (int64_t i = 0; i < n; i++) x[i] = STORE(tanh_of(LOAD(x[i])));                                           \
    }                                                                                                                \
                                                                                                                     \
    /* x = relu(x)^2 in place, n numbers. */                                                                         \
    void NAME##_relu_squared(int64_t n, ROW *x, int threads) {                                                       \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                            \
        for (int64_t i = 0; i < n; i++) {                                                                            \
            float f = LOAD(x[i]);                                                                                    \
            f = f > 0.0f ? f : 0.0f;                                                                                 \
            x[i] = STORE(f * f);                                                                                     \
        }                                                                                                            \
    }                                                                                                                \
                                                                                                                     \
    /* x += sigmoid(gate) * value, n numbers. */                                                                     \
    void NAME##_gate_add(int64_t n, ROW *x, const ROW *gate, const ROW *value, int threads) {                        \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                            \
        for (int64_t i = 0; i < n; i++) x[i] = STORE(LOAD(x[i]) + sigmoid(LOAD(gate[i])) * LOAD(value[i]));          \
    }                                                                                                                \
                                                                                                                     \
    /* WKV6. r, k, v, w_low (B, T, H * D); w_raw = decay + w_low; state (B, H, V, K), updated; y as r, in float32.   \
     * times_one_minus_w: k is multiplied by 1 - w (Finch-C2). bonus (H, D) or NULL (Finch). */                      \
    void NAME##_wkv6(int B, int T, int H, int D, const ROW *r, const ROW *k, const ROW *v, const ROW *w_low,         \
                     const float *decay, int times_one_minus_w, const float *bonus, float *state, float *y,          \
                     int threads) {                                                                                  \
        int C = H * D;                                                                                               \
        _Pragma("omp parallel num_threads(threads)") {                                                               \
            FLUSH_ON                                                                                                 \
            float rf[TILE * MAX_D], wf[TILE * MAX_D], kf[TILE * MAX_D], vf[TILE * MAX_D], S[MAX_D * MAX_D];          \
            _Pragma("omp for schedule(dynamic, 1)")                                                                  \
            for (int64_t head = 0; head < (int64_t)B * H; head++) {                                                  \
                int h = head % H;                                                                                    \
                int64_t first = (head / H) * T;                                                                      \
                float *mine = state + head * D * D;                                                                  \
                const float *restrict base = decay + h * D;                                                          \
                if (T > FEW)                                                                                         \
                    for (int a = 0; a < D; a++)                                                                      \
                        for (int b = 0; b < D; b++) S[a * D + b] = mine[b * D + a];                                  \
                for (int start = 0; start < T; start += TILE) {                                                      \
                    int n = T - start < TILE ? T - start : TILE, at = 0;                                             \
                    for (int t = 0; t < n; t++) {                                                                    \
                        int64_t from = (first + start + t) * C + h * D;                                              \
                        const ROW *restrict r_t = r + from, *restrict k_t = k + from, *restrict v_t = v + from;      \
                        const ROW *restrict w_t = w_low + from;                                                      \
                        float *restrict rt = rf + t * D, *restrict wt = wf + t * D;                                  \
                        float *restrict kt = kf + t * D, *restrict vt = vf + t * D;                                  \
                        _Pragma("omp simd")                                                                          \
                        for (int i = 0; i < D; i++) {                                                                \
                            float log_w = -fast_exp(base[i] + LOAD(w_t[i])), decayed = fast_exp(log_w);              \
                            float kk = LOAD(k_t[i]), scaled = LOAD(STORE(kk * one_minus_exp(log_w, decayed)));       \
                            rt[i] = LOAD(r_t[i]);                                                                    \
                            vt[i] = LOAD(v_t[i]);                                                                    \
                            wt[i] = decayed;                                                                         \
                            kt[i] = times_one_minus_w ? scaled : kk;                                                 \
                        }                                                                                            \
                    }                                                                                                \
                    float *to = y + (first + start) * C + h * D;                                                     \
                    if (T <= FEW) {                                                                                  \
                        wkv_few(n, D, rf, wf, kf, vf, to, C, mine);                                                  \
                    } else {                                                                                         \
                        for (; at + 64 <= D; at += 64) wkv_columns_4(n, D, rf, wf, kf, vf + at, to + at, C, S + at); \
                        for (; at + 32 <= D; at += 32) wkv_columns_2(n, D, rf, wf, kf, vf + at, to + at, C, S + at); \
                        for (; at + 16 <= D; at += 16) wkv_columns_1(n, D, rf, wf, kf, vf + at, to + at, C, S + at); \
                    }                                                                                                \
                    if (bonus) for (int t = 0; t < n; t++) {                                                         \
                        float same = 0.0f;                                                                           \
                        for (int i = 0; i < D; i++) same += rf[t * D + i] * bonus[h * D + i] * kf[t * D + i];        \
                        for (int i = 0; i < D; i++) to[(int64_t)t * C + i] += same * vf[t * D + i];                  \
                    }                                                                                                \
                }                                                                                                    \
                if (T > FEW)                                                                                         \
                    for (int a = 0; a < D; a++)                                                                      \
                        for (int b = 0; b < D; b++) mine[b * D + a] = S[a * D + b];                                  \
            }                                                                                                        \
            FLUSH_OFF                                                                                                \
        }                                                                                                            \
    }

DEFINE(float, load_f32, store_f32, f32)
DEFINE(bf16, load_bf16, store_bf16, bf16)
