// cli/batch_file.h -- the files of generate --in: requests are read line by line, answers are appended line by line.
//
// A file of answers holds whole lines only: each goes out with one write(), and where the disk has no room for all of it, its beginning is
// taken back. Should the process be killed inside that write, the next run cuts off what is left of the line. So a file of answers tells
// by itself which requests are done, and a run that was stopped goes on where it was.
#ifndef CLI_BATCH_FILE_H
#define CLI_BATCH_FILE_H

#include "core/error.h"

// ---- requests -----------------------------------------------------------------------------------------

struct batch_input {
    const char *name;
    int fd;
    bool ended;
    char *buffer;
    size_t begin, end, capacity; // buffer[begin..end) is not yet handed out
    size_t searched;             // bytes from `begin` on in which no line ends
    int64_t lines;               // handed out so far
    int64_t origin;              // byte of the file where the first line begins
};

enum batch_read {
    BATCH_LINE,
    BATCH_LATER, // nothing there yet, or a signal came
    BATCH_END,
    BATCH_FAILED
};

// "-" is standard input. Errors: IO.
enum tlm_status batch_input_open(struct batch_input *in, const char *path, struct tlm_error *err);
void batch_input_close(struct batch_input *in);
// The next line, without the white space at its end; it is valid until the next call and has the number in->lines - 1. `wait`: while
// nothing is there, wait a moment for it.
enum batch_read batch_input_next(struct batch_input *in, bool wait, const char **line, size_t *bytes,
                                 struct tlm_error *err);
// True for a regular file, which can be read twice.
bool batch_input_is_file(const struct batch_input *in);
// Starts again at the first line. Errors: IO.
enum tlm_status batch_input_rewind(struct batch_input *in, struct tlm_error *err);

// ---- answers ------------------------------------------------------------------------------------------

struct batch_done {
    int64_t index;
    int32_t choice; // -1: the record stands for the whole line
    bool failed;
    uint64_t hash;
};

struct batch_output {
    const char *name;
    int fd;
    bool is_file;            // a regular file, which is resumed; else a pipe, a terminal, a device
    int error;               // errno of the write that failed
    int64_t bytes, cut;      // of whole lines; of the torn line that was cut off on opening
    struct batch_done *done; // [count] found on opening, sorted by index and choice
    size_t count, next;      // next: the first that batch_output_find() has not passed
};

// "-" is standard output. Reads the answers that are there, and keeps other runs away from the file. Errors: IO (also a file that another
// run is writing), FORMAT (a file of something else), MEMORY.
enum tlm_status batch_output_open(struct batch_output *out, const char *path, struct tlm_error *err);
// The answers to line `index` that were there, *count of them; asked for each line in order. Errors: ARGUMENT (answers to another line:
// their hash is not `hash`).
enum tlm_status batch_output_find(struct batch_output *out, int64_t index, uint64_t hash,
                                  const struct batch_done **found, size_t *count, struct tlm_error *err);
// To be asked behind the last line. Errors: ARGUMENT (answers to lines that are not there).
enum tlm_status batch_output_find_end(const struct batch_output *out, int64_t lines, struct tlm_error *err);
// Appends a line, all of it or nothing. Errors: IO.
enum tlm_status batch_output_append(struct batch_output *out, const char *line, size_t bytes,
                                    struct tlm_error *err);
// Puts the answers on the disk and closes the file. Errors: IO.
enum tlm_status batch_output_close(struct batch_output *out, struct tlm_error *err);

#endif
