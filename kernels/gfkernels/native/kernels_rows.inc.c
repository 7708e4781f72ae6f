/* The kernels of kernels.c for one type of row; included there with ROW, LOAD, STORE and FN defined. */

#define IN ROW
#define GET LOAD
#define NAME(name) FN(name)
#include "norms.inc.c"
#define IN float
#define GET load_f32
#define NAME(name) FN(wide_##name)
#include "norms.inc.c"

/* out = h + (h_prev - h) * mix: token shift and static lerp. h (T, C), before (C): the row before, or NULL.
 * previous (T, C): the row before each row, where rows do not follow each other; else NULL. */
void FN(shift_lerp)(int T, int C, const ROW *h, const ROW *before, const ROW *previous, const float *mix,
                       ROW *out, int threads) {
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < T; t++) {
        const ROW *now = h + (int64_t)t * C;
        const ROW *prev = previous ? previous + (int64_t)t * C : t ? now - C : before;
        ROW *to = out + (int64_t)t * C;
        for (int c = 0; c < C; c++) {
            float x = LOAD(now[c]), p = prev ? LOAD(prev[c]) : 0.0f;
            to[c] = STORE(x + (p - x) * mix[c]);
        }
    }
}

/* ddlerp: out[g] = h + (h_prev - h) * (mix[g] + dynamic[g]), g < G. dynamic (G, T, C), out (G, T, C). */
void FN(shift_ddlerp)(int T, int C, int G, const ROW *h, const ROW *before, const ROW *previous,
                         const float *mix, const ROW *dynamic, ROW *out, int threads) {
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < T; t++) {
        const ROW *now = h + (int64_t)t * C;
        const ROW *prev = previous ? previous + (int64_t)t * C : t ? now - C : before;
        for (int g = 0; g < G; g++) {
            const ROW *dyn = dynamic + ((int64_t)g * T + t) * C;
            const float *m = mix + (int64_t)g * C;
            ROW *to = out + ((int64_t)g * T + t) * C;
            for (int c = 0; c < C; c++) {
                float x = LOAD(now[c]), p = prev ? LOAD(prev[c]) : 0.0f;
                to[c] = STORE(x + (p - x) * (m[c] + LOAD(dyn[c])));
            }
        }
    }
}

/* x += add (when given); h = layer norm of x. x, add, h (T, C). */
void FN(add_norm)(int T, int C, ROW *x, const ROW *add, const float *weight, const float *bias, float eps, ROW *h,
                  int threads) {
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < T; t++) {
        ROW *row = x + (int64_t)t * C;
        const ROW *more = add ? add + (int64_t)t * C : 0;
        if (more) for (int c = 0; c < C; c++) row[c] = STORE(LOAD(row[c]) + LOAD(more[c]));
        FN(norm)(C, row, weight, bias, eps, h + (int64_t)t * C);
    }
}

/* out = layer norm of (y + a + b), y in float32; a and b may be NULL. (T, C) each. */
void FN(sum_norm)(int T, int C, float *y, const ROW *a, const ROW *b, const float *weight, const float *bias, float eps,
                  ROW *out, int threads) {
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < T; t++) {
        int64_t at = (int64_t)t * C;
        float *row = y + at;
        if (a) for (int c = 0; c < C; c++) row[c] += LOAD(a[at + c]);
        if (b) for (int c = 0; c < C; c++) row[c] += LOAD(b[at + c]);
        FN(wide_norm)(C, row, weight, bias, eps, out + at);
    }
}

/* out = x / (sqrt(mean(x^2)) + 1e-8). (T, C) each. */
void FN(rms_scale)(int T, int C, const ROW *x, ROW *out, int threads) {
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < T; t++) FN(rms)(C, x + (int64_t)t * C, out + (int64_t)t * C);
}

/* x = tanh(x) in place, n numbers. */
void FN(tanh)(int64_t n, ROW *x, int threads) {
    #pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) x[i] = STORE(tanh_of(LOAD(x[i])));
}

/* x = x (1 + erf(x / sqrt 2)) / 2 in place, n numbers. */
void FN(gelu)(int64_t n, ROW *x, int threads) {
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float f = LOAD(x[i]);
        x[i] = STORE(0.5f * f * (1.0f + erff(f * 0.70710678f)));
    }
}

/* x = relu(x)^2 in place, n numbers. */
void FN(relu_squared)(int64_t n, ROW *x, int threads) {
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float f = LOAD(x[i]);
        f = f > 0.0f ? f : 0.0f;
        x[i] = STORE(f * f);
    }
}

/* x += sigmoid(gate) * value, n numbers. */
void FN(gate_add)(int64_t n, ROW *x, const ROW *gate, const ROW *value, int threads) {
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) x[i] = STORE(LOAD(x[i]) + sigmoid(LOAD(gate[i])) * LOAD(value[i]));
}

/* WKV6. r, k, v, w_low (B, T, H * D); w_raw = decay + w_low; state (B, H, V, K), updated; y as r, in float32.
 * times_one_minus_w: k is multiplied by 1 - w (Finch-C2). bonus (H, D) or NULL (Finch). */
void FN(wkv6)(int B, int T, int H, int D, const ROW *r, const ROW *k, const ROW *v, const ROW *w_low,
                 const float *decay, int times_one_minus_w, const float *bonus, float *state, float *y,
                 int threads) {
    int C = H * D;
    #pragma omp parallel num_threads(threads)
    {
        FLUSH_ON
        float rf[TILE * MAX_D], wf[TILE * MAX_D], kf[TILE * MAX_D], vf[TILE * MAX_D], S[MAX_D * MAX_D];
        #pragma omp for schedule(dynamic, 1)
        for (int64_t head = 0; head < (int64_t)B * H; head++) {
            int h = head % H;
            int64_t first = (head / H) * T;
            float *mine = state + head * D * D;
            const float *restrict base = decay + h * D;
            if (T > FEW)
                for (int a = 0; a < D; a++)
                    for (int b = 0; b < D; b++) S[a * D + b] = mine[b * D + a];
            for (int start = 0; start < T; start += TILE) {
                int n = T - start < TILE ? T - start : TILE, at = 0;
                for (int t = 0; t < n; t++) {
                    int64_t from = (first + start + t) * C + h * D;
                    const ROW *restrict r_t = r + from, *restrict k_t = k + from, *restrict v_t = v + from;
                    const ROW *restrict w_t = w_low + from;
                    float *restrict rt = rf + t * D, *restrict wt = wf + t * D;
                    float *restrict kt = kf + t * D, *restrict vt = vf + t * D;
                    #pragma omp simd
                    for (int i = 0; i < D; i++) {
                        float log_w = -fast_exp(base[i] + LOAD(w_t[i])), decayed = fast_exp(log_w);
                        float kk = LOAD(k_t[i]), scaled = LOAD(STORE(kk * one_minus_exp(log_w, decayed)));
                        rt[i] = LOAD(r_t[i]);
                        vt[i] = LOAD(v_t[i]);
                        wt[i] = decayed;
                        kt[i] = times_one_minus_w ? scaled : kk;
                    }
                }
                float *to = y + (first + start) * C + h * D;
                if (T <= FEW) {
                    wkv_few(n, D, rf, wf, kf, vf, to, C, mine);
                } else {
                    for (; at + 64 <= D; at += 64) wkv_columns_4(n, D, rf, wf, kf, vf + at, to + at, C, S + at);
                    for (; at + 32 <= D; at += 32) wkv_columns_2(n, D, rf, wf, kf, vf + at, to + at, C, S + at);
                    for (; at + 16 <= D; at += 16) wkv_columns_1(n, D, rf, wf, kf, vf + at, to + at, C, S + at);
                }
                if (bonus) for (int t = 0; t < n; t++) {
                    float same = 0.0f;
                    for (int i = 0; i < D; i++) same += rf[t * D + i] * bonus[h * D + i] * kf[t * D + i];
                    for (int i = 0; i < D; i++) to[(int64_t)t * C + i] += same * vf[t * D + i];
                }
            }
            if (T > FEW)
                for (int a = 0; a < D; a++)
                    for (int b = 0; b < D; b++) mine[b * D + a] = S[a * D + b];
        }
        FLUSH_OFF
    }
}
