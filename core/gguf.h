// core/gguf.h -- the GGUF container (version 3, and 2, which differs in nothing we read): metadata and tensors.
//
//     offset 0   "GGUF"  u32 version  u64 n_tensors  u64 n_keys
//                n_keys    x { string key, u32 type, value }            string = u64 length, bytes
//                n_tensors x { string name, u32 n_dims, u64 ne[n_dims], u32 dtype, u64 offset }
//                padding to general.alignment (32 where absent)
//     data       each tensor at data + offset, offset a multiple of the alignment
//
// Specification: docs/gguf.md of ggml. Reading maps the file; strings and tensor data point into the map. Every
// length, count, offset and type is checked before use; what is wrong is one line: what, where, expected, found.
#ifndef CORE_GGUF_H
#define CORE_GGUF_H

#include "core/error.h"
#include "core/tensor.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
};

struct gguf_string {
    const char *data; // not terminated; any bytes
    uint64_t length;
};

struct gguf_type_traits {
    const char *name; // "u8", "string", ...
    uint8_t
        bytes; // of one value in a file; the fewest that a string (its length) or an array (its header) takes
};

extern const struct gguf_type_traits gguf_type_traits[GGUF_TYPE_COUNT];

struct gguf_value {
    enum gguf_type type;
    enum gguf_type item; // of an array's items; the same as type otherwise
    uint64_t count;      // items of an array, 1 otherwise
    const uint8_t
        *data;          // into the map: the value or an array's first item as it stands in the file (a string
                        // with its length in front); not aligned
    const uint8_t *end; // behind the last byte
};

struct gguf_key {
    struct gguf_string name;
    struct gguf_value value;
};

struct gguf_tensor {
    struct gguf_string name;
    struct tensor tensor; // data points into the map
    int file;             // which part of a split set
};

struct gguf_file {
    void *map; // NULL for a buffer that somebody else owns
    size_t size;
    size_t data_offset;
    char *path;
    void *own; // memory that tensors or keys lie in beside the map, for free(); mostly NULL
};

struct gguf {
    uint32_t version;
    uint64_t alignment;
    uint64_t key_count;
    struct gguf_key *keys; // of the first file
    const struct gguf_string *
        *keys_by_name; // the names above in sorted order, each the first field of its key
    uint64_t tensor_count;
    struct gguf_tensor *tensors; // of all files
    const struct gguf_string **tensors_by_name;
    int file_count;
    struct gguf_file *files;
};

// Maps and checks `path`. The first part of a split set, NAME-00001-of-0000N.gguf, brings the others.
// Errors: IO, FORMAT, UNSUPPORTED (version, big-endian, tensor type), ARGUMENT (a part other than the first; the line
// names the first), MEMORY. On failure nothing is left open.
enum tlm_status gguf_open(struct gguf **out, const char *path, struct tlm_error *err);
// The same over `size` bytes in memory, which must outlive the result (tests, fuzzing). `name` is for messages. A part
// of a split set opens alone.
enum tlm_status gguf_open_memory(struct gguf **out, const void *data, size_t size, const char *name,
                                 struct tlm_error *err);
void gguf_close(struct gguf *g); // NULL is allowed

const struct gguf_value *gguf_find(const struct gguf *g, const char *key);          // NULL where absent
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name); // NULL where absent
bool gguf_string_is(struct gguf_string s, const char *text);
// A string of a file as text for a message: printable ASCII, other bytes as \xNN, cut with "..." where it would not fit
// into the `size` (8 or more) bytes of `buffer`. Returns buffer.
const char *gguf_printable(struct gguf_string s, char *buffer, size_t size);

// Typed reading. Where the key is absent *out keeps its value and TLM_OK comes back: the caller sets the default
// first. A key of a type that cannot hold such a number (a string for a number, 2^40 for an int32) is a FORMAT error.
enum tlm_status gguf_get_i64(const struct gguf *g, const char *key, int64_t *out, struct tlm_error *err);
enum tlm_status gguf_get_f64(const struct gguf *g, const char *key, double *out, struct tlm_error *err);
enum tlm_status gguf_get_bool(const struct gguf *g, const char *key, bool *out, struct tlm_error *err);
enum tlm_status gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *out,
                                struct tlm_error *err);

// Item i of a value of any number type (i = 0 for a single number); TLM_ASSERTs the type and i < count. As an int64_t,
// what lies outside becomes the nearest end of the range, and NaN becomes 0.
int64_t gguf_value_i64(const struct gguf_value *v, uint64_t i);
double gguf_value_f64(const struct gguf_value *v, uint64_t i);
bool gguf_value_is_integer(const struct gguf_value *v); // a whole-number type or bool, or an array of such
bool gguf_value_is_number(const struct gguf_value *v);
// All strings of an array of strings (or the one of a string) as a new table of v->count entries; free() it.
// Errors: MEMORY. TLM_ASSERTs the type.
enum tlm_status gguf_value_strings(const struct gguf_value *v, struct gguf_string **out,
                                   struct tlm_error *err);

// Asks the kernel to read all tensor data ahead (a hint), or to drop the pages of one tensor from this process.
void gguf_prefetch(const struct gguf *g);
void gguf_drop_pages(const struct gguf *g, const struct tensor *t);

// ---- writing ------------------------------------------------------------------------------------------
//
// A writer collects metadata and the shapes of tensors, then streams the data in that order, so that memory stays
// bounded by one tensor. The file gets a temporary name beside `path`, is synced and renamed at finish; gguf_writer_close
// without a finish removes it.

struct gguf_writer;

enum tlm_status gguf_writer_open(struct gguf_writer **out, const char *path, struct tlm_error *err);
void gguf_writer_close(struct gguf_writer *w); // NULL is allowed

// Setting a key again replaces it. general.alignment (a power of two; 32 where absent) takes effect. Memory failures are
// kept and come back from gguf_writer_finish. Keys and tensors come before the first data: TLM_ASSERT.
void gguf_set_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_set_u64(struct gguf_writer *w, const char *key, uint64_t value);
void gguf_set_i32(struct gguf_writer *w, const char *key, int32_t value);
void gguf_set_f32(struct gguf_writer *w, const char *key, float value);
void gguf_set_bool(struct gguf_writer *w, const char *key, bool value);
void gguf_set_string(struct gguf_writer *w, const char *key, const char *data, size_t length);
// `items` are `count` numbers of that type, native layout; not for strings.
void gguf_set_array(struct gguf_writer *w, const char *key, enum gguf_type item, const void *items,
                    uint64_t count);
void gguf_set_string_array(struct gguf_writer *w, const char *key, const struct gguf_string *items,
                           uint64_t count);
// Copies a value of any type from a file that is open.
void gguf_set_value(struct gguf_writer *w, struct gguf_string key, const struct gguf_value *value);

// Copies all keys of a file but those that say how it was split, or that hold for the numbers of its tensors as they are.
#define GGUF_KEYS_OF_NUMBERS "tinylm.activations."
void gguf_copy_metadata(struct gguf_writer *w, const struct gguf *from);

// Declares the next tensor; t->data is ignored, t's rows count as packed.
void gguf_add_tensor(struct gguf_writer *w, const char *name, const struct tensor *t);
// Appends bytes of the declared tensors' data, in order, in pieces of any size; padding is put behind each tensor.
// Errors: IO, MEMORY, ARGUMENT (more than was declared).
enum tlm_status gguf_write_data(struct gguf_writer *w, const void *data, size_t bytes, struct tlm_error *err);
// Checks that all data came, syncs and renames. Errors: IO, MEMORY, ARGUMENT (data missing).
enum tlm_status gguf_writer_finish(struct gguf_writer *w, struct tlm_error *err);

// A writer into memory; `name` is for messages. It ends with gguf_writer_take(), which checks that all data came and hands out
// the bytes for free(). Errors: MEMORY; also ARGUMENT (data missing).
enum tlm_status gguf_writer_open_memory(struct gguf_writer **out, const char *name, struct tlm_error *err);
enum tlm_status gguf_writer_take(struct gguf_writer *w, void **data, size_t *size, struct tlm_error *err);
// Or with what stands in front of the data alone, and how many bytes of data a file has behind it.
enum tlm_status gguf_writer_take_head(struct gguf_writer *w, void **head, size_t *size, size_t *data_bytes,
                                      struct tlm_error *err);

#endif
