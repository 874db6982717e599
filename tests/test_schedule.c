// tests/test_schedule.c -- learning rates at the steps that matter, and what is refused.
#include <math.h>

#include "tests/tests.h"
#include "train/schedule.h"

static void rate_is(const struct schedule *s, int64_t step, double want)
{
    double got = schedule_rate(s, step);
    ck_assert_msg(fabs(got - want) <= 1e-15 * fabs(want), "step %d: expected %.17g, found %.17g", (int)step,
                  want, got);
}

START_TEST(test_constant)
{
    struct schedule s = {.kind = SCHEDULE_CONSTANT, .peak = 0.5, .warmup = 4};
    ck_assert_int_eq(schedule_check(&s, NULL), TLM_OK);
    rate_is(&s, 0, 0.125), rate_is(&s, 1, 0.25), rate_is(&s, 3, 0.5), rate_is(&s, 4, 0.5);
    rate_is(&s, INT64_MAX, 0.5);
    s.warmup = 0;
    rate_is(&s, 0, 0.5);
}
END_TEST

START_TEST(test_linear)
{
    struct schedule s = {.kind = SCHEDULE_LINEAR, .peak = 2, .minimum = 0.25, .steps = 110, .warmup = 10};
    ck_assert_int_eq(schedule_check(&s, NULL), TLM_OK);
    rate_is(&s, 0, 0.2), rate_is(&s, 9, 2), rate_is(&s, 10, 2), rate_is(&s, 60, 1.25), rate_is(&s, 110, 0.5);
    rate_is(&s, 111, 0.5), rate_is(&s, 1000000, 0.5);
    rate_is(&s, 109, 2 * (0.25 + 0.75 * 0.01));
}
END_TEST

START_TEST(test_cosine)
{
    struct schedule s = {.kind = SCHEDULE_COSINE, .peak = 1, .minimum = 0.1, .steps = 1000, .warmup = 100};
    ck_assert_int_eq(schedule_check(&s, NULL), TLM_OK);
    rate_is(&s, 99, 1), rate_is(&s, 100, 1), rate_is(&s, 550, 0.55);
    rate_is(&s, 400, 0.1 + 0.9 * 0.75); // a third of the way: (1 + cos 60 degrees) / 2
    rate_is(&s, 1000, 0.1);
    for (int64_t i = 100; i < 1000; i++) ck_assert(schedule_rate(&s, i + 1) < schedule_rate(&s, i));
}
END_TEST

START_TEST(test_stable)
{
    struct schedule s = {.kind = SCHEDULE_WSD, .peak = 1, .steps = 100, .warmup = 10, .decay = 20};
    ck_assert_int_eq(schedule_check(&s, NULL), TLM_OK);
    rate_is(&s, 4, 0.5), rate_is(&s, 10, 1), rate_is(&s, 79, 1), rate_is(&s, 80, 1), rate_is(&s, 85, 0.75);
    rate_is(&s, 100, 0);
    s.kind = SCHEDULE_WSD_SQRT;
    rate_is(&s, 79, 1), rate_is(&s, 80, 1), rate_is(&s, 85, 0.5), rate_is(&s, 100, 0);
    s.decay = 0;
    rate_is(&s, 99, 1), rate_is(&s, 100, 0);
}
END_TEST

START_TEST(test_refused)
{
    static const struct schedule bad[] = {
        {.kind = SCHEDULE_CONSTANT, .peak = -1},
        {.kind = SCHEDULE_CONSTANT, .peak = NAN},
        {.kind = SCHEDULE_CONSTANT, .peak = INFINITY},
        {.kind = SCHEDULE_CONSTANT, .peak = 1, .warmup = -1},
        {.kind = SCHEDULE_LINEAR, .peak = 1, .minimum = 1.5, .steps = 10},
        {.kind = SCHEDULE_LINEAR, .peak = 1, .minimum = NAN, .steps = 10},
        {.kind = SCHEDULE_COSINE, .peak = 1},
        {.kind = SCHEDULE_COSINE, .peak = 1, .steps = 10, .warmup = 11},
        {.kind = SCHEDULE_WSD, .peak = 1, .steps = 10, .warmup = 6, .decay = 5},
        {.kind = SCHEDULE_WSD, .peak = 1, .steps = 10, .decay = -1},
        {.kind = SCHEDULE_WSD_SQRT, .peak = 1, .steps = 10, .decay = INT64_MAX},
    };
    struct tlm_error err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(schedule_check(&bad[i], &err) == TLM_ERR_ARGUMENT, "schedule %zu was taken", i);
}
END_TEST

Suite *suite_schedule(void)
{
    Suite *s = suite_create("schedule");
    TCase *t = tcase_create("schedule");
    tcase_add_test(t, test_constant);
    tcase_add_test(t, test_linear);
    tcase_add_test(t, test_cosine);
    tcase_add_test(t, test_stable);
    tcase_add_test(t, test_refused);
    suite_add_tcase(s, t);
    return s;
}
