// tests/test_cuda_persistent.c -- a step as one launch that stays has the bits of the step as launches, and mistakes among its tasks show.
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda_emu/control.h"
#include "tests/gpu/llama_step.h"
#include "tests/kernels.h"
#include "tests/tests.h"

enum { BLOCKS = 5, PROCESSORS = 3, AHEAD = 1000 };

#define SMALL .width = 64, .inner = 72, .heads = 4, .kv_heads = 2, .d = 32, .vocab = 43, .splits = 3
#define LARGE .width = 256, .inner = 256, .heads = 4, .kv_heads = 2, .d = 64, .vocab = 9, .splits = 4
static const struct llama_sizes cases[] = {
    {SMALL, .type = DTYPE_BF16, .down = DTYPE_BF16, .layers = 2, .keys = 137, .rows = 1, .used = 1},
    {SMALL, .type = DTYPE_BF16, .down = DTYPE_BF16, .layers = 2, .keys = 65, .rows = 2, .used = 2},
    {SMALL, .type = DTYPE_BF16, .down = DTYPE_BF16, .layers = 1, .keys = 20, .rows = 2, .used = 0},
    {LARGE, .type = DTYPE_Q8_0, .down = DTYPE_Q8_0, .layers = 1, .keys = 70, .rows = 2, .used = 1},
    {LARGE, .type = DTYPE_Q8_0, .down = DTYPE_Q8_0, .layers = 1, .keys = 67, .rows = 2, .used = 2,
     .apart = true},
    {LARGE, .type = DTYPE_Q4_K, .down = DTYPE_Q6_K, .layers = 1, .keys = 31, .rows = 1, .used = 1},
};
enum { CASES = sizeof cases / sizeof *cases };

// What the launches have made of the step, and the cache in front of it.
struct expected {
    char *logits, *cache, *before;
    size_t logit_bytes;
};

static void forget_results(struct llama_step *s, const struct expected *e)
{
    memset(s->activations, 0xff, s->activation_bytes); // NaNs
    memcpy(s->cache, e->before, s->cache_bytes);
}

static char *copy_of(const void *from, size_t bytes)
{
    char *copy = malloc(bytes);
    ck_assert_ptr_nonnull(copy);
    return memcpy(copy, from, bytes);
}

static struct expected launches_of(struct llama_step *s)
{
    struct expected e = {.before = copy_of(s->cache, s->cache_bytes)};
    e.logit_bytes = (size_t)(s->sizes.rows * s->sizes.vocab) * sizeof(float);
    persistent_launches(NULL, s->tasks, s->step.count, PROCESSORS);
    ck_assert_msg(!emu_error(), "%s", emu_error());
    e.logits = copy_of(s->logits, e.logit_bytes);
    e.cache = copy_of(s->cache, s->cache_bytes);
    return e;
}

static void free_expected(struct expected *e)
{
    free(e->logits), free(e->cache), free(e->before);
}

// A device may round a product and a sum together in one kernel and apart in the other.
static bool is_same(const struct llama_step *s, const struct expected *e)
{
    const int64_t count = (int64_t)(e->logit_bytes / sizeof(float));
    if (emu_here())
        return !memcmp(s->logits, e->logits, e->logit_bytes) && !memcmp(s->cache, e->cache, s->cache_bytes);
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < s->sizes.used * count / s->sizes.rows; i++) {
        const double a = (double)s->logits[i], b = (double)((const float *)e->logits)[i];
        difference += (a - b) * (a - b), norm += b * b;
    }
    return difference <= 1e-6 * norm;
}

// Three steps by the same counters, in three orders.
START_TEST(test_steps)
{
    struct llama_step s;
    llama_step_open(&s, &cases[_i], BLOCKS, AHEAD);
    struct expected e = launches_of(&s);
    for (int order = 0; order < EMU_ORDERS; order++) {
        forget_results(&s, &e);
        emu_set_order((enum emu_order)order, (uint64_t)_i);
        ck_assert(persistent_run(NULL, &s.step, BLOCKS));
        ck_assert_msg(!emu_error(), "%s", emu_error());
        ck_assert_msg(is_same(&s, &e), "case %d in order %d: other numbers than those of the launches", _i,
                      order);
        for (int32_t i = 0; i <= s.step.count; i++) ck_assert_uint_eq(s.step.counters[i], 0);
    }
    free_expected(&e);
    llama_step_close(&s);
}
END_TEST

// ---- mistakes -----------------------------------------------------------------------------------------

static void no_wait(struct llama_step *s, int32_t task)
{
    s->tasks[task].target = 0;
}

static void too_early(struct llama_step *s, int32_t task)
{
    s->tasks[task].target--;
}

static void left_over(struct llama_step *s, int32_t task)
{
    s->step.counters[s->tasks[task].wait] = 1;
}

static void circle(struct llama_step *s, int32_t task)
{
    s->tasks[task].wait = task + 1;
}

static const struct {
    const char *name;
    void (*plant)(struct llama_step *s, int32_t task);
    const char *text; // of the error; NULL: other numbers, in some order
} mistakes[] = {
    {"a task that does not wait", no_wait, NULL},
    {"a task that waits for all blocks but one", too_early, NULL},
    {"a counter that the step in front has left", left_over, NULL},
    {"a task that waits for one behind it", circle, "nobody can raise it"},
};
enum { MISTAKES = sizeof mistakes / sizeof *mistakes };

START_TEST(test_mistakes)
{
    static const struct llama_sizes sizes = {SMALL,      .type = DTYPE_BF16, .down = DTYPE_BF16, .layers = 1,
                                             .keys = 20, .rows = 1,          .used = 1};
    struct llama_step s;
    llama_step_open(&s, &sizes, BLOCKS, AHEAD);
    struct expected e = launches_of(&s);
    const struct persistent_task *right =
        (const void *)copy_of(s.tasks, (size_t)s.step.count * sizeof *right);
    for (int32_t task = 1; task < s.step.count; task++) {
        bool seen = false;
        for (int order = 0; order < EMU_ORDERS && !seen; order++) {
            memcpy(s.tasks, right, (size_t)s.step.count * sizeof *right);
            memset(s.step.counters, 0, ((size_t)s.step.count + 1) * sizeof *s.step.counters);
            mistakes[_i].plant(&s, task);
            llama_step_send(&s);
            forget_results(&s, &e);
            emu_set_order((enum emu_order)order, (uint64_t)task);
            ck_assert(persistent_run(NULL, &s.step, BLOCKS));
            const char *text = emu_error();
            if (mistakes[_i].text)
                seen = text && strstr(text, mistakes[_i].text);
            else
                seen = !text && !is_same(&s, &e);
            ck_assert_msg(!text || seen, "%s: %s", mistakes[_i].name, text);
            emu_forget();
        }
        const bool last = task + 1 == s.step.count; // nobody is behind it
        ck_assert_msg(seen || (last && mistakes[_i].plant == circle), "%s, task %d: not seen",
                      mistakes[_i].name, (int)task);
    }
    free((void *)right);
    free_expected(&e);
    llama_step_close(&s);
}
END_TEST

Suite *suite_cuda_persistent(void)
{
    Suite *s = suite_create("cuda_persistent");
    TCase *t = tcase_create("cuda_persistent");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_steps, 0, CASES);
    if (emu_here()) tcase_add_loop_test(t, test_mistakes, 0, MISTAKES); // a device would wait forever
    suite_add_tcase(s, t);
    return s;
}
