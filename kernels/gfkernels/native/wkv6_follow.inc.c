/* Gradients of a few value channels; included by wkv6_gradients.c with NV defined, which is undefined again.
 *
 * ROWS value channels from `row` and NV vectors of key channels from `at`; unrolled, so that s and g stay in registers.
 * S: the state before the sequence, read. G: gradient of the state after it, becomes that of the state before it; both
 * [V][K]. bounds: ROWS * NV vectors for every tile. */
static void JOIN(follow_, NV)(int T, int D, int row, int at, const Head *x, const float *S, float *G, vec *bounds) {
    vec inside[TILE][ROWS][NV], part[TILE][ROWS], s[ROWS][NV], g[ROWS][NV];
    int tiles = (T + TILE - 1) / TILE;
    #pragma GCC unroll 8
    for (int j = 0; j < ROWS; j++)
        #pragma GCC unroll 8
        for (int i = 0; i < NV; i++) {
            s[j][i] = *(const vec *)(S + (int64_t)(row + j) * D + at + LANES * i);
            g[j][i] = *(const vec *)(G + (int64_t)(row + j) * D + at + LANES * i);
        }
    for (int n = 0; n < tiles; n++) {
        int end = (n + 1) * TILE < T ? (n + 1) * TILE : T;
        vec *bound = bounds + (int64_t)n * ROWS * NV;
        #pragma GCC unroll 8
        for (int j = 0; j < ROWS; j++)
            #pragma GCC unroll 8
            for (int i = 0; i < NV; i++) bound[j * NV + i] = s[j][i];
        if (n + 1 < tiles)
            for (int t = n * TILE; t < end; t++) {
                const float *w = x->w + (int64_t)t * D + at, *k = x->k + (int64_t)t * D + at;
                const float *v = x->v + (int64_t)t * D + row;
                #pragma GCC unroll 8
                for (int i = 0; i < NV; i++) {
                    vec wi = *(const vec *)(w + LANES * i), ki = *(const vec *)(k + LANES * i);
                    #pragma GCC unroll 8
                    for (int j = 0; j < ROWS; j++) s[j][i] = s[j][i] * wi + ki * v[j];
                }
            }
    }
    for (int n = tiles - 1; n >= 0; n--) {
        int first = n * TILE, count = T - first < TILE ? T - first : TILE;
        const vec *bound = bounds + (int64_t)n * ROWS * NV;
        #pragma GCC unroll 8
        for (int j = 0; j < ROWS; j++)
            #pragma GCC unroll 8
            for (int i = 0; i < NV; i++) s[j][i] = bound[j * NV + i];
        for (int t = 0; t < count; t++) {
            const float *w = x->w + (int64_t)(first + t) * D + at, *k = x->k + (int64_t)(first + t) * D + at;
            const float *v = x->v + (int64_t)(first + t) * D + row;
            #pragma GCC unroll 8
            for (int i = 0; i < NV; i++) {
                vec wi = *(const vec *)(w + LANES * i), ki = *(const vec *)(k + LANES * i);
                #pragma GCC unroll 8
                for (int j = 0; j < ROWS; j++) {
                    inside[t][j][i] = s[j][i];
                    s[j][i] = s[j][i] * wi + ki * v[j];
                }
            }
        }
        for (int t = count - 1; t >= 0; t--) {
            int64_t keys = (int64_t)(first + t) * D + at, values = (int64_t)(first + t) * D + row;
            const float *v = x->v + values, *dy = x->dy + values;
            vec sums[ROWS] = {0};
            #pragma GCC unroll 8
            for (int i = 0; i < NV; i++) {
                int64_t here = keys + LANES * i;
                vec wi = *(const vec *)(x->w + here), ki = *(const vec *)(x->k + here);
                vec ri = *(const vec *)(x->r + here), dr = *(vec *)(x->dr + here);
                vec dk = *(vec *)(x->dk + here), dw = *(vec *)(x->dw + here);
                #pragma GCC unroll 8
                for (int j = 0; j < ROWS; j++) {
                    vec before = inside[t][j][i];
                    dr += before * dy[j];
                    dw += before * g[j][i];
                    dk += g[j][i] * v[j];
                    sums[j] += g[j][i] * ki;
                    g[j][i] = g[j][i] * wi + ri * dy[j];
                }
                *(vec *)(x->dr + here) = dr;
                *(vec *)(x->dk + here) = dk;
                *(vec *)(x->dw + here) = dw;
            }
            #pragma GCC unroll 8
            for (int j = 0; j < ROWS; j++) part[t][j] = sums[j];
        }
        for (int t = 0; t < count; t++)
            for (int j = 0; j < ROWS; j++) {
                const float *lanes = (const float *)&part[t][j];
                float sum = 0.0f;
                #pragma omp simd reduction(+ : sum)
                for (int i = 0; i < LANES; i++) sum += lanes[i];
                x->dv[(int64_t)(first + t) * D + row + j] += sum;
            }
    }
    #pragma GCC unroll 8
    for (int j = 0; j < ROWS; j++)
        #pragma GCC unroll 8
        for (int i = 0; i < NV; i++) *(vec *)(G + (int64_t)(row + j) * D + at + LANES * i) = g[j][i];
}
#undef NV
