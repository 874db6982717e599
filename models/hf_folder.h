// models/hf_folder.h -- the parts of reading and writing Hugging Face folders that models/hf*.c and `tinylm convert` share.
// Everybody else includes models/hf.h.
#ifndef MODELS_HF_FOLDER_H
#define MODELS_HF_FOLDER_H

#include "core/json.h"
#include "core/safetensors.h"
#include "models/hf.h"
#include "models/hf_quantized.h"

// ---- the plan of a folder's tensors (models/hf_tensors.c), their numbers (models/hf_parts.c) -----------

// How a tensor comes out of the folder. A stack of experts has a part an expert; all else is one part.
struct hf_tensor {
    char name[96];       // in GGUF
    struct tensor shape; // type and shape in GGUF; no data. The type may be changed before hf_make_part
    const struct weight_spec *spec; // NULL where config.json holds the numbers:
    float *values;                  // (shape.ne[0]), divisors of rotary frequencies
    int64_t parts;
    const struct safetensors_tensor *
        *sources; // [parts], or [1] whose slices along its first axis are the parts
    bool sliced;
    int half; // of experts that transformers stored fused: 1 the upper half of a slice's rows, 2 the lower, 0 all
    const struct safetensors_tensor *scales; // of MXFP4 blocks; NULL: numbers
};

struct hf_folder {
    char *path;
    json_t *config; // config.json; of a model of several kinds of input the part about text
    const struct arch *arch;
    const struct hf_variant *variant;
    struct gguf *keys; // metadata alone, as the converted file has it
    void *keys_data;   // that `keys` points into
    size_t keys_size;
    struct hparams hparams;
    bool has_other_inputs; // images or sound, whose tensors are left out
    struct safetensors *weights;
    struct hf_quantization quantization;
    struct hf_quantized_set quantized;
    struct hf_tensor *tensors;
    size_t tensor_count;
    struct kernels kernels; // that convert numbers
};

// Opens and checks all of a folder but the numbers. Errors: as hf_open().
enum tlm_status hf_folder_open(struct hf_folder **out, const char *path, struct tlm_error *err);
void hf_folder_close(struct hf_folder *f); // NULL is allowed
// Fills in `tensors` from `weights`. Errors: FORMAT, UNSUPPORTED, MEMORY.
enum tlm_status hf_plan_tensors(struct hf_folder *f, struct tlm_error *err);

static inline bool hf_is_experts(enum transform transform)
{
    return transform == TRANSFORM_EXPERT_EVEN || transform == TRANSFORM_EXPERT_ODD ||
           transform == TRANSFORM_EXPERT_PLAIN;
}

// Vectors, and matrices that other engines want in single precision.
bool hf_is_single(const struct hf_tensor *t);
// Errors: FORMAT, where a tensor of GGUF has not the shape of its row in the table.
enum tlm_status hf_check_shape(const struct hparams *h, const struct weight_spec *spec, const char *name,
                               const struct tensor *t, struct tlm_error *err);
size_t hf_part_bytes(const struct hf_tensor *t);
// The tensor's own bytes in the mapped file, where they need no change at all; else NULL.
const void *hf_part_mapped(const struct hf_folder *f, const struct hf_tensor *t, int64_t part);
// Writes one part in the type of t->shape to `out`. Errors: MEMORY.
enum tlm_status hf_make_part(const struct hf_folder *f, const struct hf_tensor *t, int64_t part, void *out,
                             struct tlm_error *err);
void hf_drop_part(const struct hf_folder *f, const struct hf_tensor *t, int64_t part);

// models/hf_numbers.c: the kernels that convert numbers here, and `count` numbers `from` one type to F32, F16 or BF16, plus `add`.
// `in` may stand at any byte; quantized ones are whole blocks.
struct kernels hf_kernels(void);
void hf_convert_numbers(const struct kernels *k, enum dtype type, void *out, enum dtype from, const void *in,
                        int64_t count, float add);

// Writes a name of the table with its layer and its expert in place of the first and the second %d.
void hf_expand_name(char *out, size_t size, const char *pattern, int64_t layer, int64_t expert);

// ---- metadata (models/hf_config.c) --------------------------------------------------------------------

// ARCH.* by the variant's table. Errors: FORMAT.
enum tlm_status hf_import_keys(struct gguf_writer *w, const char *arch, const struct hf_variant *v,
                               const json_t *config, struct tlm_error *err);
// The shortest decimal number that rounds to x in single precision: 1e-05, which a file holds as 9.99999974e-06.
double hf_short_number(double x);
// tokenizer.* of the folder's files, nothing where it has none; tokens are padded to `vocab`. Errors: as
// tokenizer_open_folder().
// hf_copy_tokenizer: the same of a tokenizer that is open. Errors: MEMORY.
enum tlm_status hf_copy_tokenizer(struct gguf_writer *w, const struct tokenizer *t, int64_t vocab,
                                  struct tlm_error *err);
enum tlm_status hf_write_tokenizer(struct gguf_writer *w, const char *folder, const json_t *config,
                                   int64_t vocab, struct tlm_error *err);

// ---- transforms (models/hf_transform.c) ---------------------------------------------------------------

// A matrix of a folder and its counterpart in GGUF, rows by columns. Vectors that a transform takes apart have one column.
struct hf_matrix {
    enum transform transform;
    const struct hparams *hparams;
    int64_t rows, cols;           // in the folder
    int64_t row_first, row_count; // of these rows only: a half of fused experts
    bool bias;                    // of experts, a row each
};

// The shape that a tensor of `dims` sides `shape` (rows first) has in GGUF, ne[0..3]. Errors: FORMAT, with `name` in front.
enum tlm_status hf_transform_shape(enum transform transform, const struct hparams *h, const char *name,
                                   int dims, const int64_t *shape, int64_t ne[TENSOR_MAX_DIMS],
                                   struct tlm_error *err);
// The shape in the folder of what has the shape ne in GGUF; `dims` of that: 1 a vector, 3 a stack. Returns its number of sides.
int hf_transform_folder_shape(enum transform transform, const struct hparams *h, int dims,
                              const int64_t ne[TENSOR_MAX_DIMS], int64_t shape[SAFETENSORS_MAX_DIMS]);
// Copies numbers of `bytes` (2, 4, 8) bytes from the folder's order to GGUF's, or back: what one direction reads is what the other
// writes.
void hf_transform_move(const struct hf_matrix *m, void *folder, void *gguf, size_t bytes, bool to_gguf);
// Blocks of 16 bytes and scales of a stack of experts (out, in / 32) to rows of GGUF's MXFP4.
void hf_transform_mxfp4(enum transform transform, const uint8_t *blocks, const uint8_t *scales,
                        int64_t outputs, int64_t row_blocks, uint8_t *out);

// ---- the way back (models/hf_export_config.c, models/hf_export_tokenizer.c) ---------------------------

// Writes folder/config.json and folder/generation_config.json. Errors: FORMAT, UNSUPPORTED, IO, MEMORY.
enum tlm_status hf_write_config(const struct gguf *g, const struct arch *arch, const struct hf_variant *v,
                                enum dtype type, const char *folder, struct tlm_error *err);
// Writes folder/tokenizer.json and folder/tokenizer_config.json; nothing where the file has no tokenizer. Errors: also those of
// tokenizer_open().
enum tlm_status hf_write_tokenizer_files(const struct gguf *g, const char *folder, struct tlm_error *err);
// Writes folder/name. Takes `json`, NULL for memory that was missing. Errors: IO, MEMORY.
enum tlm_status hf_write_json(const char *folder, const char *name, json_t *json, struct tlm_error *err);

// ---- rotary positions (models/hf_rope.c) --------------------------------------------------------------

enum { HF_ROPE_FREQS, HF_ROPE_SHORT, HF_ROPE_LONG, HF_ROPE_TABLES };
extern const char *const hf_rope_tables[HF_ROPE_TABLES]; // their names in GGUF
// Fills out[pairs] with the divisors of a table; *found says whether config.json has it. Errors: FORMAT.
enum tlm_status hf_rope_table(const json_t *config, int table, int64_t pairs, float *out, bool *found,
                              struct tlm_error *err);

#endif
