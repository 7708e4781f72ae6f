/* WKV6 of one head over NV vectors of value channels; included by kernels.c with NV defined, which is undefined again.
 *
 * ROWS key channels of the state at a time stay in registers while all tokens pass: y (added to from one group of rows
 * to the next) is then the only memory that every step touches. */
static void JOIN(wkv_columns_, NV)(int T, int D, const float *r, const float *w, const float *k, const float *v,
                                   float *y, int ys, float *S) {
    for (int first = 0; first < D; first += ROWS) {
        vec s[ROWS][NV];
        #pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++)
            #pragma GCC unroll 8
            for (int j = 0; j < NV; j++) s[i][j] = *(vec *)(S + (int64_t)(first + i) * D + LANES * j);
        for (int t = 0; t < T; t++) {
            const float *rt = r + (int64_t)t * D + first, *wt = w + (int64_t)t * D + first;
            const float *kt = k + (int64_t)t * D + first;
            float *yt = y + (int64_t)t * ys;
            vec sum[NV], val[NV];
            #pragma GCC unroll 8
            for (int j = 0; j < NV; j++) {
                sum[j] = first ? *(vec *)(yt + LANES * j) : (vec){0};
                val[j] = *(const vec *)(v + (int64_t)t * D + LANES * j);
            }
            #pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++)
                #pragma GCC unroll 8
                for (int j = 0; j < NV; j++) {
                    sum[j] += s[i][j] * rt[i];
                    s[i][j] = s[i][j] * wt[i] + val[j] * kt[i];
                }
            #pragma GCC unroll 8
            for (int j = 0; j < NV; j++) *(vec *)(yt + LANES * j) = sum[j];
        }
        #pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++)
            #pragma GCC unroll 8
            for (int j = 0; j < NV; j++) *(vec *)(S + (int64_t)(first + i) * D + LANES * j) = s[i][j];
    }
}
#undef NV
