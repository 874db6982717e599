#include "tests/placed.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "generate/forward.h"
#include "tests/golden.h"
#include "tests/kernels.h"
#include "tests/tests.h"

enum tlm_status placed_open(struct tlm_model **m, const char *path, const struct placed_setting *s,
                            struct tlm_error *err)
{
    return tlm_model_open(m, path,
                          &(struct tlm_model_options){.backend = "cuda",
                                                      .gpu_layers = s->layers,
                                                      .tensor_placement = &s->placement,
                                                      .tensor_placement_count = s->placement != NULL,
                                                      .tensor_split = s->split,
                                                      .split_mode = s->mode},
                          err);
}

void placed_check_logits(const struct tlm_model *m, const char *path, const char *name, double tolerance)
{
    enum { PROMPT = 40, TOKENS = 43 };
    struct tlm_error err;
    struct tlm_model *oracle = open_model(path, "f64");
    const int32_t vocab = tlm_model_vocab_size(m);
    const struct tlm_session_options options = {
        .context = 64, .batch = 16, .threads = 2, .kv_type_k = "f32", .kv_type_v = "f32"};
    struct tlm_session *own = open_session(m, options), *other = open_session(oracle, options);
    double *expected = malloc((size_t)vocab * sizeof *expected);
    int32_t tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++) tokens[i] = 1 + i * 7 % 20;
    for (size_t n = PROMPT; n <= TOKENS; n++) {
        ck_assert_msg(!tlm_session_sync(own, tokens, n, &err), "%s", err.text);
        ck_assert_msg(!tlm_session_sync(other, tokens, n, &err), "%s", err.text);
        for (int32_t i = 0; i < vocab; i++) expected[i] = (double)tlm_session_logits(other)[i];
        ck_assert_msg(agrees(tlm_session_logits(own), expected, vocab, tolerance),
                      "%s, %s, %d tokens: error %g", path, name, (int)n,
                      rel_error(tlm_session_logits(own), expected, vocab));
    }
    free(expected);
    tlm_session_close(own), tlm_session_close(other);
    tlm_model_close(oracle);
}

float *placed_fork_logits(const struct tlm_model *m, enum dtype type)
{
    enum { PROMPT = 21, SEQUENCES = 3, STEPS = 3 };
    const struct forward_config config = {.context = 64,
                                          .sequences = SEQUENCES,
                                          .max_rows = 32,
                                          .max_outputs = SEQUENCES,
                                          .threads = 1,
                                          .type_k = type,
                                          .type_v = type};
    const int32_t vocab = (int32_t)m->hparams.vocab;
    float *logits = malloc((size_t)(STEPS * SEQUENCES * vocab) * sizeof *logits);
    struct forward_row rows[PROMPT];
    struct forward f;
    struct tlm_error err;
    ck_assert_msg(!forward_open(&f, m, &config, &err), "%s", err.text);
    for (int32_t i = 0; i < PROMPT; i++) rows[i] = (struct forward_row){1 + i * 3 % 20, i, 0, false};
    ck_assert_msg(!forward_run(&f, rows, PROMPT, &err), "%s", err.text);
    for (int32_t s = 1; s < SEQUENCES; s++) ck_assert_int_eq(kv_fork(&f.cache, s, 0, PROMPT), PROMPT);
    for (int32_t step = 0; step < STEPS; step++) {
        for (int32_t s = 0; s < SEQUENCES; s++)
            rows[s] = (struct forward_row){2 + 5 * s + step, PROMPT + step, s, true};
        ck_assert_msg(!forward_run(&f, rows, SEQUENCES, &err), "%s", err.text);
        for (int32_t s = 0; s < SEQUENCES; s++)
            memcpy(logits + (step * SEQUENCES + s) * vocab, forward_logits(&f, s),
                   (size_t)vocab * sizeof *logits);
    }
    ck_assert_int_ge((int)kv_stats(&f.cache).copied, SEQUENCES - 1);
    kv_forget(&f.cache);
    forward_close(&f);
    return logits;
}

struct tlm_generate_result placed_greedy(const struct tlm_model *m, struct tlm_drafter *d)
{
    enum { NEW = 40 };
    static const int32_t prompt[] = {1, 5, 9, 5, 9};
    struct tlm_error err;
    struct tlm_session *s = open_session(
        m, (struct tlm_session_options){.context = 96, .threads = 1, .kv_type_k = "f32", .kv_type_v = "f32"});
    struct tlm_sampler_options options = tlm_sampler_defaults();
    struct tlm_sampler *sampler;
    struct tlm_generate_result r = {0};
    options.temperature = 0;
    ck_assert_int_eq(tlm_sampler_open(&sampler, m, &options, &err), TLM_OK);
    const struct tlm_generate_options how = {.max_tokens = NEW, .drafter = d};
    ck_assert_msg(!tlm_generate(s, sampler, prompt, 5, &how, &r, &err), "%s", err.text);
    tlm_sampler_close(sampler);
    tlm_session_close(s);
    return r;
}
