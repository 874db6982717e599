// tests/test_config.c -- config files: every key, values that are awkward to write, and what each mistake is answered with.
#include <string.h>

#include "core/file.h"
#include "core/rng.h"
#include "models/create.h"
#include "tests/alloc.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"
#include "train/config.h"
#include "train/config_keys.h"

static struct train_config config;

static void setup(void)
{
    struct tlm_error err;
    ck_assert_msg(!train_config_init(&config, &err), "%s", err.text);
}

static void teardown(void)
{
    train_config_free(&config);
}

static void parse(const char *text)
{
    struct tlm_error err;
    ck_assert_msg(!train_config_parse(&config, "run.ini", text, strlen(text), &err), "%s", err.text);
}

static void set(const char *assignment)
{
    struct tlm_error err;
    ck_assert_msg(!train_config_set(&config, assignment, &err), "%s", err.text);
}

static const char *pair(const char *key)
{
    for (size_t i = 0; i < config.model.pair_count; i++)
        if (!strcmp(config.model.pairs[i].key, key)) return config.model.pairs[i].value;
    return NULL;
}

START_TEST(defaults_are_whole)
{
    ck_assert_ptr_null(config.model.arch);
    ck_assert_uint_eq(config.data.train.count, 0);
    ck_assert_int_eq(config.train.batch_tokens, 16384);
    ck_assert_double_eq(config.train.epochs, 1);
    ck_assert_int_eq(config.train.recompute, CONFIG_RECOMPUTE_AUTO);
    ck_assert_double_eq(config.optimizer.beta2, 0.95);
    ck_assert_double_eq(config.optimizer.eps, 1e-8);
    ck_assert_int_eq(config.schedule.kind, SCHEDULE_COSINE);
    ck_assert_str_eq(config.checkpoint.dir, "run");
}
END_TEST

START_TEST(a_file_is_read)
{
    parse("; a run\n"
          "[model]\n"
          "arch = llama ; of Meta\n"
          "tokenizer=vocab.gguf\n"
          "layers = 8\n"
          "attention.scale: 0.1\n"
          "# another comment\n"
          "\n"
          "[data]\n"
          "train = a.gguf b.gguf\n"
          "    \"with blank.txt\"\n"
          "val =\n"
          "[train]\r\n"
          "  steps = 1e3\r\n"
          "precision = bf16\n"
          "seed = 18446744073709551615\n"
          "dropout = .2\n"
          "sample_prompt = Once upon\n"
          "    a time\n"
          "[optimizer]\n"
          "kind = lion\n"
          "state = q8\n"
          "[log]\n"
          "on_end = echo \"done\" > done.txt");
    ck_assert_str_eq(config.model.arch, "llama");
    ck_assert_str_eq(pair("layers"), "8");
    ck_assert_str_eq(pair("attention.scale"), "0.1");
    ck_assert_uint_eq(config.data.train.count, 3);
    ck_assert_str_eq(config.data.train.items[1], "b.gguf");
    ck_assert_str_eq(config.data.train.items[2], "with blank.txt");
    ck_assert_uint_eq(config.data.val.count, 0);
    ck_assert_int_eq(config.train.steps, 1000);
    ck_assert_double_eq(config.train.epochs, 0); // steps took its place
    ck_assert_int_eq(config.train.precision, CONFIG_BF16);
    ck_assert_uint_eq(config.train.seed, UINT64_MAX);
    ck_assert_double_eq(config.train.dropout, 0.2);
    ck_assert_str_eq(config.train.sample_prompt, "Once upon a time");
    ck_assert_int_eq(config.optimizer.kind, OPTIMIZER_LION);
    ck_assert_int_eq(config.optimizer.state, CONFIG_STATE_Q8);
    ck_assert_str_eq(config.log.on_end, "echo \"done\" > done.txt");
    ck_assert_int_eq(train_config_check(&config, NULL), TLM_OK);
}
END_TEST

START_TEST(quotes_keep_what_lines_would_lose)
{
    parse("[train]\nsample_prompt = \" a\\n\\tb \\; \\\"c\\\" \\\\ \\x01 \"\n[log]\non_start = a \\\n  b\\\n "
          " c");
    ck_assert_str_eq(config.train.sample_prompt, " a\n\tb ; \"c\" \\ \x01 ");
    ck_assert_str_eq(config.log.on_start, "a bc");
}
END_TEST

START_TEST(the_command_line_changes_keys)
{
    parse("[model]\narch = llama\nlayers = 8\n[train]\nsteps = 10\n");
    set("lr=3e-4");
    set("optimizer.kind=muon");
    set("layers=4");
    set("model.attention.scale=0.5");
    set("model.context=128");
    set("train.tokens=1e6");
    set("sample_prompt= It ");
    set("data.train=a b");
    ck_assert_double_eq(config.optimizer.lr, 3e-4);
    ck_assert_int_eq(config.optimizer.kind, OPTIMIZER_MUON);
    ck_assert_str_eq(pair("layers"), "4");
    ck_assert_uint_eq(config.model.pair_count, 3);
    ck_assert_str_eq(pair("context"), "128");
    ck_assert_int_eq(config.train.steps, 0);
    ck_assert_int_eq(config.train.tokens, 1000000);
    ck_assert_str_eq(config.train.sample_prompt, " It ");
    ck_assert_uint_eq(config.data.train.count, 2);

    set("init=old.gguf"); // in place of a new model, and back
    ck_assert_ptr_null(config.model.arch);
    ck_assert_uint_eq(config.model.pair_count, 0);
    set("arch=gpt2");
    ck_assert_ptr_null(config.model.init);
}
END_TEST

static const struct {
    const char *text, *message;
} mistakes[] = {
    {"[train]\nsteps = many", "run.ini:2: train.steps: expected a whole number of at least 0, found 'many'"},
    {"[train]\nsteps = 1.5", "run.ini:2: train.steps: expected a whole number of at least 0, found '1.5'"},
    {"[train]\nsteps = -1", "run.ini:2: train.steps: expected a whole number of at least 0, found '-1'"},
    {"[train]\nsteps =", "run.ini:2: train.steps: expected a whole number of at least 0, found ''"},
    {"[train]\nsteps = 1e18", "run.ini:2: train.steps: expected a whole number of at least 0, found '1e18'"},
    {"[train]\ndropout = 1", "run.ini:2: train.dropout: expected a number from 0 to 0.95, found '1'"},
    {"[train]\ndropout = nan", "run.ini:2: train.dropout: expected a number from 0 to 0.95, found 'nan'"},
    {"[train]\ndropout = 0x1p-2", "found '0x1p-2'"},
    {"[train]\nseed = -1", "run.ini:2: train.seed: expected a whole number from 0 to 2^64 - 1, found '-1'"},
    {"[train]\nseed = 18446744073709551616", "found '18446744073709551616'"},
    {"\n\n[optimizer]\nkind = adam",
     "run.ini:4: optimizer.kind: expected one of adamw, lion, muon, sgd, found 'adam'"},
    {"[optimizer]\nweight_deacy = 1", "run.ini:2: optimizer.weight_deacy: expected a key of [optimizer]; the "
                                      "nearest is optimizer.weight_decay"},
    {"[optimizer]\nsteps = 1",
     "run.ini:2: optimizer.steps: expected a key of [optimizer]; the nearest is train.steps"},
    {"[optimizer]\nzzzzzzzz = 1", "run.ini:2: optimizer.zzzzzzzz: expected a key of [optimizer]"},
    {"[model]\nlayer = 1",
     "run.ini:2: model.layer: expected a key of [model] or, with a dot in it, a GGUF key; the nearest is "
     "model.layers"},
    {"[model]\na b.c = 1", "run.ini:2: model.a b.c: expected a key of [model]"},
    {"[optimiser]\nlr = 1",
     "run.ini:2: [optimiser]: expected [model], [data], [train], [optimizer], [schedule], "
     "[checkpoint] or [log]; the nearest is optimizer"},
    {"lr = 1", "run.ini:1: []: expected [model]"},
    {"[train]\nsteps = 1\nseed = 2\nsteps = 3",
     "run.ini:4: train.steps: expected it once, found it in line 2 already"},
    {"[model]\nlayers = 1\nlayers = 1",
     "run.ini:3: model.layers: expected it once, found it in line 2 already"},
    {"[train]\nnothing", "run.ini:2: expected [section] or key = value, found something else"},
    {"[train\n", "run.ini:1: expected [section] or key = value, found something else"},
    {"[train]\nsample_prompt = \"a ; b\"",
     "run.ini:2: train.sample_prompt: expected text with a closing quote"},
    {"[train]\nsample_prompt = \"a\" b",
     "run.ini:2: train.sample_prompt: expected nothing behind the closing quote"},
    {"[train]\nsample_prompt = \"\\q\"", "run.ini:2: train.sample_prompt: expected one of \\n"},
    {"[data]\ntrain = \"a\"b", "run.ini:2: data.train: expected a blank behind the closing quote"},
    {"[model]\nlayers = \"8", "run.ini:2: model.layers: expected text with a closing quote"},
};

START_TEST(mistakes_are_named)
{
    struct tlm_error err = {0};
    const char *text = mistakes[_i].text;
    ck_assert_int_eq(train_config_parse(&config, "run.ini", text, strlen(text), &err), TLM_ERR_FORMAT);
    ck_assert_msg(strstr(err.text, mistakes[_i].message) == err.text ||
                      (*mistakes[_i].message == 'f' && strstr(err.text, mistakes[_i].message)),
                  "%s", err.text);
}
END_TEST

START_TEST(lines_have_a_length)
{
    char text[400];
    struct tlm_error err = {0};
    snprintf(text, sizeof text, "[log]\non_end = %0300d\n", 0);
    ck_assert_int_eq(train_config_parse(&config, "run.ini", text, strlen(text), &err), TLM_ERR_FORMAT);
    ck_assert_msg(strstr(err.text, "run.ini:2: expected at most 199 bytes a line") != NULL, "%s", err.text);
    ck_assert_int_eq(train_config_parse(&config, "run.ini", "[log]\n\0", 7, &err), TLM_ERR_FORMAT);
    ck_assert_str_eq(err.text, "run.ini:2: expected text, found a zero byte");
}
END_TEST

static const struct {
    const char *assignment, *message;
} wrong_assignments[] = {
    {"lr", "expected key=value, found 'lr'"},
    {"=3", "expected key=value, found '=3'"},
    {"kind=sgd", "expected optimizer.kind or schedule.kind, found 'kind' alone"},
    {"context=64", "expected model.context or data.context, found 'context' alone"},
    {"optimzer.lr=1", "expected a key of the config, found 'optimzer.lr'; the nearest is optimizer.lr"},
    {"attention.scale=1", "expected a key of the config, found 'attention.scale'; the nearest is "
                          "optimizer.state"}, // model.attention.scale
    {"learning_rate=1", "expected a key of the config, found 'learning_rate'"},
    {"warm_up=1", "expected a key of the config, found 'warm_up'; the nearest is schedule.warmup"},
    {"train.lr=1", "train.lr: expected a key of [train]; the nearest is optimizer.lr"},
    {"optimizer.lr=-1", "optimizer.lr: expected a number from 0 to 100, found '-1'"},
    {"model.attention.scale.=1",
     "model.attention.scale.: expected a key of [model] or, with a dot in it, a GGUF key"},
    {"lr=\x1b[2J", "optimizer.lr: expected a number from 0 to 100, found '\\x1b[2J'"},
};

START_TEST(wrong_assignments_are_named)
{
    struct tlm_error err = {0};
    ck_assert_int_eq(train_config_set(&config, wrong_assignments[_i].assignment, &err), TLM_ERR_ARGUMENT);
    ck_assert_str_eq(err.text, wrong_assignments[_i].message);
    ck_assert_double_eq(config.optimizer.lr, 0.001);
}
END_TEST

static const struct {
    const char *text, *message;
} wrong_wholes[] = {
    {"[train]\nsteps=1\ntokens=1", "train: expected one of steps, tokens and epochs above 0, found several"},
    {"[train]\nepochs=0", "train: expected one of steps, tokens and epochs above 0, found none"},
    {"[model]\narch=llama\ntokenizer=t", "data.train: expected files to train on, found none"},
    {"[data]\ntrain=a\n[model]\ntokenizer=t", "model: expected init = FILE, or arch = NAME"},
    {"[data]\ntrain=a\n[model]\narch=gpt2", "model.tokenizer: expected a GGUF file"},
    {"[data]\ntrain=a\n[model]\ninit=m\nlayers=2",
     "model.init: expected no other key of [model] beside it, found model.layers"},
    {"[data]\ntrain=a\n[model]\ninit=m\n[train]\nsteps=10\n[schedule]\nwarmup=11",
     "schedule.warmup: expected at most the 10 steps, found 11"},
    {"[data]\ntrain=a\n[model]\narch=gpt2\ntokenizer=t\n[train]\ndistill=0.5",
     "train.distill: expected a train.teacher for a new model, found none"},
    {"[data]\ntrain=a\n[model]\ninit=m\n[train]\nteacher=t",
     "train.teacher: expected a train.distill above 0 beside it, found 0"},
    {"[data]\ntrain=a\n[model]\ninit=m\n[train]\nearly_stop=3",
     "train.early_stop: expected 0 without data.val"},
};

START_TEST(what_does_not_fit_together_is_named)
{
    struct tlm_error err = {0};
    parse(wrong_wholes[_i].text);
    ck_assert_int_eq(train_config_check(&config, &err), TLM_ERR_ARGUMENT);
    ck_assert_msg(strstr(err.text, wrong_wholes[_i].message) == err.text, "%s", err.text);
}
END_TEST

// Writes the config, reads that, and expects the same text.
static void expect_round_trip(void)
{
    struct train_config again;
    struct tlm_error err;
    char *text, *second;
    ck_assert_msg(!train_config_text(&config, &text, &err), "%s", err.text);
    ck_assert_msg(!train_config_init(&again, &err), "%s", err.text);
    ck_assert_msg(!train_config_parse(&again, "text", text, strlen(text), &err), "%s\n%s", err.text, text);
    ck_assert_msg(!train_config_text(&again, &second, &err), "%s", err.text);
    ck_assert_str_eq(text, second);
    if (config.train.sample_prompt)
        ck_assert_str_eq(config.train.sample_prompt, again.train.sample_prompt);
    else
        ck_assert_ptr_null(again.train.sample_prompt);
    ck_assert_uint_eq(config.data.train.count, again.data.train.count);
    for (size_t i = 0; i < config.data.train.count; i++)
        ck_assert_str_eq(config.data.train.items[i], again.data.train.items[i]);
    train_config_free(&again);
    free(text);
    free(second);
}

START_TEST(written_configs_read_back)
{
    expect_round_trip();
    parse("[model]\narch = gpt2\nwidth = 64\nattention.scale = \" a;b\"\n[train]\ntokens = 5e6\n[optimizer]\n"
          "lr = 0.1\neps = 1.2345678901234567e-9\n[checkpoint]\ndir =\n");
    expect_round_trip();
    ck_assert_ptr_null(config.checkpoint.dir);
}
END_TEST

// Texts and paths of random length from the characters that lines, quotes and comments make something of.
START_TEST(awkward_text_reads_back)
{
    static const char *const alphabet[] = {"a",  " ",  " ", ";", "#",    "\"", "\\",
                                           "\n", "\t", "=", "[", "\x01", "ä",  "\xff"};
    for (int n = 0; n < 300; n++) {
        char prompt[1500] = "sample_prompt=", files[1500] = "data.train=";
        uint64_t length = n < 200 ? (uint64_t)n % 12 : (uint64_t)(4 * (n - 200));
        for (uint64_t i = 0; i < length; i++) {
            uint32_t r[4];
            rng_philox(1, (uint64_t)n, i, r);
            strcat(prompt, alphabet[r[0] % 14]);
            strcat(files, r[1] % 9 ? "f" : r[1] % 2 ? " " : "#");
        }
        struct tlm_error err;
        bool quoted = prompt[14] == '"'; // read as quoted text then, which mostly is not whole
        if (train_config_set(&config, prompt, &err)) ck_assert_msg(quoted, "%s", err.text);
        set(files);
        expect_round_trip();
    }
}
END_TEST

START_TEST(configs_are_written_whole)
{
    struct temp_folder folder = temp_folder_open();
    struct temp_path path = temp_path(&folder, "run.ini"), nowhere = temp_path(&folder, "none/run.ini");
    struct tlm_error err = {0};
    set("data.train=a b");
    ck_assert_msg(!train_config_write(&config, path.text, &err), "%s", err.text);
    ck_assert_int_eq(train_config_write(&config, nowhere.text, &err), TLM_ERR_IO);
    set("data.train=c");
    ck_assert_msg(!train_config_read(&config, path.text, &err), "%s", err.text);
    ck_assert_uint_eq(config.data.train.count, 2);
    ck_assert_int_eq(train_config_read(&config, nowhere.text, &err), TLM_ERR_IO);
    ck_assert_int_eq(temp_folder_close(&folder), 1);
}
END_TEST

START_TEST(help_has_every_key)
{
    char *text, line[96];
    struct tlm_error err;
    ck_assert_msg(!train_config_help(&text, 80, &err), "%s", err.text);
    for (int i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *k = &config_keys[i];
        snprintf(line, sizeof line, "\n  %s =%s%s ", k->name, *k->fallback ? " " : "", k->fallback);
        ck_assert_msg(strstr(text, line) != NULL, "%s.%s", k->section, k->name);
    }
    for (size_t i = 0; i < create_key_count; i++) {
        snprintf(line, sizeof line, "\n  %s = ", create_keys[i].name);
        ck_assert_msg(strstr(text, line) != NULL, "%s", create_keys[i].name);
    }
    for (char *at = text; *at; at += strcspn(at, "\n") + 1) ck_assert_uint_le(strcspn(at, "\n"), 80);
    free(text);
}
END_TEST

// Every allocation fails once: an error that says so, and nothing lost or freed twice (a sanitizer looks).
START_TEST(memory_runs_out)
{
    static const char text[] =
        "[model]\narch = a\nlayers = 1\n[data]\ntrain = a \\\n  b\n[log]\non_end = c\n";
    for (long n = 0; n < 200; n++) {
        struct train_config c = {0};
        struct tlm_error err = {0};
        char *written = NULL;
        alloc_fail_after(n);
        enum tlm_status s = train_config_init(&c, &err);
        if (!s) s = train_config_parse(&c, "run.ini", text, sizeof text - 1, &err);
        if (!s) s = train_config_set(&c, "model.width=3", &err);
        if (!s) s = train_config_text(&c, &written, &err);
        alloc_fail_after(-1);
        free(written);
        train_config_free(&c);
        if (!s) return;
        ck_assert_int_eq(s, TLM_ERR_MEMORY);
        ck_assert_msg(strstr(err.text, "no memory") != NULL, "%s", err.text);
    }
    ck_abort_msg("it never succeeded");
}
END_TEST

START_TEST(any_bytes_are_read_or_refused)
{
    static const char seed[] =
        "[model]\narch = llama\nlayers = 8\nattention.scale = \"0.1\"\n[data]\ntrain = a \"b c\"\n"
        "   d \\\n  e\n[train]\nsteps = 10\nsample_prompt = \"x\\n\\;\"\n[log]\non_end = y ; z\n";
    for (uint64_t n = 0; n < 3000; n++) {
        uint8_t mutant[sizeof seed];
        memcpy(mutant, seed, sizeof seed);
        for (uint64_t i = 0; i < 1 + n % 4; i++) {
            uint32_t r[4];
            rng_philox(2, n, i, r);
            mutant[r[0] % (sizeof seed - 1)] =
                r[1] % 2 ? (uint8_t)seed[r[2] % (sizeof seed - 1)] : (uint8_t)r[2];
        }
        fuzz_config(mutant, sizeof seed - 1);
    }
}
END_TEST

#define TESTS(table) (int)(sizeof table / sizeof *table)

Suite *suite_config(void)
{
    Suite *s = suite_create("config");
    TCase *t = tcase_create("config");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, defaults_are_whole);
    tcase_add_test(t, a_file_is_read);
    tcase_add_test(t, quotes_keep_what_lines_would_lose);
    tcase_add_test(t, the_command_line_changes_keys);
    tcase_add_loop_test(t, mistakes_are_named, 0, TESTS(mistakes));
    tcase_add_test(t, lines_have_a_length);
    tcase_add_loop_test(t, wrong_assignments_are_named, 0, TESTS(wrong_assignments));
    tcase_add_loop_test(t, what_does_not_fit_together_is_named, 0, TESTS(wrong_wholes));
    tcase_add_test(t, written_configs_read_back);
    tcase_add_test(t, awkward_text_reads_back);
    tcase_add_test(t, configs_are_written_whole);
    tcase_add_test(t, help_has_every_key);
    tcase_add_test(t, memory_runs_out);
    tcase_add_test(t, any_bytes_are_read_or_refused);
    suite_add_tcase(s, t);
    return s;
}
