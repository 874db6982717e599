// tests/test_model.c -- whole models against what transformers computes in double (tests/golden/README.md), on every tier.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "tests/golden.h"
#include "tests/tests.h"

struct compare {
    const struct golden *golden;
    int32_t next; // index into golden->rows
    double difference, norm, largest_difference, largest;
};

static int compare_row(void *user, size_t index, const float *logits)
{
    struct compare *c = user;
    const struct golden *g = c->golden;
    if (c->next == g->row_count || (size_t)g->rows[c->next] != index) return 0;
    const float *want = g->logits + (size_t)c->next++ * (size_t)g->vocab;
    for (int32_t i = 0; i < g->vocab; i++) {
        double d = (double)logits[i] - want[i];
        c->difference += d * d;
        c->norm += (double)want[i] * want[i];
        c->largest_difference = fmax(c->largest_difference, fabs(d));
        c->largest = fmax(c->largest, fabs(want[i]));
        if (isnan(d)) c->difference = NAN;
    }
    return 0;
}

// Agreement to `tolerance` as the design defines it, over all kept rows, with prompt chunks of `batch`.
static void check(const char *name, const char *isa, int32_t batch, double tolerance)
{
    char path[256];
    golden_model_path(name, path);
    struct golden g = golden_read(name);
    struct tlm_model *m = open_model(path, isa);
    struct tlm_session *s = open_session(
        m, (struct tlm_session_options){
               .context = g.context, .threads = 2, .batch = batch, .kv_type_k = "f32", .kv_type_v = "f32"});
    ck_assert_int_eq(tlm_model_vocab_size(m), g.vocab);
    struct compare c = {.golden = &g};
    struct tlm_error err = {0};
    enum tlm_status status =
        tlm_session_logits_each(s, g.ids, (size_t)g.count, (size_t)g.rows[0], compare_row, &c, &err);
    ck_assert_msg(status == TLM_OK, "%s", err.text);
    ck_assert_int_eq(c.next, g.row_count);
    double off = sqrt(c.difference / c.norm);
    ck_assert_msg(off <= tolerance && c.largest_difference <= 10 * tolerance * c.largest,
                  "%s, isa %s, chunks of %d: off by %g of the norm, at most %g of %g", name, isa, batch, off,
                  c.largest_difference, c.largest);
    tlm_session_close(s);
    tlm_model_close(m);
    golden_free(&g);
}

static void check_all(const char *isa, double tolerance)
{
    int count;
    char **names = golden_names(&count);
    ck_assert_int_ge(count, 15);
    for (int i = 0; i < count; i++) {
        check(names[i], isa, 1, tolerance);
        check(names[i], isa, 7, tolerance);
        check(names[i], isa, 512, tolerance);
        free(names[i]);
    }
    free(names);
}

START_TEST(test_golden)
{
    enum isa isa = (enum isa)_i;
    if (isa > isa_detect()) return; // this processor has no such tier: what it has is tested
    check_all(isa_name(isa), 1e-5);
}
END_TEST

START_TEST(test_golden_double)
{
    check_all("f64", 1e-6);
}
END_TEST

START_TEST(test_description)
{
    struct tlm_model *m = open_model("tests/golden/llama-plain.gguf", NULL);
    ck_assert_ptr_nonnull(strstr(tlm_model_description(m), "llama"));
    ck_assert_ptr_nonnull(strstr(tlm_model_description(m), "F32"));
    ck_assert_uint_eq(tlm_model_bytes(m), 4 * tlm_model_parameters(m));
    tlm_model_close(m);
}
END_TEST

START_TEST(test_missing_file)
{
    struct tlm_model *m;
    struct tlm_error err;
    ck_assert_int_eq(tlm_model_open(&m, "no/such/file.gguf", NULL, &err), TLM_ERR_IO);
    ck_assert_ptr_null(m);
    ck_assert_ptr_nonnull(strstr(err.text, "no/such/file.gguf"));
}
END_TEST

Suite *suite_model(void)
{
    Suite *s = suite_create("model");
    TCase *t = tcase_create("model");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_golden, ISA_REF, ISA_F64);
    tcase_add_test(t, test_golden_double);
    tcase_add_test(t, test_description);
    tcase_add_test(t, test_missing_file);
    suite_add_tcase(s, t);
    return s;
}
