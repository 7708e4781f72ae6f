/* Gradients of WKV6 on the CPU: what training needs. See kernels.c for the forward pass.
 *
 * Notation: B batch, T tokens, H heads, D head dim, K key channel, V value channel. float32 throughout.
 * With S_t the state before token t, stored [V][K], and G_t the gradient of the loss with respect to it:
 *
 *     G_t  = G_t+1 diag(w_t) + dy_t r_t^T        backwards from the gradient of the final state
 *     dr_t = S_t^T dy_t + u k_t <v_t, dy_t>      dk_t = G_t+1^T v_t + u r_t <v_t, dy_t>
 *     dv_t = G_t+1 k_t + <r_t, u k_t> dy_t       du = sum_t r_t k_t <v_t, dy_t>
 *     dw_raw_t = w_t log_w_t sum_V G_t+1 S_t     (product channel by channel: nothing cancels, any decay will do)
 *
 * Value channels do not meet before these sums. ROWS of them are therefore followed through the whole sequence at a
 * time, forwards once for the states at tile bounds, then backwards tile by tile with the tile's states made again.
 */
#include "common.h"
#include <stdlib.h>

#define ROWS 4
#define TILE 32

/* Rows of one head, (T, D) each, without gaps. dr, dk, dw, dv are added to. */
typedef struct {
    const float *r, *k, *v, *w, *dy;
    float *dr, *dk, *dv, *dw;
} Head;

#define NV 1
#include "wkv6_follow.inc.c"
#define NV 2
#include "wkv6_follow.inc.c"
#define NV 4
#include "wkv6_follow.inc.c"

/* What the current token's bonus u adds. du (D) is added to. */
static void bonus_gradients(int T, int D, const Head *x, const float *u, float *du) {
    for (int64_t at = 0; at < (int64_t)T * D; at += D) {
        const float *r = x->r + at, *k = x->k + at, *v = x->v + at, *dy = x->dy + at;
        float own = 0.0f, weight = 0.0f;
        #pragma omp simd reduction(+ : own, weight)
        for (int i = 0; i < D; i++) {
            own += v[i] * dy[i];
            weight += r[i] * u[i] * k[i];
        }
        #pragma omp simd
        for (int i = 0; i < D; i++) {
            x->dr[at + i] += u[i] * k[i] * own;
            x->dk[at + i] += u[i] * r[i] * own;
            x->dv[at + i] += weight * dy[i];
            du[i] += r[i] * k[i] * own;
        }
    }
}

/* r, k, v, w_raw, dy and dr, dk, dv, dw_raw: (B, T, H, D). bonus (H, D) or NULL; du (B, H, D), zeros on entry.
 * start, the state before the sequence, and d_state: (B, H, V, K). d_state holds the gradient of the final state and
 * becomes that of `start`. Returns 0, or 1 when there is no memory. */
int f32_wkv6_gradients(int B, int T, int H, int D, const float *r, const float *k, const float *v, const float *w_raw,
                       const float *bonus, const float *start, const float *dy, float *dr, float *dk, float *dv,
                       float *dw_raw, float *du, float *d_state, int threads) {
    int failed = 0;
    int64_t size = (int64_t)T * D;
    #pragma omp parallel num_threads(threads)
    {
        FLUSH_ON
        float *rows = malloc(9 * size * sizeof(float));
        vec *bounds = malloc((int64_t)(T / TILE + 1) * ROWS * 4 * sizeof(vec));
        if (!rows || !bounds) {
            #pragma omp atomic write
            failed = 1;
        }
        #pragma omp for schedule(dynamic, 1)
        for (int64_t head = 0; head < (int64_t)B * H; head++) {
            if (!rows || !bounds) continue;
            int h = head % H;
            int64_t from = (head / H * T * H + h) * D, stride = (int64_t)H * D;
            float *part[9];
            for (int n = 0; n < 9; n++) part[n] = rows + n * size;
            Head x = {part[0], part[1], part[2], part[3], part[4], part[5], part[6], part[7], part[8]};
            memset(part[5], 0, 4 * size * sizeof(float));
            for (int t = 0; t < T; t++) {
                int64_t to = (int64_t)t * D, at = from + t * stride;
                memcpy(part[0] + to, r + at, D * sizeof(float));
                memcpy(part[1] + to, k + at, D * sizeof(float));
                memcpy(part[2] + to, v + at, D * sizeof(float));
                memcpy(part[4] + to, dy + at, D * sizeof(float));
                #pragma omp simd
                for (int i = 0; i < D; i++) part[3][to + i] = fast_exp(-fast_exp(w_raw[at + i]));
            }
            const float *S = start + head * D * D;
            float *G = d_state + head * D * D;
            for (int row = 0; row < D; row += ROWS) {
                int at = 0;
                for (; at + 64 <= D; at += 64) follow_4(T, D, row, at, &x, S, G, bounds);
                for (; at + 32 <= D; at += 32) follow_2(T, D, row, at, &x, S, G, bounds);
                for (; at + 16 <= D; at += 16) follow_1(T, D, row, at, &x, S, G, bounds);
            }
            if (bonus) bonus_gradients(T, D, &x, bonus + h * D, du + head * D);
            for (int t = 0; t < T; t++) {
                int64_t to = (int64_t)t * D, at = from + t * stride;
                memcpy(dr + at, x.dr + to, D * sizeof(float));
                memcpy(dk + at, x.dk + to, D * sizeof(float));
                memcpy(dv + at, x.dv + to, D * sizeof(float));
                #pragma omp simd
                for (int i = 0; i < D; i++) {
                    /* Where w is 0, log_w may be infinite; the product tends to 0. */
                    float w = x.w[to + i], log_w = -fast_exp(w_raw[at + i]);
                    dw_raw[at + i] = w > 0.0f ? x.dw[to + i] * w * log_w : 0.0f;
                }
            }
        }
        free(rows);
        free(bounds);
        FLUSH_OFF
    }
    return failed;
}
