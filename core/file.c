// core/file.c -- files: mapped for reading, read whole, and written so that a reader never sees half of one.
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *kind_name(mode_t mode)
{
    if (S_ISDIR(mode)) return "a folder";
    if (S_ISFIFO(mode)) return "a pipe";
    if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
    return "a special file";
}

// Paths in messages are cut, so that the reason behind them is never the part that falls off the line.
static enum tlm_status system_error(struct tlm_error *err, const char *path, const char *what)
{
    return error_set(err, TLM_ERR_IO, "%.300s: cannot %s: %s", path, what, strerror(errno));
}

enum tlm_status file_map(const char *path, void **data, size_t *size, struct tlm_error *err)
{
    *data = NULL;
    *size = 0;
    // O_NONBLOCK has no effect on regular files; a pipe without a writer gives the line below instead of a
    // hang.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return system_error(err, path, "open");
    struct stat st;
    enum tlm_status status = TLM_OK;
    if (fstat(fd, &st)) {
        status = system_error(err, path, "read its size");
    } else if (!S_ISREG(st.st_mode)) {
        status = error_set(err, TLM_ERR_IO, "%.300s: expected a regular file, found %s", path,
                           kind_name(st.st_mode));
    } else if (st.st_size) {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            status = system_error(err, path, "map into memory");
        } else {
            *data = map;
            *size = (size_t)st.st_size;
        }
    }
    close(fd); // the map stays
    return status;
}

void file_unmap(void *data, size_t size)
{
    if (data) munmap(data, size);
}

// Reads to the end. `room` is a first guess of the size; pipes and files of /proc do not tell theirs.
static enum tlm_status read_all(int fd, const char *path, size_t room, char **data, size_t *size,
                                struct tlm_error *err)
{
    char *buffer = NULL;
    size_t used = 0, capacity = 0;
    for (;;) {
        if (capacity - used < 2) { // room for at least one byte and the zero
            size_t wanted = capacity ? capacity * 2 : room + 2;
            char *larger = wanted > capacity ? realloc(buffer, wanted) : NULL;
            if (!larger) {
                free(buffer);
                return error_set(err, TLM_ERR_MEMORY, "%.300s: no memory for %zu bytes of it", path, wanted);
            }
            buffer = larger;
            capacity = wanted;
        }
        ssize_t n = read(fd, buffer + used, capacity - used - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            free(buffer);
            return system_error(err, path, "read");
        }
        if (n == 0) break;
        used += (size_t)n;
    }
    buffer[used] = '\0';
    *data = buffer;
    *size = used;
    return TLM_OK;
}

enum tlm_status file_read(const char *path, char **data, size_t *size, struct tlm_error *err)
{
    *data = NULL;
    *size = 0;
    if (!strcmp(path, "-")) return read_all(STDIN_FILENO, "standard input", 1 << 16, data, size, err);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return system_error(err, path, "open");
    struct stat st;
    size_t room = 1 << 16;
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0) room = (size_t)st.st_size;
    enum tlm_status status = read_all(fd, path, room, data, size, err);
    close(fd);
    return status;
}

void file_make_folders(const char *path)
{
    char *part = strdup(path);
    for (char *slash = part ? strchr(part + 1, '/') : NULL; slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(part, 0700);
        *slash = '/';
    }
    free(part);
}

// ---- writing ------------------------------------------------------------------------------------------

struct file_writer {
    int fd;
    char *path;             // of the finished file, symbolic links followed
    char *temp;             // of the file being written, in the same folder
    struct tlm_error error; // the first failure; code TLM_OK while there is none
    size_t used;
    char buffer[1 << 18];
};

static void writer_free(struct file_writer *w)
{
    free(w->path);
    free(w->temp);
    free(w);
}

// Creates the temporary file. The number of the process keeps two programs apart; the attempt keeps apart two
// writers of one program, and a file that a killed process of the same number left behind.
static enum tlm_status open_temp(struct file_writer *w, struct tlm_error *err)
{
    for (int attempt = 0; attempt < 1000; attempt++) {
        free(w->temp);
        if (asprintf(&w->temp, "%s.tmp.%ld.%d", w->path, (long)getpid(), attempt) < 0) {
            w->temp = NULL;
            return error_set(err, TLM_ERR_MEMORY, "%.300s: no memory for its name", w->path);
        }
        // Not mkstemp: that would leave the finished file readable by its owner alone, whatever the umask
        // says.
        w->fd = open(w->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd >= 0) return TLM_OK;
        if (errno != EEXIST) break;
    }
    return system_error(err, w->temp, "create");
}

enum tlm_status file_writer_open(struct file_writer **out, const char *path, struct tlm_error *err)
{
    *out = NULL;
    if (!*path)
        return error_set(err, TLM_ERR_IO, "cannot write: expected the name of a file, found an empty one");
    struct file_writer *w = calloc(1, sizeof *w);
    // A link to a file stays a link: what it points to is replaced. A path that does not exist yet stays as
    // it is.
    char *target = realpath(path, NULL);
    if (!target) target = strdup(path);
    if (!w || !target) {
        free(w);
        free(target);
        return error_set(err, TLM_ERR_MEMORY, "%.300s: no memory to write it", path);
    }
    w->path = target;
    struct stat st;
    enum tlm_status status;
    if (!stat(target, &st) && !S_ISREG(st.st_mode)) // renaming over it would fail, or destroy a device's name
        status = error_set(err, TLM_ERR_IO, "%.300s: cannot write: expected a regular file or none, found %s",
                           path, kind_name(st.st_mode));
    else
        status = open_temp(w, err);
    if (status) {
        writer_free(w);
        return status;
    }
    *out = w;
    return TLM_OK;
}

static void write_all(struct file_writer *w, const char *data, size_t bytes)
{
    while (bytes && !w->error.code) {
        ssize_t n = write(w->fd, data, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            system_error(&w->error, w->path, "write");
            return;
        }
        data += n;
        bytes -= (size_t)n;
    }
}

static void flush(struct file_writer *w)
{
    write_all(w, w->buffer, w->used);
    w->used = 0;
}

void file_writer_write(struct file_writer *w, const void *data, size_t bytes)
{
    if (bytes > sizeof w->buffer - w->used) flush(w);
    if (bytes > sizeof w->buffer) {
        write_all(w, data, bytes);
    } else if (bytes) {
        memcpy(w->buffer + w->used, data, bytes);
        w->used += bytes;
    }
}

enum tlm_status file_writer_status(const struct file_writer *w, struct tlm_error *err)
{
    if (err && w->error.code) *err = w->error;
    return w->error.code;
}

// The new name is safe only once the folder that holds it is on the disk too.
static void sync_folder(struct file_writer *w)
{
    const char *slash = strrchr(w->path, '/');
    char *folder = slash ? strndup(w->path, (size_t)(slash - w->path) + 1) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    // A folder that may be written but not read cannot be synced, nor can folders of some network file
    // systems.
    if (fd >= 0 && fsync(fd) && errno != EINVAL)
        system_error(&w->error, w->path, "sync the folder of the written file");
    if (fd >= 0) close(fd);
    free(folder);
}

enum tlm_status file_writer_finish(struct file_writer *w, struct tlm_error *err)
{
    flush(w);
    if (!w->error.code && fsync(w->fd)) system_error(&w->error, w->path, "sync");
    if (close(w->fd) && !w->error.code) system_error(&w->error, w->path, "close");
    if (!w->error.code && rename(w->temp, w->path))
        system_error(&w->error, w->path, "rename the temporary file to it");
    if (w->error.code)
        unlink(w->temp);
    else
        sync_folder(w);
    enum tlm_status status = file_writer_status(w, err);
    writer_free(w);
    return status;
}

void file_writer_abort(struct file_writer *w)
{
    if (!w) return;
    close(w->fd);
    unlink(w->temp);
    writer_free(w);
}
