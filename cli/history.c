// cli/history.c -- see cli/history.h.
#include "cli/history.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/common.h"
#include "core/file.h"

bool history_path(char *path, size_t size)
{
    if (!common_user_path(path, size, "XDG_DATA_HOME", ".local/share", "tinylm/history")) return false;
    file_make_folders(path);
    return true;
}

// Replaces the file by the end of it.
static void keep_end(const char *path, const char *end, size_t bytes)
{
    struct file_writer *w;
    mode_t mask = umask(077);
    if (!file_writer_open(&w, path, NULL)) {
        file_writer_write(w, end, bytes);
        file_writer_finish(w, NULL);
    }
    umask(mask);
}

void history_load(const char *path, history_line_fn *line, void *user)
{
    struct stat st;
    char *text;
    size_t bytes, lines = 0;
    if (stat(path, &st) || !S_ISREG(st.st_mode) || file_read(path, &text, &bytes, NULL)) return;
    for (size_t i = 0; i < bytes; i++) lines += text[i] == '\n';
    // The file may hold anything, zero bytes too, so the end is known by its place; a last line without a
    // newline was cut.
    char *at = text, *end = text + bytes, *newline;
    for (size_t skip = lines > HISTORY_LINES ? lines - HISTORY_LINES : 0; skip; skip--)
        at = (char *)memchr(at, '\n', (size_t)(end - at)) + 1;
    if (lines >= 2 * HISTORY_LINES) keep_end(path, at, (size_t)(end - at));
    for (; (newline = memchr(at, '\n', (size_t)(end - at))); at = newline + 1) {
        *newline = '\0';
        if (*at) line(user, at);
    }
    free(text);
}

void history_append(const char *path, const char *text)
{
    char *entry;
    int length = asprintf(&entry, "%s\n", text);
    if (length < 0) return;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        ssize_t written = write(fd, entry, (size_t)length);
        (void)written;
        close(fd);
    }
    free(entry);
}
