/* Norms of one row of C numbers; included with IN and GET (how the row is stored), ROW and STORE (how the result is),
 * and NAME defined. IN, GET and NAME are undefined again. */

/* out = layer norm of x. */
static inline void NAME(norm)(int C, const IN *x, const float *weight, const float *bias, float eps, ROW *out) {
    float sum = 0.0f, square = 0.0f;
    #pragma omp simd reduction(+ : sum)
    for (int c = 0; c < C; c++) sum += GET(x[c]);
    float mean = sum / C;
    #pragma omp simd reduction(+ : square)
    for (int c = 0; c < C; c++) { float d = GET(x[c]) - mean; square += d * d; }
    float scale = 1.0f / __builtin_sqrtf(square / C + eps);
    for (int c = 0; c < C; c++) out[c] = STORE((GET(x[c]) - mean) * scale * weight[c] + bias[c]);
}

/* out = x / (sqrt(mean(x^2)) + 1e-8). */
static inline void NAME(rms)(int C, const IN *x, ROW *out) {
    float square = 0.0f;
    #pragma omp simd reduction(+ : square)
    for (int c = 0; c < C; c++) { float f = GET(x[c]); square += f * f; }
    float scale = 1.0f / (__builtin_sqrtf(square / C) + 1e-8f);
    for (int c = 0; c < C; c++) out[c] = STORE(GET(x[c]) * scale);
}
#undef IN
#undef GET
#undef NAME
