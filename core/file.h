// core/file.h -- files: mapped for reading; written under a temporary name, synced, renamed.
#ifndef CORE_FILE_H
#define CORE_FILE_H

#include "core/error.h"

// Maps a regular file read-only. An empty file gives *data = NULL, *size = 0. Errors: IO.
enum tlm_status file_map(const char *path, void **data, size_t *size, struct tlm_error *err);
void file_unmap(void *data, size_t size);

// Reads a whole file, a pipe or "-" (standard input) into memory; one zero byte stands behind the end; free() it.
// Errors: IO, MEMORY.
enum tlm_status file_read(const char *path, char **data, size_t *size, struct tlm_error *err);

// Makes the folders on the way to `path`, for nobody else to read; those that are there stay as they are. What went wrong is told by what
// is then done with the path.
void file_make_folders(const char *path);

struct file_writer; // buffered; the first failure is kept and comes back from finish

enum tlm_status file_writer_open(struct file_writer **out, const char *path, struct tlm_error *err);
void file_writer_write(struct file_writer *w, const void *data, size_t bytes);
// The first failure so far, for long work that had better stop; TLM_OK while there is none.
enum tlm_status file_writer_status(const struct file_writer *w, struct tlm_error *err);
// Flushes, syncs, renames to the path and closes. On failure the temporary file is removed, the old file is as it was.
enum tlm_status file_writer_finish(struct file_writer *w, struct tlm_error *err);
void file_writer_abort(struct file_writer *w); // removes the temporary file; NULL is allowed

#endif
