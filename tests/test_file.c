// tests/test_file.c -- files: mapping, reading, and writing that leaves the old file or the new one, never a
// half.
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "core/file.h"
#include "tests/temp_folder.h"
#include "tests/tests.h"

static struct temp_folder folder;

static void setup(void)
{
    folder = temp_folder_open();
}

static void teardown(void)
{
    temp_folder_close(&folder);
}

static void write_text(const char *path, const char *text)
{
    struct file_writer *w;
    struct tlm_error err = {0};
    ck_assert_msg(!file_writer_open(&w, path, &err), "%s", err.text);
    file_writer_write(w, text, strlen(text));
    ck_assert_msg(!file_writer_finish(w, &err), "%s", err.text);
}

static void expect_text(const char *path, const char *text)
{
    char *data;
    size_t size;
    struct tlm_error err = {0};
    ck_assert_msg(!file_read(path, &data, &size, &err), "%s", err.text);
    ck_assert_uint_eq(size, strlen(text));
    ck_assert_str_eq(data, text);
    free(data);
}

static int files_in_folder(void)
{
    int count = 0;
    DIR *dir = opendir(folder.path);
    for (struct dirent *e; (e = readdir(dir));) count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

START_TEST(map_gives_the_bytes)
{
    struct temp_path p = temp_path(&folder, "a");
    write_text(p.text, "some bytes");
    void *data;
    size_t size;
    ck_assert_int_eq(file_map(p.text, &data, &size, NULL), TLM_OK);
    ck_assert_uint_eq(size, 10);
    ck_assert_mem_eq(data, "some bytes", 10);
    file_unmap(data, size);

    write_text(p.text, "");
    ck_assert_int_eq(file_map(p.text, &data, &size, NULL), TLM_OK);
    ck_assert_ptr_null(data);
    ck_assert_uint_eq(size, 0);
    file_unmap(data, size);
}
END_TEST

START_TEST(map_refuses_what_is_no_file)
{
    struct temp_path fifo = temp_path(&folder, "fifo"), none = temp_path(&folder, "none");
    ck_assert_int_eq(mkfifo(fifo.text, 0600), 0);
    const char *paths[] = {fifo.text, none.text, folder.path, "/dev/null"};
    const char *found[] = {"found a pipe", "No such file", "found a folder", "found a device"};
    for (int i = 0; i < 4; i++) {
        void *data;
        size_t size;
        struct tlm_error err = {0};
        ck_assert_int_eq(file_map(paths[i], &data, &size, &err), TLM_ERR_IO);
        ck_assert_ptr_null(data);
        ck_assert_msg(strstr(err.text, found[i]) && strstr(err.text, paths[i]), "%s", err.text);
    }
}
END_TEST

START_TEST(read_takes_files_pipes_and_standard_input)
{
    struct temp_path p = temp_path(&folder, "a");
    enum { LENGTH = 300000 }; // more than the first guess of the size
    char *text = malloc(LENGTH + 1), *data;
    for (int i = 0; i < LENGTH; i++) text[i] = (char)('a' + i % 23);
    text[LENGTH] = '\0';
    write_text(p.text, text);
    expect_text(p.text, text);

    // Standard input is that file for a while: "-" has no size to ask for.
    int saved = dup(STDIN_FILENO), fd = open(p.text, O_RDONLY);
    ck_assert_int_ge(dup2(fd, STDIN_FILENO), 0);
    expect_text("-", text);
    if (saved >= 0) dup2(saved, STDIN_FILENO);
    close(saved);
    close(fd);
    free(text);

    size_t size;
    struct tlm_error err = {0};
    ck_assert_int_eq(file_read("/proc/self/status", &data, &size, &err), TLM_OK); // says its size is 0
    ck_assert_uint_gt(size, 0);
    ck_assert_uint_eq(strlen(data), size);
    free(data);
    ck_assert_int_eq(file_read(folder.path, &data, &size, &err), TLM_ERR_IO);
    ck_assert_int_eq(file_read("", &data, &size, &err), TLM_ERR_IO);
}
END_TEST

START_TEST(writer_replaces_at_finish_only)
{
    struct temp_path p = temp_path(&folder, "a"), link = temp_path(&folder, "link");
    struct file_writer *w;
    write_text(p.text, "old");
    ck_assert_int_eq(symlink("a", link.text), 0);

    ck_assert_int_eq(file_writer_open(&w, p.text, NULL), TLM_OK);
    file_writer_write(w, "half", 4);
    expect_text(p.text, "old");
    file_writer_abort(w);
    expect_text(p.text, "old");
    ck_assert_int_eq(files_in_folder(), 2);

    write_text(link.text, "new"); // through the link, which stays one
    expect_text(p.text, "new");
    struct stat st;
    ck_assert_int_eq(lstat(link.text, &st), 0);
    ck_assert(S_ISLNK(st.st_mode));
    ck_assert_int_eq(files_in_folder(), 2);
    file_writer_abort(NULL);
}
END_TEST

START_TEST(writer_takes_pieces_of_any_size)
{
    static const size_t sizes[] = {1, 0, 262143, 1, 262144, 262145, 3, 1000000, 5};
    struct temp_path p = temp_path(&folder, "a");
    struct file_writer *w;
    char *all = malloc(2000000), *data;
    size_t total = 0, size;
    for (size_t i = 0; i < 2000000; i++) all[i] = (char)(i * 2654435761u >> 13);
    ck_assert_int_eq(file_writer_open(&w, p.text, NULL), TLM_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        file_writer_write(w, all + total, sizes[i]);
        total += sizes[i];
    }
    ck_assert_int_eq(file_writer_finish(w, NULL), TLM_OK);
    ck_assert_int_eq(file_read(p.text, &data, &size, NULL), TLM_OK);
    ck_assert_uint_eq(size, total);
    ck_assert_int_eq(memcmp(data, all, total), 0);
    free(data);
    free(all);
}
END_TEST

START_TEST(writer_refuses_at_open)
{
    struct temp_path file = temp_path(&folder, "file"), below = temp_path(&folder, "file/a"),
                     none = temp_path(&folder, "none/a");
    write_text(file.text, "x");
    const char *paths[] = {below.text, none.text, folder.path, "/dev/null", ""};
    for (int i = 0; i < 5; i++) {
        struct file_writer *w;
        struct tlm_error err = {0};
        ck_assert_int_eq(file_writer_open(&w, paths[i], &err), TLM_ERR_IO);
        ck_assert_ptr_null(w);
        ck_assert(err.text[0] && strstr(err.text, paths[i]));
    }
    if (geteuid()) { // root writes anywhere
        struct file_writer *w;
        struct temp_path p = temp_path(&folder, "a");
        ck_assert_int_eq(chmod(folder.path, 0500), 0);
        ck_assert_int_eq(file_writer_open(&w, p.text, NULL), TLM_ERR_IO);
        ck_assert_int_eq(chmod(folder.path, 0700), 0);
    }
    ck_assert_int_eq(files_in_folder(), 1);
}
END_TEST

// A limit on the size of files stands for a full disk: write() takes a part, then fails.
START_TEST(full_disk_keeps_the_old_file)
{
    struct temp_path p = temp_path(&folder, "a");
    static char block[100000];
    struct rlimit old, small;
    struct file_writer *w;
    struct tlm_error first = {0}, err = {0};
    write_text(p.text, "old");
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 500000;
    ck_assert_int_eq(file_writer_open(&w, p.text, NULL), TLM_OK);

    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small); // Check writes to a file too: no assertions until the limit is lifted
    for (int i = 0; i < 10; i++) file_writer_write(w, block, sizeof block);
    enum tlm_status early = file_writer_status(w, &first), late = file_writer_finish(w, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);

    ck_assert_int_eq(early, TLM_ERR_IO);
    ck_assert_int_eq(late, TLM_ERR_IO);
    ck_assert_str_eq(first.text, err.text);
    ck_assert_msg(strstr(err.text, p.text) && strstr(err.text, "File too large"), "%s", err.text);
    expect_text(p.text, "old");
    ck_assert_int_eq(files_in_folder(), 1);
}
END_TEST

Suite *suite_file(void)
{
    Suite *s = suite_create("file");
    TCase *t = tcase_create("file");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, map_gives_the_bytes);
    tcase_add_test(t, map_refuses_what_is_no_file);
    tcase_add_test(t, read_takes_files_pipes_and_standard_input);
    tcase_add_test(t, writer_replaces_at_finish_only);
    tcase_add_test(t, writer_takes_pieces_of_any_size);
    tcase_add_test(t, writer_refuses_at_open);
    tcase_add_test(t, full_disk_keeps_the_old_file);
    suite_add_tcase(s, t);
    return s;
}
