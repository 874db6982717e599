// core/safetensors.h -- the safetensors container: one file, or the shards that an index names; reading and writing.
//
//     offset 0   u64 n, little-endian
//     8          n bytes of JSON: { name: {"dtype": "BF16", "shape": [rows, cols], "data_offsets": [begin, end]}, ...,
//                "__metadata__": {text: text} }
//     8 + n      data; each tensor at [begin, end) of it, row by row, without gaps between tensors
//
// Specification: the README of huggingface/safetensors. A folder holds model.safetensors, or model.safetensors.index.json
// with {"weight_map": {name: file}} and those files. Reading maps the files; every length, offset, shape and name is checked
// before it is used.
#ifndef CORE_SAFETENSORS_H
#define CORE_SAFETENSORS_H

#include "core/error.h"
#include "core/tensor.h"

enum safetensors_type {
    SAFETENSORS_F64,
    SAFETENSORS_F32,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
    SAFETENSORS_F8_E4M3,
    SAFETENSORS_F8_E5M2,
    SAFETENSORS_F8_E8M0,
    SAFETENSORS_I64,
    SAFETENSORS_I32,
    SAFETENSORS_I16,
    SAFETENSORS_I8,
    SAFETENSORS_U64,
    SAFETENSORS_U32,
    SAFETENSORS_U16,
    SAFETENSORS_U8,
    SAFETENSORS_BOOL,
    SAFETENSORS_TYPE_COUNT
};

struct safetensors_type_traits {
    const char *name; // as the header writes it
    int bytes;        // of one number
    int dtype;        // the enum dtype of the same numbers; -1: none
};

extern const struct safetensors_type_traits safetensors_types[SAFETENSORS_TYPE_COUNT];

enum { SAFETENSORS_MAX_DIMS = 8 };

struct safetensors_tensor {
    char *name; // no zero byte inside
    enum safetensors_type type;
    int dims;
    int64_t shape[SAFETENSORS_MAX_DIMS]; // rows first, columns last; a side may be 0
    const uint8_t *data;                 // into the map; aligned to nothing
    size_t bytes;
    int file;
};

struct safetensors_file {
    void *map;
    size_t size;
    char *path;
};

struct safetensors {
    struct safetensors_tensor *tensors; // sorted by name
    size_t count;
    struct safetensors_file *files;
    int file_count;
};

// Opens the weights of a folder. Errors: IO, FORMAT, UNSUPPORTED (a type that is none of the above), MEMORY.
enum tlm_status safetensors_open(struct safetensors **out, const char *folder, struct tlm_error *err);
// One file in memory, which must outlive the result. `name` is for messages.
enum tlm_status safetensors_open_memory(struct safetensors **out, const void *data, size_t size,
                                        const char *name, struct tlm_error *err);
void safetensors_close(struct safetensors *s); // NULL is allowed

const struct safetensors_tensor *safetensors_find(const struct safetensors *s,
                                                  const char *name); // NULL: absent
// Drops the pages of a tensor that will not be read again soon.
void safetensors_drop_pages(const struct safetensors *s, const struct safetensors_tensor *t);

// ---- writing ------------------------------------------------------------------------------------------
//
// A writer collects names and shapes, then streams the data in that order: memory stays bounded. One file, model.safetensors,
// or shards of at most `shard_bytes` of data (a larger tensor has one of its own) with their index.

struct safetensors_writer;

// Files are written into `folder`, which is there. Errors: MEMORY.
enum tlm_status safetensors_writer_open(struct safetensors_writer **out, const char *folder,
                                        uint64_t shard_bytes, struct tlm_error *err);
void safetensors_writer_close(
    struct safetensors_writer *w); // NULL is allowed; removes a file that is half written
// Declares the next tensor. Errors: MEMORY, ARGUMENT (a shape of 2^63 bytes or more).
enum tlm_status safetensors_add(struct safetensors_writer *w, const char *name, enum safetensors_type type,
                                int dims, const int64_t *shape, struct tlm_error *err);
// Appends bytes of the declared tensors' data, in order, in pieces of any size. Errors: IO, MEMORY, ARGUMENT (more than was
// declared).
enum tlm_status safetensors_write_data(struct safetensors_writer *w, const void *data, size_t bytes,
                                       struct tlm_error *err);
// Checks that all data came, syncs, writes the index. Errors: IO, MEMORY, ARGUMENT (data missing).
enum tlm_status safetensors_writer_finish(struct safetensors_writer *w, struct tlm_error *err);

#endif
