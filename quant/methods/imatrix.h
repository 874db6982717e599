// quant/methods/imatrix.h -- how large the inputs of each matrix are: for every column the sum of squares over the rows of a text. What a
// column is multiplied by says how much its rounding matters.
//
// The file is llama.cpp's: a GGUF file whose general.type is "imatrix", with the tensors
//
//     NAME.in_sum2   (K, matrices)   sums of squares; one matrix, or one an expert
//     NAME.counts    (1, matrices)   rows that were summed
//
// of each matrix NAME, all F32, and the keys imatrix.datasets (names of texts), imatrix.chunk_count, imatrix.chunk_size. The older form is
// read too: i32 entries, then for each i32 length, name, i32 calls, i32 numbers, f32 numbers, which are means times calls.
#ifndef QUANT_METHODS_IMATRIX_H
#define QUANT_METHODS_IMATRIX_H

#include "generate/layers.h"

struct imatrix_entry {
    char *name;           // of the matrix
    int64_t cols, mats;   // numbers of a row, matrices that have sums of their own
    double *sums, *count; // (mats, cols), (mats)
};

struct imatrix {
    struct imatrix_entry *entries; // by name
    int64_t count, capacity;
    char *dataset; // name of the text, or NULL
    uint32_t chunks, chunk_size;
};

void imatrix_free(struct imatrix *im);
// Errors: IO, FORMAT, MEMORY. On failure nothing is left.
enum tlm_status imatrix_read(struct imatrix *im, const char *path, struct tlm_error *err);
enum tlm_status imatrix_write(const struct imatrix *im, const char *path, struct tlm_error *err);

// The entry of that name with zeros where it is new; NULL: no memory, or there is one of another shape.
struct imatrix_entry *imatrix_add(struct imatrix *im, const char *name, int64_t cols, int64_t mats);
const struct imatrix_entry *imatrix_find(const struct imatrix *im, struct gguf_string name); // NULL: none
// The weights of the columns, (mats, cols) for free(): means of the squares. A matrix that no row came to gets ones. NULL: no memory.
float *imatrix_weights(const struct imatrix_entry *e);

// Adds rows (rows, cols), `stride` numbers apart, to matrix `mat` of the entry.
void imatrix_add_rows(struct imatrix_entry *e, int64_t mat, const void *rows, enum dtype type, size_t stride,
                      int64_t count);
// Runs the texts of `p` through all layers and adds what goes into every matrix. progress: layers done, of all; false stops. Errors:
// MEMORY, ARGUMENT (stopped), FORMAT (a number that is not finite).
typedef bool imatrix_progress_fn(void *user, int64_t done, int64_t total);
enum tlm_status imatrix_collect(struct imatrix *im, struct layers *p, imatrix_progress_fn *progress,
                                void *user, struct tlm_error *err);
// Layer l alone (or l = layers, the output), whose rows go on to the next.
enum tlm_status imatrix_collect_layer(struct imatrix *im, struct layers *p, int64_t l, struct tlm_error *err);

#endif
