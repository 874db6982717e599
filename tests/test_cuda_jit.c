// Kernels that are made for the sizes of a matrix: the same results, and the files that they are kept in.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cuda/fused.h"
#include "cuda/jit.h"
#include "cuda/kernel_cache.h"
#include "tests/cuda_kernels.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

// ---- a folder, and the kernels in it ------------------------------------------------------------------

static struct temp_folder base;
static char folder[300]; // in it, made with the first file

static void make_folder(void)
{
    base = temp_folder_open();
    snprintf(folder, sizeof folder, "%s/a/b", base.path);
}

// Names of the folder's files; returns how many.
static int list_files(struct temp_path *paths, int room)
{
    DIR *d = opendir(folder);
    int count = 0;
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d))
        if (e->d_name[0] != '.' && count < room)
            snprintf(paths[count++].text, sizeof paths->text, "%.200s/%.250s", folder, e->d_name);
    if (d) closedir(d);
    return count;
}

static void remove_folder(void)
{
    struct temp_path paths[8];
    for (int i = list_files(paths, 8); i-- > 0;) unlink(paths[i].text);
    rmdir(folder);
    temp_folder_close(&base);
}

static struct temp_path one_file(void)
{
    struct temp_path path[2];
    ck_assert_int_eq(list_files(path, 2), 1);
    return path[0];
}

struct maker {
    struct jit *jit;
    char note[288];
    struct cuda_stream *stream;
};

static void open_maker(struct maker *m)
{
    struct cuda_device d;
    struct tlm_error err;
    ck_assert_msg(!cuda_open(&d, 0, &err), "%s", err.text);
    *m->note = '\0';
    ck_assert_ptr_nonnull(m->jit = jit_open(&d, folder, m->note, sizeof m->note));
    m->stream = cuda_stream_open();
}

static struct jit_counts close_maker(struct maker *m)
{
    const struct jit_counts c = jit_counts(m->jit);
    jit_close(m->jit);
    cuda_stream_close(m->stream);
    return c;
}

// ---- products -----------------------------------------------------------------------------------------

enum { OUTPUTS = 5 };

// (outputs, k) of BF16 or Q4_K, on the device
static struct cuda_matrix random_matrix(enum dtype type, int64_t outputs, int64_t k, uint64_t stream)
{
    const bool plain = type == DTYPE_BF16;
    struct cuda_matrix w = {.type = type, .outputs = outputs, .inputs = k};
    w.code_stride = (size_t)(plain ? 2 * k : k / 2), w.scale_stride = (size_t)(plain ? 0 : k / 256 * 16);
    const size_t code_bytes = (size_t)outputs * w.code_stride, scale_bytes = (size_t)outputs * w.scale_stride;
    uint8_t *codes = device(NULL, code_bytes), *scales = device(NULL, scale_bytes + 16);
    for (size_t i = 0; i < code_bytes; i++) codes[i] = (uint8_t)(int)(128 + 127 * random_signed(stream, i));
    for (size_t i = 0; i < scale_bytes; i++) scales[i] = i % 16 < 4 ? 0x2c : (uint8_t)(i * 37);
    for (int64_t i = 0; plain && i < outputs * k; i++)
        ((uint16_t *)(void *)codes)[i] = bf16_from_f32(random_signed(stream, (uint64_t)i));
    w.codes = codes, w.scales = scales;
    return w;
}

static void take(const struct maker *m, float *y, const float *from, int64_t used, int64_t most)
{
    struct tlm_error err;
    ck_assert_msg(!cuda_sync(m->stream, &err), "%s", err.text);
    memcpy(y, from, (size_t)used * sizeof *y);
    for (int64_t i = used; i < most; i++) ck_assert(isnan(from[i]));
}

// y (used, OUTPUTS) = x w^T, with kernels of `jit`, or the program's own.
static void multiply(const struct maker *m, struct jit *jit, float *y, enum dtype type, int64_t k,
                     int32_t used, int64_t most)
{
    struct cuda_matrix w = random_matrix(type, OUTPUTS, k, 1);
    w.jit = jit;
    float *x = random_device(NULL, most * k, 3, 2), *to = empty_device(most * OUTPUTS);
    void *converted = device(NULL, (size_t)(most * k) * 4);
    const struct cuda_rows rows = some_rows(used, most);
    cuda_convert(m->stream, converted, type == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_Q8_1, x, rows, k);
    cuda_matmul(m->stream, to, converted, &w, rows);
    take(m, y, to, used * OUTPUTS, most * OUTPUTS);
    done();
}

// With the maker's kernel, and that of the program: the same.
static void try_product(const struct maker *m, enum dtype type, int64_t k, int32_t used, int64_t most)
{
    float made[8 * OUTPUTS], own[8 * OUTPUTS];
    double oracle[8 * OUTPUTS];
    multiply(m, m->jit, made, type, k, used, most);
    multiply(m, NULL, own, type, k, used, most);
    for (int i = 0; i < used * OUTPUTS; i++) oracle[i] = own[i];
    ck_assert_msg(agrees(made, oracle, used * OUTPUTS, 1e-6), "%s, %d inputs", dtype_traits[type].name,
                  (int)k);
}

static void try_one(const struct maker *m)
{
    try_product(m, DTYPE_BF16, 320, 1, 2);
}

// What measuring said becomes that the kernel is the faster one.
static void prefer(const char *path)
{
    struct kernel_file f;
    ck_assert(!kernel_cache_read(&f, path, NULL));
    char *name = strdup(f.name), *cubin = malloc(f.size);
    memcpy(cubin, f.cubin, f.size);
    const size_t size = f.size;
    kernel_cache_close(&f);
    ck_assert(!kernel_cache_write(path, name, cubin, size, true, NULL));
    free(name), free(cubin);
}

static bool has_compiler(const struct maker *m)
{
    return !strstr(m->note, "no libnvrtc");
}

// ---- tests --------------------------------------------------------------------------------------------

START_TEST(test_made_once)
{
    make_folder();
    struct maker m;
    open_maker(&m);
    for (int i = 0; i < 3; i++) try_one(&m);
    const bool there = has_compiler(&m);
    struct jit_counts c = close_maker(&m);
    if (there) {
        ck_assert_int_eq(c.compiled, 1);
        ck_assert_int_eq(c.found, 0);
        prefer(one_file().text);
        open_maker(&m);
        for (int i = 0; i < 3; i++) try_one(&m);
        c = close_maker(&m);
        ck_assert_int_eq(c.compiled, 0);
        ck_assert_int_eq(c.found, 1);
        ck_assert_int_eq(c.chosen, 1);
    }
    remove_folder();
}
END_TEST

// Kernels with constants give what those without do.
START_TEST(test_made_results)
{
    static const struct {
        enum dtype type;
        int64_t k, most;
    } cases[] = {{DTYPE_BF16, 320, 8}, {DTYPE_BF16, 320, 2}, {DTYPE_Q4_K, 1280, 2}};
    make_folder();
    for (int pass = 0; pass < 2; pass++) {
        struct maker m;
        open_maker(&m);
        for (int i = 0; i < 3; i++)
            for (int32_t used = 1; used <= cases[i].most; used++)
                try_product(&m, cases[i].type, cases[i].k, used, cases[i].most);
        const struct jit_counts c = close_maker(&m);
        struct temp_path paths[8];
        const int files = list_files(paths, 8);
        if (!pass)
            for (int i = 0; i < files; i++) prefer(paths[i].text);
        else
            ck_assert_int_eq(c.chosen, files);
    }
    remove_folder();
}
END_TEST

enum { FUSED_OUTPUTS = 24 };

// A norm and two matrices behind it: of queries and keys in BF16, or gate and up in Q4_K. y: of the first
static void multiply_fused(const struct maker *m, struct jit *jit, float *y, bool gated, int32_t used)
{
    const int64_t k = gated ? 1280 : 320, outputs[2] = {FUSED_OUTPUTS, gated ? FUSED_OUTPUTS : 8};
    struct cuda_fused_product p = {.rows = some_rows(used, 2), .eps = 1e-5f, .factor = 1, .jit = jit};
    struct cuda_matrix w[2];
    for (int i = 0; i < 2; i++) {
        w[i] = random_matrix(gated ? DTYPE_Q4_K : DTYPE_BF16, outputs[i], k, 1 + (uint64_t)i);
        p.part[i] = (struct cuda_fused_part){w[i].codes, w[i].scales, NULL, empty_device(2 * outputs[i])};
    }
    p.shape = cuda_fused_shape_of(&w[0]);
    p.shape.parts = 2, p.shape.norm = FUSED_RMSNORM, p.shape.gated = gated;
    for (int i = 0; i < 2; i++) p.shape.outputs[i] = (int32_t)outputs[i];
    p.x = random_device(NULL, 2 * k, 3, 2), p.norm_w = random_device(NULL, k, 4, 1);
    cuda_fused_product(m->stream, &p, 3);
    take(m, y, p.part[0].y, used * FUSED_OUTPUTS, 2 * FUSED_OUTPUTS);
    done();
}

START_TEST(test_made_fused)
{
    make_folder();
    for (int pass = 0; pass < 2; pass++) {
        struct maker m;
        open_maker(&m);
        for (int i = 0; i < 4; i++) {
            float made[2 * FUSED_OUTPUTS], own[2 * FUSED_OUTPUTS];
            double oracle[2 * FUSED_OUTPUTS];
            const int32_t used = 1 + i / 2;
            multiply_fused(&m, m.jit, made, i % 2, used);
            multiply_fused(&m, NULL, own, i % 2, used);
            for (int j = 0; j < used * FUSED_OUTPUTS; j++) oracle[j] = own[j];
            ck_assert(agrees(made, oracle, used * FUSED_OUTPUTS, 1e-5));
        }
        const bool there = has_compiler(&m);
        const struct jit_counts c = close_maker(&m);
        struct temp_path paths[8];
        const int files = list_files(paths, 8);
        ck_assert_int_eq(files, there ? 2 : 0);
        for (int i = 0; i < files && !pass; i++) prefer(paths[i].text);
        if (pass) ck_assert_int_eq(c.chosen, files);
    }
    remove_folder();
}
END_TEST

START_TEST(test_damaged)
{
    make_folder();
    struct maker m;
    open_maker(&m);
    try_one(&m);
    const bool there = has_compiler(&m);
    close_maker(&m);
    for (int damage = 0; damage < 4 && there; damage++) {
        const struct temp_path path = one_file();
        struct stat st;
        ck_assert(!stat(path.text, &st));
        const off_t at[] = {24, st.st_size - 1, 9,
                            0}; // a size, the cubin, the checksum; then the end is cut off
        const int fd = open(path.text, O_RDWR);
        uint8_t byte;
        ck_assert_int_eq(pread(fd, &byte, 1, at[damage]), 1);
        byte ^= 4;
        ck_assert_int_eq(pwrite(fd, &byte, 1, at[damage]), 1);
        if (damage == 3) ck_assert(!ftruncate(fd, st.st_size / 2));
        close(fd);
        struct kernel_file f;
        ck_assert_int_eq(kernel_cache_read(&f, path.text, NULL), TLM_ERR_FORMAT);
        open_maker(&m);
        try_one(&m);
        const struct jit_counts c = close_maker(&m);
        ck_assert_int_eq(c.compiled, 1);
        ck_assert(!kernel_cache_read(&f, one_file().text, NULL));
        kernel_cache_close(&f);
    }
    remove_folder();
}
END_TEST

START_TEST(test_unwritable)
{
    make_folder();
    const struct temp_path file = temp_path(&base, "a"); // where a folder is wanted
    close(open(file.text, O_CREAT | O_WRONLY, 0600));
    for (int i = 0; i < 2; i++) {
        struct maker m;
        open_maker(&m);
        try_one(&m);
        const bool there = has_compiler(&m);
        if (there) ck_assert_str_eq(m.note, "");
        ck_assert_int_eq(close_maker(&m).compiled, there);
    }
    temp_folder_close(&base);
}
END_TEST

// Several processes at once leave one whole file, and nothing else.
START_TEST(test_processes)
{
    enum { PROCESSES = 3 };
    make_folder();
    pid_t child[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        child[i] = fork();
        if (child[i]) continue;
        struct maker m;
        open_maker(&m);
        try_one(&m);
        const bool there = has_compiler(&m);
        close_maker(&m);
        _exit(there ? 0 : 1);
    }
    bool there = true;
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        ck_assert_int_eq(waitpid(child[i], &status, 0), child[i]);
        ck_assert(WIFEXITED(status));
        there &= !WEXITSTATUS(status);
    }
    if (there) {
        struct kernel_file f;
        ck_assert(!kernel_cache_read(&f, one_file().text, NULL));
        kernel_cache_close(&f);
    }
    remove_folder();
}
END_TEST

START_TEST(test_held)
{
    make_folder();
    struct maker m;
    open_maker(&m);
    jit_hold(m.jit, true);
    try_one(&m);
    ck_assert_int_eq(jit_counts(m.jit).compiled, 0);
    jit_hold(m.jit, false);
    try_one(&m);
    ck_assert_int_eq(jit_counts(m.jit).compiled, has_compiler(&m));
    close_maker(&m);
    remove_folder();
}
END_TEST

// What does not compile is told once, and the program's own kernel serves. A device's compiler knows all of these.
START_TEST(test_fallback)
{
    make_folder();
    struct maker m;
    open_maker(&m);
    for (int64_t k = 64; k <= 192; k += 64) try_product(&m, DTYPE_BF16, k, 2, 2);
    if (!jit_counts(m.jit).compiled) {
        const char *first = strstr(m.note, "kernels are not made");
        ck_assert_msg(strstr(m.note, "NVRTC") && first, "'%s'", m.note);
        ck_assert(!strstr(first + 1, "kernels are not made"));
    }
    close_maker(&m);
    remove_folder();
}
END_TEST

Suite *suite_cuda_jit(void)
{
    Suite *s = suite_create("cuda_jit");
    TCase *t = tcase_create("cuda_jit");
    tcase_set_timeout(t, 120); // a device's compiler takes its time
    tcase_add_test(t, test_made_once);
    tcase_add_test(t, test_made_results);
    tcase_add_test(t, test_made_fused);
    tcase_add_test(t, test_damaged);
    tcase_add_test(t, test_unwritable);
    tcase_add_test(t, test_processes);
    tcase_add_test(t, test_held);
    tcase_add_test(t, test_fallback);
    suite_add_tcase(s, t);
    return s;
}
