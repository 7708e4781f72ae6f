/* Decoding (decode.c) for one type of row; included there with ROW, LOAD, STORE and FN defined. */

static void FN(keep)(int C, const float *x, ROW *out) {
    for (int c = 0; c < C; c++) out[c] = STORE(x[c]);
}

/* out[from .. to) = rows of w (N, K) times x. Reads w once and is bound by memory: one row after the other, as they
 * lie, each line asked for AHEAD_BYTES before it is met. */
static void FN(rows)(int from, int to, int K, const ROW *w, const float *x, float *out) {
    for (int n = from; n < to; n++) {
        const ROW *row = w + (int64_t)n * K;
        vec even = {0}, odd = {0};
        int k = 0;
        for (; k + 2 * LANES <= K; k += 2 * LANES) {
            for (int line = 0; line < 2 * LANES * (int)sizeof(ROW); line += 64)
                __builtin_prefetch((const char *)(row + k) + AHEAD_BYTES + line);
            even += FN(vector)(row + k) * *(const vec *)(x + k);
            odd += FN(vector)(row + k + LANES) * *(const vec *)(x + k + LANES);
        }
        float total = lane_sum(even + odd);
        for (; k < K; k++) total += LOAD(row[k]) * x[k];
        out[n] = total;
    }
}

/* out = w x: one row times a matrix. w (N, K), x (K), out (N). */
void FN(matvec)(int N, int K, const ROW *w, const ROW *x, ROW *out, int wanted) {
    #pragma omp parallel num_threads(wanted)
    {
        float wide[MAX_ROW], some[64];
        for (int k = 0; k < K; k++) wide[k] = LOAD(x[k]);
        #pragma omp for schedule(static)
        for (int n = 0; n < N; n += 64) {
            int count = N - n < 64 ? N - n : 64;
            FN(rows)(0, count, K, w + (int64_t)n * K, wide, some);
            FN(keep)(count, some, out + n);
        }
    }
}

/* out[from .. to) = z (rank) times w (rank, C). Both ends are multiples of LANES. */
static void FN(up)(int from, int to, int rank, int C, const ROW *w, const float *z, float *out) {
    for (int c = from; c < to; c += LANES) {
        vec sum = {0};
        for (int r = 0; r < rank; r++) sum += FN(vector)(w + (int64_t)r * C + c) * z[r];
        *(vec *)(out + c) = sum;
    }
}

/* out = h + (before - h) * mix; `before` NULL is zero. */
static void FN(lerp)(int C, const float *h, const ROW *before, const float *mix, float *out) {
    if (before) for (int c = 0; c < C; c++) out[c] = h[c] + (LOAD(before[c]) - h[c]) * mix[c];
    else for (int c = 0; c < C; c++) out[c] = h[c] - h[c] * mix[c];
}

/* x2 = x + out; then x = x2 + channel mix of LN(x2). All threads call it; x is whole again when it returns. mine is
 * scratch of 3 C of this thread, shared scratch of C + F of all. */
static void FN(channel_mix)(const dims_t *d, norm_t ln2, const channel_mix_t *mix, const layer_state_t *state, float *x,
                            const float *out, float *mine, float *shared, int thread, int threads) {
    int C = d->C, F = d->F;
    float *x2 = mine, *h = mine + C, *mixed = mine + 2 * C, *gate = shared, *k = shared + C;
    for (int c = 0; c < C; c++) x2[c] = x[c] + out[c];
    norm_row(C, x2, ln2, h);
    if (thread == 0) FN(keep)(C, h, state->channel_shift_after);
    {
        PART(F, 4);
        FN(lerp)(C, h, state->channel_shift, mix->mix_k, mixed);
        FN(rows)(from, to, C, mix->key, mixed, k);
        for (int f = from; f < to; f++) k[f] = k[f] > 0.0f ? k[f] * k[f] : 0.0f;
    }
    {
        PART(C, 4);
        FN(lerp)(C, h, state->channel_shift, mix->mix_r, mixed);
        FN(rows)(from, to, C, mix->receptance, mixed, gate);
        for (int c = from; c < to; c++) gate[c] = sigmoid(gate[c]);
    }
    BARRIER
    {
        PART(C, 4);
        FN(rows)(from, to, F, mix->value, k, mixed);
        for (int c = from; c < to; c++) x[c] = x2[c] + gate[c] * mixed[c];
    }
    BARRIER
}

/* WKV6 of one token for the heads that start at channels [from, to). */
static void FN(wkv_heads)(int from, int to, const dims_t *d, const finch_layer_t *layer, const layer_state_t *state,
                          const float *r, const float *k, const float *v, const float *w_low, float *y) {
    int D = d->D;
    float decayed[MAX_D], keys[MAX_D];
    for (int h = from; h < to; h += D) {
        float *S = state->wkv_after + (int64_t)h * D;
        size_t bytes = sizeof(float) * (size_t)D * D;
        if (state->wkv) memcpy(S, state->wkv + (int64_t)h * D, bytes);
        else memset(S, 0, bytes);
        #pragma omp simd
        for (int i = 0; i < D; i++) {
            float log_w = -fast_exp(layer->decay[h + i] + w_low[h + i]), w = fast_exp(log_w);
            decayed[i] = w;
            keys[i] = layer->times_one_minus_w ? k[h + i] * one_minus_exp(log_w, w) : k[h + i];
        }
        wkv_few(1, D, r + h, decayed, keys, v + h, y + h, D, S);
        if (layer->bonus) {
            float same = 0.0f;
            for (int i = 0; i < D; i++) same += r[h + i] * layer->bonus[h + i] * keys[i];
            for (int i = 0; i < D; i++) y[h + i] += same * v[h + i];
        }
    }
}

/* Floats of scratch: shared by all threads, and of each thread. */
static inline size_t FN(finch_shared)(const dims_t *d) {
    return 13 * (size_t)d->C + d->F + 5 * d->mix_rank + d->decay_rank + d->value2_rank;
}
static inline size_t FN(finch_mine)(const dims_t *d) { return 5 * (size_t)d->C; }

/* One Finch layer on x (C), which all threads share. */
static void FN(finch_layer)(const dims_t *d, const finch_layer_t *layer, const layer_state_t *state, float *x,
                            float *shared, float *mine, int thread, int threads) {
    int C = d->C, M = d->mix_rank;
    float *mixed = shared, *r = mixed + 5 * C, *k = r + C, *v = k + C, *extra = v + C, *w_low = extra + C;
    float *y = w_low + C, *out = y + C, *z = out + C, *decay_low = z + 5 * M, *value2_low = decay_low + d->decay_rank;
    float *ffn = value2_low + d->value2_rank;
    float *h = mine, *row = mine + C, *rest = mine + 2 * C;
    norm_row(C, x, layer->ln1, h);
    if (thread == 0) FN(keep)(C, h, state->time_shift_after);
    FN(lerp)(C, h, state->time_shift, layer->mix_x, row);
    {
        PART(5 * M, 4);
        FN(rows)(from, to, C, layer->mix_down, row, z);
        tanh_row(to - from, z + from);
    }
    BARRIER
    {
        PART(C, LANES);
        const ROW *before = state->time_shift;
        for (int g = 0; g < 5; g++) {
            float *to_mix = mixed + (int64_t)g * C;
            FN(up)(from, to, M, C, (const ROW *)layer->mix_up + (int64_t)g * M * C, z + g * M, to_mix);
            for (int c = from; c < to; c++)
                to_mix[c] = h[c] + ((before ? LOAD(before[c]) : 0.0f) - h[c]) * (layer->mixes[g * C + c] + to_mix[c]);
        }
    }
    BARRIER
    {
        PART(C, 4);
        FN(rows)(from, to, C, layer->receptance, mixed, r);
        FN(rows)(from, to, C, layer->key, mixed + C, k);
        FN(rows)(from, to, C, layer->value, mixed + 2 * C, v);
        if (layer->gate) FN(rows)(from, to, C, layer->gate, mixed + 3 * C, extra);
        else if (layer->second_value) FN(rows)(from, to, C, layer->value, mixed + 3 * C, extra);
    }
    {
        PART(d->decay_rank, 4);
        FN(rows)(from, to, C, layer->decay_down, mixed + 4 * C, decay_low);
        tanh_row(to - from, decay_low + from);
    }
    if (layer->second_value) {
        PART(d->value2_rank, 4);
        FN(rows)(from, to, C, layer->value2_down, mixed + 3 * C, value2_low);
        tanh_row(to - from, value2_low + from);
    }
    BARRIER
    {
        PART(C, d->D);
        FN(up)(from, to, d->decay_rank, C, layer->decay_up, decay_low, w_low);
        FN(wkv_heads)(from, to, d, layer, state, r, k, v, w_low, y);
        if (layer->second_value) {
            FN(up)(from, to, d->value2_rank, C, layer->value2_up, value2_low, row);
            for (int c = from; c < to; c++) y[c] += extra[c] + row[c];
        }
    }
    BARRIER
    if (layer->gate) {
        norm_heads(C, d->D, y, layer->ln_x, row);
        for (int c = 0; c < C; c++) row[c] *= extra[c] * sigmoid(extra[c]);
    } else {
        norm_row(C, y, layer->ln_x, row);
    }
    {
        PART(C, 4);
        FN(rows)(from, to, C, layer->output, row, out);
    }
    BARRIER
    FN(channel_mix)(d, layer->ln2, &layer->ffn, state, x, out, rest, ffn, thread, threads);
}

/* One token through `layers` Finch layers. x_in, x_out (C). Returns 0, or 1 when memory is short. */
int FN(finch_step)(const dims_t *d, const finch_layer_t *layer, const layer_state_t *state, const ROW *x_in, ROW *x_out,
                   int threads) {
    size_t mine = FN(finch_mine)(d), shared = FN(finch_shared)(d);
    float *memory = malloc(sizeof(float) * (d->C + shared + mine * threads));
    if (!memory) return 1;
    float *x = memory, *scratch = memory + d->C;
    for (int c = 0; c < d->C; c++) x[c] = LOAD(x_in[c]);
    #pragma omp parallel num_threads(threads)
    {
        FLUSH_ON
        int thread = omp_get_thread_num(), team = omp_get_num_threads();
        for (int i = 0; i < d->layers; i++)
            FN(finch_layer)(d, layer + i, state + i, x, scratch, scratch + shared + mine * thread, thread, team);
        FLUSH_OFF
    }
    FN(keep)(d->C, x, x_out);
    free(memory);
    return 0;
}

/* Keys and values of one new row for `layers` GOLD layers (GoldFinch eq. 15, 18-20).
 * e, c: normed embedding (C) and compressed key (R) of the row; e_before, c_before: of the one before it, or NULL.
 * token_cat (C, C + R); cosine, sine (D / 2) of the row's position, or NULL; out (layers, 2, C). */
int FN(gold_row)(const dims_t *d, const gold_layer_t *layer, const ROW *token_cat, const ROW *e, const ROW *c,
                 const ROW *e_before, const ROW *c_before, const float *cosine, const float *sine, ROW *out,
                 int wanted) {
    int C = d->C, R = d->R, M = d->mix_rank, L = d->layers, whole = e_before != 0;
    size_t shared = 2 * (size_t)C + (size_t)L * (2 * M + 2 * d->rank + 4 * (size_t)C), mine = 5 * (size_t)C + R;
    float *memory = malloc(sizeof(float) * (shared + mine * wanted));
    if (!memory) return 1;
    float *raw = memory, *z = raw + 2 * C, *low = z + L * 2 * M, *ab = low + L * 2 * d->rank, *sums = ab + L * 2 * C;
    #pragma omp parallel num_threads(wanted)
    {
        FLUSH_ON
        int thread = omp_get_thread_num(), threads = omp_get_num_threads();
        float *e_bar = memory + shared + mine * thread, *e_shift = e_bar + C, *kappa = e_shift + C;
        float *kappa_shift = kappa + C, *row = kappa_shift + C;
        for (int side = 0; side <= whole; side++) {
            const ROW *from_e = side ? e_before : e, *from_c = side ? c_before : c;
            for (int i = 0; i < C; i++) row[i] = LOAD(from_e[i]);
            for (int i = 0; i < R; i++) row[C + i] = LOAD(from_c[i]);
            rms_of(C, row, side ? e_shift : e_bar);
            PART(C, 4);
            FN(rows)(from, to, C + R, token_cat, row, raw + side * C);
        }
        BARRIER
        rms_of(C, raw, kappa);
        if (whole) rms_of(C, raw + C, kappa_shift);
        for (int i = 0; i < C; i++) {
            e_shift[i] = (whole ? e_shift[i] : 0.0f) - e_bar[i];
            kappa_shift[i] = (whole ? kappa_shift[i] : 0.0f) - kappa[i];
        }
        for (int l = 0; l < L; l++) {
            for (int i = 0; i < C; i++) row[i] = e_bar[i] + e_shift[i] * layer[l].mix_v_cache[i];
            PART(2 * M, 4);
            FN(rows)(from, to, C, layer[l].kv_down, row, z + l * 2 * M);
            tanh_row(to - from, z + l * 2 * M + from);
        }
        BARRIER
        for (int l = 0; l < L; l++)
            for (int side = 0; side < 2; side++) {
                const float *base = side ? e_bar : kappa, *shift = side ? e_shift : kappa_shift;
                const float *mix = side ? layer[l].mix_v : layer[l].mix_k;
                float *mixed = ab + (2 * l + side) * C;
                PART(C, LANES);
                const ROW *kv_up = (const ROW *)layer[l].kv_up + (int64_t)side * M * C;
                FN(up)(from, to, M, C, kv_up, z + (2 * l + side) * M, mixed);
                for (int i = from; i < to; i++) mixed[i] = base[i] + shift[i] * (mix[i] + mixed[i]);
            }
        BARRIER
        for (int l = 0; l < L; l++)
            for (int side = 0; side < 2; side++) {
                float *to_low = low + (2 * l + side) * d->rank;
                PART(d->rank, 4);
                FN(rows)(from, to, C, side ? layer[l].value_down : layer[l].key_down, ab + (2 * l + side) * C, to_low);
                tanh_row(to - from, to_low + from);
            }
        BARRIER
        for (int l = 0; l < L; l++)
            for (int side = 0; side < 2; side++) {
                int i = 2 * l + side;
                PART(C, LANES);
                const ROW *w = side ? layer[l].value_up : layer[l].key_up;
                FN(up)(from, to, d->rank, C, w, low + i * d->rank, sums + i * C);
                for (int c = from; c < to; c++) sums[i * C + c] += ab[i * C + c];
            }
        BARRIER
        for (int i = thread; i < 2 * L; i += threads) {
            norm_row(C, sums + i * C, i % 2 ? layer[i / 2].ln_v : layer[i / 2].ln_k, row);
            if (cosine && i % 2 == 0) rotate_row(C, d->D, cosine, sine, row);
            FN(keep)(C, row, out + (int64_t)i * C);
        }
        FLUSH_OFF
    }
    free(memory);
    return 0;
}

/* The query's part `seen` over `n` <= KEYS keys, one head: k and v start at the head's channels, rows C apart. */
static inline __attribute__((always_inline))
void FN(meet_keys)(int n, int C, int D, const float *q, const ROW *k, const ROW *v, float *largest, float *total,
                   float *sum) {
    vec dots[KEYS] = {{0}}, y[MAX_D / LANES];
    float score[KEYS], weight[KEYS];
    for (int i = 0; i < n; i++)
        for (int c = 0; c < D; c += LANES) dots[i] += FN(vector)(k + (int64_t)i * C + c) * *(const vec *)(q + c);
    vec all = sums_of(dots);
    memcpy(score, &all, sizeof score);
    float top = *largest, added = 0.0f;
    for (int i = 0; i < KEYS; i++) {
        score[i] = i < n ? score[i] : -__builtin_inff();
        top = score[i] > top ? score[i] : top;
    }
    float scale = fast_exp(*largest - top);
    #pragma omp simd reduction(+ : added)
    for (int i = 0; i < KEYS; i++) {
        weight[i] = fast_exp(score[i] - top);
        added += weight[i];
    }
    *largest = top;
    *total = *total * scale + added;
    for (int c = 0; c < D; c += LANES) y[c / LANES] = *(const vec *)(sum + c) * scale;
    for (int i = 0; i < n; i++)
        for (int c = 0; c < D; c += LANES) y[c / LANES] += FN(vector)(v + (int64_t)i * C + c) * weight[i];
    for (int c = 0; c < D; c += LANES) *(vec *)(sum + c) = y[c / LANES];
}

/* One query q (C), already scaled, over keys [first, last) of the document and the rows since, counted through. */
static void FN(attend)(int C, int D, const float *q, const gold_rows_t *rows, int64_t first, int64_t last,
                       partial_t seen) {
    for (int h = 0; h < C / D; h++) seen.largest[h] = -__builtin_inff(), seen.total[h] = 0.0f;
    memset(seen.sum, 0, sizeof(float) * (size_t)C);
    while (first < last) {
        int recent = first >= rows->document_rows;
        int64_t end = recent || last < rows->document_rows ? last : rows->document_rows;
        int64_t at = (recent ? first - rows->document_rows : first) * C;
        const ROW *k = (const ROW *)(recent ? rows->recent_k : rows->document_k) + at;
        const ROW *v = (const ROW *)(recent ? rows->recent_v : rows->document_v) + at;
        int n = end - first < KEYS ? (int)(end - first) : KEYS;
        for (int h = 0; h < C / D; h++) {
            int c = h * D;
            /* The next keys are on their way while these are met. */
            if (end - first >= 2 * KEYS)
                for (int i = 0; i < KEYS; i++)
                    for (int line = 0; line < D; line += 64 / (int)sizeof(ROW)) {
                        __builtin_prefetch(k + (int64_t)(KEYS + i) * C + c + line);
                        __builtin_prefetch(v + (int64_t)(KEYS + i) * C + c + line);
                    }
            if (D == 64 && n == KEYS)
                FN(meet_keys)(KEYS, C, 64, q + c, k + c, v + c, seen.largest + h, seen.total + h, seen.sum + c);
            else
                FN(meet_keys)(n, C, D, q + c, k + c, v + c, seen.largest + h, seen.total + h, seen.sum + c);
        }
        first += n;
    }
}

/* One GOLD layer on x (C), which all threads share; `parts` has a partial for each thread. */
static void FN(gold_layer)(const dims_t *d, const gold_layer_t *layer, const layer_state_t *state,
                           const gold_rows_t *rows, const float *cosine, const float *sine, float *x, float *shared,
                           float *mine, partial_t *parts, int thread, int threads) {
    int C = d->C, D = d->D, M = d->mix_rank;
    float *z = shared, *mixed = z + M, *raw = mixed + C, *out = raw + C, *ffn = out + C;
    float *h = mine, *row = mine + C, *rest = mine + 2 * C;
    norm_row(C, x, layer->ln1, h);
    if (thread == 0) FN(keep)(C, h, state->time_shift_after);
    FN(lerp)(C, h, state->time_shift, layer->mix_x, row);
    {
        PART(M, 4);
        FN(rows)(from, to, C, layer->q_down, row, z);
        tanh_row(to - from, z + from);
    }
    BARRIER
    {
        PART(C, LANES);
        const ROW *before = state->time_shift;
        FN(up)(from, to, M, C, layer->q_up, z, mixed);
        for (int c = from; c < to; c++)
            mixed[c] = h[c] + ((before ? LOAD(before[c]) : 0.0f) - h[c]) * (layer->mix_q[c] + mixed[c]);
    }
    BARRIER
    {
        PART(C, 4);
        FN(rows)(from, to, C, layer->query, mixed, raw);
    }
    BARRIER
    norm_row(C, raw, layer->ln_q, row);
    if (cosine) rotate_row(C, D, cosine, sine, row);
    float scale = 1.0f / __builtin_sqrtf((float)D);
    for (int c = 0; c < C; c++) row[c] *= scale;
    int64_t keys = rows->document_rows + rows->recent_rows;
    FN(attend)(C, D, row, rows, keys * thread / threads, keys * (thread + 1) / threads, parts[thread]);
    BARRIER
    merge_parts(threads, C, D, parts, row);
    norm_row(C, row, layer->ln_x, h);
    {
        PART(C, 4);
        FN(rows)(from, to, C, layer->output, h, out);
    }
    BARRIER
    FN(channel_mix)(d, layer->ln2, &layer->ffn, state, x, out, rest, ffn, thread, threads);
}

/* One token through `layers` GOLD layers; `rows` holds the token's own keys and values already. x_in, x_out (C). */
int FN(gold_step)(const dims_t *d, const gold_layer_t *layer, const layer_state_t *state, const gold_rows_t *rows,
                  const float *cosine, const float *sine, const ROW *x_in, ROW *x_out, int threads) {
    int C = d->C, H = C / d->D;
    size_t shared = d->mix_rank + 4 * (size_t)C + d->F, part = C + 2 * (size_t)H, mine = 5 * (size_t)C + part;
    float *memory = malloc(sizeof(float) * (C + shared + mine * threads));
    partial_t *parts = malloc(sizeof(partial_t) * (size_t)threads);
    if (!memory || !parts) {
        free(memory);
        free(parts);
        return 1;
    }
    float *x = memory, *scratch = memory + C;
    for (int c = 0; c < C; c++) x[c] = LOAD(x_in[c]);
    for (int t = 0; t < threads; t++) {
        float *at = scratch + shared + mine * t;
        parts[t] = (partial_t){at + C, at + C + H, at};
    }
    #pragma omp parallel num_threads(threads)
    {
        FLUSH_ON
        int thread = omp_get_thread_num(), team = omp_get_num_threads();
        for (int i = 0; i < d->layers; i++)
            FN(gold_layer)(d, layer + i, state + i, rows + i, cosine, sine, x, scratch,
                           scratch + shared + mine * thread + part, parts, thread, team);
        FLUSH_OFF
    }
    FN(keep)(C, x, x_out);
    free(memory);
    free(parts);
    return 0;
}
