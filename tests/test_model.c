// tests/test_model.c -- whole models against what transformers computes in double (tests/golden/README.md), on every tier.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "tests/golden.h"
#include "tests/tests.h"

// With prompt chunks of 1, 7 and all tokens.
static void check(const char *name, const char *isa, double tolerance)
{
    static const int32_t batches[] = {1, 7, 512};
    char path[256];
    golden_model_path(name, path);
    struct golden g = golden_read(name);
    struct tlm_model *m = open_model(path, isa);
    for (int i = 0; i < 3; i++) golden_check(&g, m, name, batches[i], tolerance);
    tlm_model_close(m);
    golden_free(&g);
}

static void check_all(const char *isa, double tolerance)
{
    int count;
    char **names = golden_names("", &count);
    ck_assert_int_ge(count, 15);
    for (int i = 0; i < count; i++) {
        check(names[i], isa, tolerance);
        free(names[i]);
    }
    free(names);
}

START_TEST(test_golden)
{
    enum isa isa = (enum isa)_i;
    if (!isa_supported(isa)) return; // this processor has no such tier: what it has is tested
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
