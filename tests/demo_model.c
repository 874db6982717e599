// tests/demo_model.c -- writes a small Llama that knows a short text by its word statistics, without any
// training.
//
//     demo_model TEXT OUT.gguf
//
// The weights are built so that softmax(logits) is exactly a smoothed trigram model of the text's words. A
// paragraph of TEXT (between blank lines) is a document: BOS, its words and punctuation, EOS. With c() the
// counts in the text,
//     P2(w | a)    = c(a w) / c(a)                              what follows a
//     P3(w | a, b) = (c(a b w) + BACKOFF * P2(w | b)) / (c(a b) + BACKOFF)      P2(w | b) where a b never
//     occurs
// and a share FLOOR of the probability is spread over all words, so that none is impossible.
//
// How a Llama of one layer holds that. D columns of the residual stream, 64 of them twice for codes, one for
// a constant:
//     0..63     code of this word: 64 signs / 8, so of length 1; two codes have a scalar product of 1/2 at
//     most 64..127   code of the word before, put there by the attention 128       the constant 1 129 filler,
//     so that the vector has the same length R after every context: the norms divide by constants, and
//               their weights multiply by the same constants
//     130..     one column a word: ln(P(w) / floor), 0 where the word is as unlikely as can be
//   attention   one head of 64 = 32 pairs. Queries and keys come from the constant alone: q = SHARPNESS * (1,
//   0) and
//               k = (cos f, sin f) in the pair of frequency f. After RoPE the score of key j for query i is
//               SHARPNESS / 8 * (sum over f of cos((i - j - 1) f)): largest at j = i - 1, and by so much that
//               the softmax leaves nothing to others. The value is the code. So each row receives the code of
//               its predecessor.
//   ffn         one hidden unit a context. The gate is 64 * (code(b).x0 + code(a).x1 - 7/4), which is 16 for
//   the context
//               and at most -16 for any other (for one word: the first code alone, minus 3/4); up is 1/16; so
//               SiLU(gate) * up is 1 or 0 to seven digits. The unit of a word adds its P2, that of a pair
//               what P3 has more than P2.
//   output      copies the word columns; tokens that are no words get -30.
//
// The vocabulary is SentencePiece: a word can be reached by merging letters only if all its beginnings are
// tokens, so they are. They and the byte tokens, which spell whatever the text does not have, count as one
// unknown word.
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/gguf.h"
#include "core/rng.h"

enum { CODE = 64, COL_THIS = 0, COL_BEFORE = CODE, COL_ONE = 2 * CODE, COL_FILL, COL_WORDS };
enum { MAX_SYMBOLS = 2048, CONTEXT = 1024 };
enum { SYM_UNKNOWN, SYM_BOS, SYM_EOS, SYM_WORDS }; // symbols: what the statistics are about
enum { TOKEN_UNK, TOKEN_BOS, TOKEN_EOS, TOKEN_BYTES, TOKEN_PIECES = TOKEN_BYTES + 256 };

static const float SHARPNESS = 64, GATE = 64, FREQ_BASE = 10, EPS = 1e-5F, NEVER = -30;
static const double BACKOFF = 0.5, FLOOR = 0.005;
static const char SPACE[] = "\xe2\x96\x81"; // U+2581, SentencePiece's space

static _Noreturn void fail(const char *text)
{
    fprintf(stderr, "demo_model: %s\n", text);
    exit(1);
}

static void *allocate(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p) fail("out of memory");
    return p;
}

// ---- the text -----------------------------------------------------------------------------------------

struct corpus {
    char *names[MAX_SYMBOLS]; // as a token: words begin with SPACE, punctuation does not
    int symbols;              // S
    int *ids;                 // the text as symbols, each document from BOS to EOS
    size_t count;
};

static int find_symbol(struct corpus *c, const char *prefix, const char *text, size_t bytes)
{
    char name[128];
    if (bytes > 64) fail("the text has a word of more than 64 letters");
    snprintf(name, sizeof name, "%s%.*s", prefix, (int)bytes, text);
    for (int s = SYM_WORDS; s < c->symbols; s++) {
        if (!strcmp(c->names[s], name)) return s;
    }
    if (c->symbols == MAX_SYMBOLS) fail("the text has too many different words");
    c->names[c->symbols] = strdup(name);
    if (!c->names[c->symbols]) fail("out of memory");
    return c->symbols++;
}

// Words are what stands between spaces; signs at their end are words of their own. A blank line ends a
// document.
static void read_corpus(struct corpus *c, const char *text, size_t bytes)
{
    c->symbols = SYM_WORDS;
    c->ids = allocate(bytes * 2 + 2, sizeof *c->ids);
    bool inside = false;
    for (const char *p = text, *end = text + bytes; p < end;) {
        int newlines = 0;
        for (; p < end && isspace((unsigned char)*p); p++) newlines += *p == '\n';
        if (inside && (newlines > 1 || p == end)) {
            c->ids[c->count++] = SYM_EOS;
            inside = false;
        }
        if (p == end) break;
        if (!inside) c->ids[c->count++] = SYM_BOS;
        inside = true;
        const char *word = p;
        for (; p < end && !isspace((unsigned char)*p); p++) {
            if (*p < 33 || *p > 126) fail("the text has other characters than ASCII");
        }
        const char *tail = p;
        while (tail > word && ispunct((unsigned char)tail[-1])) tail--;
        if (tail == word) fail("the text has punctuation without a word before it");
        c->ids[c->count++] = find_symbol(c, SPACE, word, (size_t)(tail - word));
        for (; tail < p; tail++) c->ids[c->count++] = find_symbol(c, "", tail, 1);
    }
    if (inside) c->ids[c->count++] = SYM_EOS;
    if (!c->count) fail("the text is empty");
}

// ---- contexts and their probabilities -----------------------------------------------------------------

struct context {
    int before, last; // symbols a and b; before < 0: b alone
    size_t seen;
    double *p; // (S) probability of what follows; not yet smoothed by the floor
};

struct contexts {
    struct context *of; // the first S are those of one symbol, by its number
    int count;
};

struct trigram {
    int a, b, w;
};

static int compare_trigrams(const void *x, const void *y)
{
    const struct trigram *s = x, *t = y;
    if (s->a != t->a) return s->a < t->a ? -1 : 1;
    if (s->b != t->b) return s->b < t->b ? -1 : 1;
    return s->w < t->w ? -1 : s->w > t->w;
}

static void count_singles(struct contexts *all, const struct corpus *c)
{
    int S = c->symbols;
    for (int s = 0; s < S; s++)
        all->of[s] = (struct context){.before = -1, .last = s, .p = allocate((size_t)S, sizeof(double))};
    all->count = S;
    for (size_t i = 1; i < c->count; i++) {
        int a = c->ids[i - 1], w = c->ids[i];
        if (a == SYM_EOS) continue;
        all->of[a].p[w]++;
        all->of[a].seen++;
        if (w == SYM_EOS) continue;
        // After an unknown word: any word, as often as it is.
        all->of[SYM_UNKNOWN].p[w]++;
        all->of[SYM_UNKNOWN].seen++;
    }
    for (int s = 0; s < S; s++) {
        for (int w = 0; w < S && all->of[s].seen; w++) all->of[s].p[w] /= (double)all->of[s].seen;
    }
}

static void count_pairs(struct contexts *all, const struct corpus *c)
{
    int S = c->symbols;
    struct trigram *t = allocate(c->count, sizeof *t);
    size_t n = 0;
    for (size_t i = 2; i < c->count; i++) {
        if (c->ids[i - 2] == SYM_EOS || c->ids[i - 1] == SYM_EOS) continue;
        t[n++] = (struct trigram){c->ids[i - 2], c->ids[i - 1], c->ids[i]};
    }
    qsort(t, n, sizeof *t, compare_trigrams);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && t[end].a == t[i].a && t[end].b == t[i].b;) end++;
        size_t seen = end - i;
        const struct context *last = &all->of[t[i].b];
        if (seen == last->seen) continue; // nothing that the last word does not know alone
        double *p = allocate((size_t)S, sizeof *p);
        for (int w = 0; w < S; w++) p[w] = BACKOFF * last->p[w] / ((double)seen + BACKOFF);
        for (size_t j = i; j < end; j++) p[t[j].w] += 1 / ((double)seen + BACKOFF);
        all->of[all->count++] = (struct context){.before = t[i].a, .last = t[i].b, .seen = seen, .p = p};
    }
    free(t);
}

// Turns the probabilities of each context into the numbers that its rows of the residual stream must hold:
// (S) logits over the floor, by word. Returns the largest sum of squares.
static double logits_of(struct contexts *all, int symbols)
{
    double largest = 0, words = symbols - SYM_EOS;
    for (int i = 0; i < all->count; i++) {
        double sum = 0, *p = all->of[i].p;
        for (int w = 0; w < symbols; w++) {
            p[w] = w < SYM_EOS ? 0 : log(((1 - FLOOR) * p[w] + FLOOR / words) / (FLOOR / words));
            sum += p[w] * p[w];
        }
        if (sum > largest) largest = sum;
    }
    return largest;
}

// ---- weights ------------------------------------------------------------------------------------------

struct matrix {
    const char *name;
    enum dtype type;
    int rows, cols; // rows 1 and type F32: a vector
    float *data;
};

enum {
    M_EMBD,
    M_OUT,
    M_OUT_NORM,
    M_ATTN_NORM,
    M_Q,
    M_K,
    M_V,
    M_O,
    M_FFN_NORM,
    M_GATE,
    M_UP,
    M_DOWN,
    M_COUNT
};

static struct matrix make_matrix(const char *name, enum dtype type, int rows, int cols)
{
    return (struct matrix){name, type, rows, cols, allocate((size_t)rows * (size_t)cols, sizeof(float))};
}

static float *at(struct matrix *m, int row, int col)
{
    return &m->data[(size_t)row * (size_t)m->cols + (size_t)col];
}

// Signs, a bit each, any two of which differ in 16 places or more: a scalar product of at most 1/2.
static void make_codes(uint64_t *codes, int count)
{
    for (uint64_t draw = 0, made = 0; made < (uint64_t)count; draw++) {
        uint32_t r[4];
        rng_philox(1, 0, draw, r);
        uint64_t code = (uint64_t)r[0] << 32 | r[1];
        bool far = true;
        for (uint64_t i = 0; i < made && far; i++) far = __builtin_popcountll(code ^ codes[i]) >= 16;
        if (far) codes[made++] = code;
        if (draw > 10000000) fail("the text has too many different words for their codes");
    }
}

static void put_code(float *out, uint64_t code, float length)
{
    for (int i = 0; i < CODE; i++) out[i] = (code >> i & 1 ? length : -length) / 8;
}

static void fill_attention(struct matrix *m)
{
    for (int pair = 0; pair < CODE / 2; pair++) {
        double f = pow(FREQ_BASE, -2.0 * pair / CODE);
        *at(&m[M_Q], 2 * pair, COL_ONE) = SHARPNESS;
        *at(&m[M_K], 2 * pair, COL_ONE) = (float)cos(f);
        *at(&m[M_K], 2 * pair + 1, COL_ONE) = (float)sin(f);
    }
    for (int i = 0; i < CODE; i++) {
        *at(&m[M_V], i, COL_THIS + i) = 1;
        *at(&m[M_O], COL_BEFORE + i, i) = 1;
    }
}

// `radius` is R squared, less the lengths of the two codes and the constant.
static void fill_ffn(struct matrix *m, const struct contexts *all, const uint64_t *codes, int symbols,
                     double radius)
{
    double *fill = allocate((size_t)all->count, sizeof *fill);
    for (int i = 0; i < all->count; i++) {
        const struct context *c = &all->of[i];
        bool single = c->before < 0;
        put_code(at(&m[M_GATE], i, COL_THIS), codes[c->last], GATE);
        if (!single) put_code(at(&m[M_GATE], i, COL_BEFORE), codes[c->before], GATE);
        *at(&m[M_GATE], i, COL_ONE) = GATE * (single ? -0.75F : -1.75F);
        *at(&m[M_UP], i, COL_ONE) = 4 / GATE;

        // The unit of a pair fires together with that of its last word: it adds the difference.
        double sum = 0;
        for (int w = SYM_EOS; w < symbols; w++) {
            sum += c->p[w] * c->p[w];
            *at(&m[M_DOWN], COL_WORDS + w - SYM_EOS, i) =
                (float)(c->p[w] - (single ? 0 : all->of[c->last].p[w]));
        }
        fill[i] = sqrt(radius - sum);
        *at(&m[M_DOWN], COL_FILL, i) = (float)(fill[i] - (single ? 0 : fill[c->last]));
    }
    free(fill);
}

// A norm whose input always has the length sqrt(squares), and which must leave it as it is.
static void fill_norm(struct matrix *m, double squares)
{
    for (int i = 0; i < m->cols; i++) m->data[i] = (float)sqrt(squares / m->cols + (double)EPS);
}

// ---- vocabulary ---------------------------------------------------------------------------------------

struct vocabulary {
    char **names;
    int *symbols; // of each token
    int count;
};

static int compare_names(const void *x, const void *y)
{
    return strcmp(*(char *const *)x, *(char *const *)y);
}

static void make_vocabulary(struct vocabulary *v, const struct corpus *c)
{
    size_t room = TOKEN_PIECES + 1;
    for (int s = SYM_WORDS; s < c->symbols; s++) room += strlen(c->names[s]);
    v->names = allocate(room, sizeof *v->names);
    v->symbols = allocate(room, sizeof *v->symbols);
    v->names[TOKEN_UNK] = strdup("<unk>"), v->names[TOKEN_BOS] = strdup("<s>"),
    v->names[TOKEN_EOS] = strdup("</s>");
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        v->names[TOKEN_BYTES + b] = strdup(name);
    }
    // All beginnings of all words from the space on, and punctuation; sorted, without repetitions.
    int n = TOKEN_PIECES;
    for (int s = SYM_WORDS; s < c->symbols; s++) {
        size_t bytes = strlen(c->names[s]), start = bytes > 1 ? strlen(SPACE) : 1;
        for (size_t k = start; k <= bytes; k++) v->names[n++] = strndup(c->names[s], k);
    }
    qsort(v->names + TOKEN_PIECES, (size_t)(n - TOKEN_PIECES), sizeof *v->names, compare_names);
    v->count = TOKEN_PIECES;
    for (int i = TOKEN_PIECES; i < n; i++) {
        if (!v->names[i]) fail("out of memory");
        if (i > TOKEN_PIECES && !strcmp(v->names[i], v->names[v->count - 1]))
            free(v->names[i]);
        else
            v->names[v->count++] = v->names[i];
    }
    v->symbols[TOKEN_BOS] = SYM_BOS, v->symbols[TOKEN_EOS] = SYM_EOS;
    for (int s = SYM_WORDS; s < c->symbols; s++) {
        char **found = bsearch(&c->names[s], v->names + TOKEN_PIECES, (size_t)(v->count - TOKEN_PIECES),
                               sizeof *v->names, compare_names);
        v->symbols[found - v->names] = s;
    }
}

static void set_vocabulary(struct gguf_writer *w, const struct vocabulary *v)
{
    struct gguf_string *tokens = allocate((size_t)v->count, sizeof *tokens);
    float *scores = allocate((size_t)v->count, sizeof *scores);
    int32_t *types = allocate((size_t)v->count, sizeof *types);
    for (int i = 0; i < v->count; i++) {
        tokens[i] = (struct gguf_string){v->names[i], strlen(v->names[i])};
        // Any scores do: only a piece that begins with a space can grow, and only by the letter behind it.
        scores[i] = i < TOKEN_PIECES ? 0 : -(float)(i - TOKEN_PIECES);
        types[i] = i == TOKEN_UNK     ? 2
                   : i < TOKEN_BYTES  ? 3
                   : i < TOKEN_PIECES ? 6
                                      : 1; // as in text/tokenizer.h
    }
    gguf_set_string(w, "tokenizer.ggml.model", "llama", 5);
    gguf_set_string_array(w, "tokenizer.ggml.tokens", tokens, (uint64_t)v->count);
    gguf_set_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, (uint64_t)v->count);
    gguf_set_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, (uint64_t)v->count);
    gguf_set_u32(w, "tokenizer.ggml.unknown_token_id", TOKEN_UNK);
    gguf_set_u32(w, "tokenizer.ggml.bos_token_id", TOKEN_BOS);
    gguf_set_u32(w, "tokenizer.ggml.eos_token_id", TOKEN_EOS);
    gguf_set_bool(w, "tokenizer.ggml.add_bos_token", true);
    free(tokens), free(scores), free(types);
}

// ---- the file -----------------------------------------------------------------------------------------

static void build(struct matrix *m, const struct corpus *c, struct contexts *all, const struct vocabulary *v)
{
    // Rows that are multiples of 256 take every quantized type.
    int D = (COL_WORDS + c->symbols - SYM_EOS + 255) / 256 * 256, F = (all->count + 255) / 256 * 256;
    m[M_EMBD] = make_matrix("token_embd.weight", DTYPE_F16, v->count, D);
    m[M_OUT] = make_matrix("output.weight", DTYPE_F16, v->count, D);
    m[M_OUT_NORM] = make_matrix("output_norm.weight", DTYPE_F32, 1, D);
    m[M_ATTN_NORM] = make_matrix("blk.0.attn_norm.weight", DTYPE_F32, 1, D);
    m[M_Q] = make_matrix("blk.0.attn_q.weight", DTYPE_F16, CODE, D);
    m[M_K] = make_matrix("blk.0.attn_k.weight", DTYPE_F16, CODE, D);
    m[M_V] = make_matrix("blk.0.attn_v.weight", DTYPE_F16, CODE, D);
    m[M_O] = make_matrix("blk.0.attn_output.weight", DTYPE_F16, D, CODE);
    m[M_FFN_NORM] = make_matrix("blk.0.ffn_norm.weight", DTYPE_F32, 1, D);
    m[M_GATE] = make_matrix("blk.0.ffn_gate.weight", DTYPE_F16, F, D);
    m[M_UP] = make_matrix("blk.0.ffn_up.weight", DTYPE_F16, F, D);
    // The only matrix whose numbers F16 would round.
    m[M_DOWN] = make_matrix("blk.0.ffn_down.weight", DTYPE_F32, D, F);

    uint64_t codes[MAX_SYMBOLS];
    make_codes(codes, c->symbols);
    for (int t = 0; t < v->count; t++) {
        int s = v->symbols[t];
        put_code(at(&m[M_EMBD], t, COL_THIS), codes[s], 1);
        *at(&m[M_EMBD], t, COL_ONE) = 1;
        if (s >= SYM_EOS)
            *at(&m[M_OUT], t, COL_WORDS + s - SYM_EOS) = 1;
        else
            *at(&m[M_OUT], t, COL_ONE) = NEVER;
    }
    double radius = logits_of(all, c->symbols);
    fill_norm(&m[M_ATTN_NORM], 2);
    fill_norm(&m[M_FFN_NORM], 3);
    fill_norm(&m[M_OUT_NORM], 3 + radius);
    fill_attention(m);
    fill_ffn(m, all, codes, c->symbols, radius);
}

static void set_keys(struct gguf_writer *w, uint32_t dim, uint32_t ffn, uint32_t vocab)
{
    gguf_set_string(w, "general.architecture", "llama", 5);
    gguf_set_string(w, "general.name", "demo", 4);
    gguf_set_u32(w, "llama.vocab_size", vocab);
    gguf_set_u32(w, "llama.context_length", CONTEXT);
    gguf_set_u32(w, "llama.embedding_length", dim);
    gguf_set_u32(w, "llama.block_count", 1);
    gguf_set_u32(w, "llama.feed_forward_length", ffn);
    gguf_set_u32(w, "llama.attention.head_count", 1);
    gguf_set_u32(w, "llama.attention.head_count_kv", 1);
    gguf_set_u32(w, "llama.attention.key_length", CODE);
    gguf_set_u32(w, "llama.attention.value_length", CODE);
    gguf_set_u32(w, "llama.rope.dimension_count", CODE);
    gguf_set_f32(w, "llama.rope.freq_base", FREQ_BASE);
    gguf_set_f32(w, "llama.attention.layer_norm_rms_epsilon", EPS);
}

static enum tlm_status write_matrix(struct gguf_writer *w, const struct matrix *m, struct tlm_error *err)
{
    size_t count = (size_t)m->rows * (size_t)m->cols;
    if (m->type == DTYPE_F32) return gguf_write_data(w, m->data, count * sizeof *m->data, err);
    uint16_t *half = allocate(count, sizeof *half);
    for (size_t i = 0; i < count; i++) half[i] = f16_from_f32(m->data[i]);
    enum tlm_status status = gguf_write_data(w, half, count * sizeof *half, err);
    free(half);
    return status;
}

static enum tlm_status write_model(const char *path, const struct matrix *m, const struct vocabulary *v,
                                   struct tlm_error *err)
{
    struct gguf_writer *w;
    enum tlm_status status = gguf_writer_open(&w, path, err);
    if (status) return status;
    set_keys(w, (uint32_t)m[M_EMBD].cols, (uint32_t)m[M_GATE].rows, (uint32_t)v->count);
    set_vocabulary(w, v);
    for (int i = 0; i < M_COUNT; i++) {
        struct tensor t = tensor_shape(m[i].type, m[i].cols, m[i].rows, 1, 1);
        gguf_add_tensor(w, m[i].name, &t);
    }
    for (int i = 0; i < M_COUNT && !status; i++) status = write_matrix(w, &m[i], err);
    if (!status) status = gguf_writer_finish(w, err);
    gguf_writer_close(w);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: demo_model TEXT OUT.gguf\n");
        return 2;
    }
    struct tlm_error err;
    char *text;
    size_t bytes;
    if (file_read(argv[1], &text, &bytes, &err)) fail(err.text);
    struct corpus c = {0};
    read_corpus(&c, text, bytes);
    free(text);
    struct contexts all = {.of = allocate((size_t)c.symbols + c.count, sizeof *all.of)};
    count_singles(&all, &c);
    count_pairs(&all, &c);
    struct vocabulary v = {0};
    make_vocabulary(&v, &c);
    struct matrix m[M_COUNT];
    build(m, &c, &all, &v);
    if (write_model(argv[2], m, &v, &err)) fail(err.text);
    fprintf(stderr, "demo_model: %s: %d words, %d pairs, width %d, feed-forward %d, %d tokens\n", argv[2],
            c.symbols - SYM_WORDS, all.count - c.symbols, m[M_EMBD].cols, m[M_GATE].rows, v.count);

    for (int i = 0; i < M_COUNT; i++) free(m[i].data);
    for (int i = 0; i < v.count; i++) free(v.names[i]);
    for (int i = 0; i < all.count; i++) free(all.of[i].p);
    for (int s = SYM_WORDS; s < c.symbols; s++) free(c.names[s]);
    free(v.names), free(v.symbols), free(all.of), free(c.ids);
    return 0;
}
