// tinylm.h -- the C API of tinylm: open a model, hand a session the tokens, read the next logits.
//
// A model is the loaded weights and vocabulary: immutable, and safe to share between threads. A session is one
// mutable timeline of tokens with its key-value cache and threads: one caller at a time. The caller always hands
// over the whole token prefix; tlm_session_sync() reuses what it can, drops what no longer fits, computes the rest.
//
// Every function that can fail returns a tlm_status and fills a tlm_error with one line of text: what, where,
// expected, found. No function prints, exits, or keeps a pointer that the caller passed in, unless it says so.
// Options structs: zero means the default, so `= {0}` is valid (for samplers start from tlm_sampler_defaults()).
//
//     struct tlm_error err;
//     struct tlm_model *model;
//     if (tlm_model_open(&model, "model.gguf", NULL, &err)) { fprintf(stderr, "%s\n", err.text); return 1; }
//
// docs/example.c is a whole program. Build: cc example.c libtinylm.a -ljansson -lpcre2-8 -lutf8proc -lm -lpthread
#ifndef TINYLM_H
#define TINYLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TLM_VERSION "0.1.0"

enum tlm_status {
    TLM_OK = 0,
    TLM_ERR_ARGUMENT,    // a value the caller gave: out of range, unknown name
    TLM_ERR_IO,          // the system refused to open, read, write, sync or rename
    TLM_ERR_FORMAT,      // a file that is truncated, corrupt or hostile
    TLM_ERR_UNSUPPORTED, // a valid file or request that this version does not handle
    TLM_ERR_MEMORY,      // not enough memory; the text has the numbers
    TLM_ERR_CONTEXT,     // more tokens than the session's context holds
    TLM_ERR_CANCELLED,   // a callback asked to stop
};

struct tlm_error {
    enum tlm_status code;
    char text[512]; // one line, no newline at its end
};

// ---- models -------------------------------------------------------------------------------------------

struct tlm_model;

struct tlm_model_options {
    const char *isa; // "auto" (default), "ref", "avx2", "avx512": the instruction sets that kernels may use
    bool vocab_only; // open the vocabulary alone; any architecture, no weights
    // "cpu" (default); "cuda": a GPU; "auto": a GPU where there is one that can run all of the model
    const char *backend;
    // Where GPUs run it: so many of the layers, the last, are theirs; 0: all
    int32_t gpu_layers;
    // Rules "REGEX=PLACE" or "REGEX=PLACE,REGEX=PLACE", of which the first that matches the name of a matrix says where that is: cpu, cuda
    // (where its layer is) or cuda:N, a GPU by its number. All others are where their layers are
    const char *const *tensor_placement;
    size_t tensor_placement_count;
    // Shares "3,1" of the layers, or of each of them, for GPUs 0, 1 ...; one without a share is not used. NULL: all, by the memory that they have free
    const char *tensor_split;
    // How several GPUs share a model: "layer" (default), whole layers; "row", parts of each layer's matrices and heads
    const char *split_mode;
};

// Maps the GGUF file `path` (the first of a split set stands for all), checks it, and makes it ready to run.
// Errors: IO, FORMAT, UNSUPPORTED (architecture, tensor type, ISA that this machine lacks), MEMORY.
enum tlm_status tlm_model_open(struct tlm_model **model, const char *path,
                               const struct tlm_model_options *options, struct tlm_error *err);
// The same for a GGUF file's `size` bytes at `data`, on a boundary of 32, which stay the caller's and there until the model is closed;
// `name` stands for them in messages.
enum tlm_status tlm_model_open_memory(struct tlm_model **model, const void *data, size_t size,
                                      const char *name, const struct tlm_model_options *options,
                                      struct tlm_error *err);
// Sessions on the model must be closed first. NULL is allowed.
void tlm_model_close(struct tlm_model *model);

int32_t tlm_model_vocab_size(const struct tlm_model *model);     // V, tokens
int32_t tlm_model_context_length(const struct tlm_model *model); // tokens the model was trained for
uint64_t tlm_model_bytes(const struct tlm_model *model);         // bytes of all weights
uint64_t tlm_model_parameters(const struct tlm_model *model);    // numbers in all weights
const char *
tlm_model_description(const struct tlm_model *model);     // "llama 1.2B BF16"; lives as long as the model
const char *tlm_model_isa(const struct tlm_model *model); // the tier that was chosen, "avx512-bf16"
// "cpu", or what else runs it: "cuda: NVIDIA H200, 140 GiB"; "cpu (why not the GPU)" where "auto" found no use for one
const char *tlm_model_backend(const struct tlm_model *model);
// A line about what is in place i, 0 the processor, 1 and on the GPUs, into text[size]: "cuda:1 (NVIDIA H200, 140 GiB): layers 16 to 31, 113
// matrices, 7204.1 MiB, the head". False where there is no such place.
bool tlm_model_place(const struct tlm_model *model, int32_t i, char *text, size_t size);
// -ln p of token `target` by (V) logits of the model, to the bit as training computes its loss.
double tlm_model_loss(const struct tlm_model *model, const float *logits, int32_t target);

// ---- tokens -------------------------------------------------------------------------------------------

enum tlm_tokenize_flags {
    TLM_ADD_BOS = 1,       // put the begin-of-sequence token first, if the model asks for one
    TLM_PARSE_SPECIAL = 2, // text such as "</s>" becomes the special token of that name
};

// Encodes `bytes` bytes of UTF-8 (any bytes are allowed) into at most `capacity` ids. *count receives the number of
// ids of the whole text, which may be more than capacity: call again with room.
enum tlm_status tlm_tokenize(const struct tlm_model *model, const char *text, size_t bytes, int flags,
                             int32_t *ids, size_t capacity, size_t *count, struct tlm_error *err);
enum tlm_detokenize_flags {
    TLM_SHOW_SPECIAL = 1, // also write the names of control tokens
    TLM_CONTINUE = 2,     // ids go on from earlier ones: keep the space that encoding puts in front of a text
};

// Decodes ids to bytes. *length receives the bytes of the whole text, which may be more than capacity; nothing is
// terminated by zero. Errors: ARGUMENT (an id outside 0..V-1).
enum tlm_status tlm_detokenize(const struct tlm_model *model, const int32_t *ids, size_t count, int flags,
                               char *text, size_t capacity, size_t *length, struct tlm_error *err);
int32_t tlm_token_bos(const struct tlm_model *model);                // -1 where the model has none
int32_t tlm_token_eos(const struct tlm_model *model);                // -1 where the model has none
bool tlm_token_is_end(const struct tlm_model *model, int32_t token); // ends an answer (eos, eot, eom)
bool tlm_adds_bos(const struct tlm_model *model);                    // what TLM_ADD_BOS will do

// ---- sessions -----------------------------------------------------------------------------------------

struct tlm_session;

struct tlm_session_options {
    int32_t context;       // tokens the cache holds; default: the model's context length, at most 4096
    int32_t threads;       // default: the processors this process may run on
    int32_t batch;         // rows a pass over the weights takes; default 512
    const char *kv_type_k; // of the cached keys: "f16" (default), "f32", "bf16", "f8_e4m3", "q8_0", "q4_0"
    const char *kv_type_v; // of the cached values, likewise
    // Pieces of the timeline of at least so many tokens that a new prompt has at another place (because thoughts were dropped in front of
    // them) are kept, their keys turned to the new positions. That saves computing, and is not exact: they have seen what was dropped.
    int32_t reuse_shifted; // default 0: never
};

// Errors: ARGUMENT, MEMORY (with the bytes asked for).
enum tlm_status tlm_session_open(struct tlm_session **session, const struct tlm_model *model,
                                 const struct tlm_session_options *options, struct tlm_error *err);
void tlm_session_close(struct tlm_session *session); // NULL is allowed

// Makes the session's timeline equal to tokens[0..count), reusing the longest common prefix, and computes the logits
// after its last token. Errors: ARGUMENT (count 0, an id outside the vocabulary), CONTEXT. After an error the
// timeline is a prefix of what it was.
enum tlm_status tlm_session_sync(struct tlm_session *session, const int32_t *tokens, size_t count,
                                 struct tlm_error *err);
// (V) logits after the last token of the last sync; valid until the next call on the session.
const float *tlm_session_logits(const struct tlm_session *session);

// Called once a token, in order: index in the prefix, and (V) logits that follow it. Nonzero stops with CANCELLED.
typedef int tlm_logits_fn(void *user, size_t index, const float *logits);
// Like sync, but reports the logits after each of tokens[first..count).
enum tlm_status tlm_session_logits_each(struct tlm_session *session, const int32_t *tokens, size_t count,
                                        size_t first, tlm_logits_fn *report, void *user,
                                        struct tlm_error *err);

// Tokens at the beginning of tokens[0..count) that the timeline has, so that no sync would compute them again.
size_t tlm_session_cached(const struct tlm_session *session, const int32_t *tokens, size_t count);
// Keeps of the cache what a sync to tokens[0..count) would reuse, that alone, and gives the rest of its memory back. count 0: nothing is
// kept.
void tlm_session_trim(struct tlm_session *session, const int32_t *tokens, size_t count);

// Writes the timeline and what the cache has of it to a file; an old one stays whole until the new one is. Errors: ARGUMENT (an empty
// timeline), IO, MEMORY.
enum tlm_status tlm_session_save(const struct tlm_session *session, const char *path, struct tlm_error *err);
// Makes the timeline that of the file, without computing anything. Errors: those of opening a GGUF file; ARGUMENT (another model, another
// type of cache), CONTEXT (more tokens than the context), UNSUPPORTED. After an error the timeline is as it was, or empty.
enum tlm_status tlm_session_load(struct tlm_session *session, const char *path, struct tlm_error *err);

struct tlm_session_info {
    int32_t context, threads, batch;         // as resolved
    int32_t length;                          // tokens on the timeline
    uint64_t kv_bytes;                       // key-value cache for the whole context
    uint64_t scratch_bytes;                  // activations, logits, step data
    uint64_t tokens_computed, tokens_reused; // since the session was opened
    uint64_t tokens_shifted;                 // of those reused, with turned keys
    uint64_t kv_bytes_held;                  // of the cache: by the timeline
    uint64_t kv_bytes_idle;                  // by earlier timelines, that may be found again
    uint64_t cache_asked, cache_found;       // tokens that earlier timelines were asked for, and had
    uint64_t cache_evicted;                  // blocks of theirs that were given up for others
};
struct tlm_session_info tlm_session_info(const struct tlm_session *session);
const struct tlm_model *tlm_session_model(const struct tlm_session *session);

// ---- grammars -----------------------------------------------------------------------------------------

// What answers may look like, ready for the vocabulary of a model. Immutable, and safe to share between threads.
struct tlm_grammar;

enum tlm_grammar_kind {
    TLM_GRAMMAR_GBNF,        // the grammars of llama.cpp; the answer is what the rule "root" describes
    TLM_GRAMMAR_JSON_SCHEMA, // the answer is JSON that the schema allows
    TLM_GRAMMAR_REGEX, // the whole answer matches the expression (ECMA-262, without look-around and back references)
};

// Errors: FORMAT (what, where, expected, found), UNSUPPORTED (a keyword or construct that cannot be followed; texts that the model's
// tokens cannot spell), MEMORY.
enum tlm_status tlm_grammar_open(struct tlm_grammar **grammar, const struct tlm_model *model,
                                 enum tlm_grammar_kind kind, const char *text, size_t bytes,
                                 struct tlm_error *err);
// Samplers with the grammar must be closed first. NULL is allowed.
void tlm_grammar_close(struct tlm_grammar *grammar);

// ---- sampling -----------------------------------------------------------------------------------------

struct tlm_sampler;

struct tlm_logit_bias {
    int32_t token;
    float bias; // added to the logit; -INFINITY forbids the token
};

// Start from tlm_sampler_defaults(): zero is not the default here, and `= {0}` is out of range (top_p, penalties).
struct tlm_sampler_options {
    const char *samplers;                 // order, names joined by ';'
                                          // default "penalties;dry;top_k;typ_p;top_p;min_p;xtc;temperature"
    uint64_t seed;                        // of the counter-based random numbers
    float temperature;                    // 0 is greedy
    int32_t top_k;                        // 0 off
    float top_p;                          // 1 off
    float min_p;                          // 0 off
    float typical_p;                      // 1 off
    float xtc_probability, xtc_threshold; // probability 0 off; threshold above 0.5 off
    float repeat_penalty;                 // 1 off
    float frequency_penalty, presence_penalty; // 0 off
    int32_t penalty_last_n;                    // tokens looked back; -1 all
    float dry_multiplier, dry_base;            // multiplier 0 off
    int32_t dry_allowed_length, dry_last_n;    // last_n -1 all
    const char *const *dry_breakers;           // strings that a repetition never crosses
    size_t dry_breaker_count;
    int32_t mirostat;                 // 0 off, 1, 2: then it alone follows the temperature
    float mirostat_tau, mirostat_eta; // target surprise in bits, learning rate
    const struct tlm_logit_bias *logit_bias;
    size_t logit_bias_count;
    bool ignore_end;                   // never draw a token that ends the answer; not with a grammar
    const struct tlm_grammar *grammar; // NULL: none; must outlive the sampler
};

struct tlm_sampler_options tlm_sampler_defaults(void);

// Copies the options. Errors: ARGUMENT (unknown sampler name, value out of range), MEMORY.
enum tlm_status tlm_sampler_open(struct tlm_sampler **sampler, const struct tlm_model *model,
                                 const struct tlm_sampler_options *options, struct tlm_error *err);
void tlm_sampler_close(struct tlm_sampler *sampler); // NULL is allowed
// Draws a token from (V) logits. The history for penalties is what tlm_sampler_accept() was told.
int32_t tlm_sampler_next(struct tlm_sampler *sampler, const float *logits);
// With a grammar the token is one of the answer.
void tlm_sampler_accept(struct tlm_sampler *sampler, int32_t token);
// Makes the history equal to tokens[0..count); the random numbers go on. With a grammar an answer begins behind them.
void tlm_sampler_set_history(struct tlm_sampler *sampler, const int32_t *tokens, size_t count);
// Forgets the history and starts the random numbers again.
void tlm_sampler_reset(struct tlm_sampler *sampler);

// ---- speculation -----------------------------------------------------------------------------------------

// Guesses tokens, several of which one pass then checks. The text is the same with and without: only the speed differs, and where
// guessing does not pay it rests.
struct tlm_drafter;

// Guesses that what followed the same tokens before follows again. Errors: MEMORY.
enum tlm_status tlm_drafter_open_lookup(struct tlm_drafter **drafter, struct tlm_error *err);
// Lets a smaller model with the same vocabulary as `target` guess. `session` and `sampler` are of that model, the sampler with the
// options of the one that will draw; both must outlive the drafter and serve nothing else meanwhile. Errors: ARGUMENT (another
// vocabulary), MEMORY.
enum tlm_status tlm_drafter_open_model(struct tlm_drafter **drafter, struct tlm_session *session,
                                       struct tlm_sampler *sampler, const struct tlm_model *target,
                                       struct tlm_error *err);
void tlm_drafter_close(struct tlm_drafter *drafter); // NULL is allowed

// ---- generation ---------------------------------------------------------------------------------------

enum tlm_finish {
    TLM_FINISH_LENGTH,
    TLM_FINISH_END,
    TLM_FINISH_STOP,
    TLM_FINISH_CONTEXT,
    TLM_FINISH_CANCELLED
};

// Called for each new token with the text that became certain: whole UTF-8 characters, maybe none (bytes 0), and
// nothing that may still turn out to be a stop string. At the end it is called once more with token -1 and what is
// left. Nonzero stops with TLM_FINISH_CANCELLED.
typedef int tlm_token_fn(void *user, int32_t token, const char *text, size_t bytes);
// Called after each pass over a part of the prompt: tokens in the cache, tokens in all. Nonzero stops with TLM_FINISH_CANCELLED.
typedef int tlm_prompt_fn(void *user, int32_t done, int32_t count);

struct tlm_generate_options {
    int32_t
        max_tokens; // new tokens; 0 until the answer ends or the context is full; -1 none, the prompt alone is computed
    const char *const *stop; // strings that end the answer and are not part of it
    size_t stop_count;
    bool special;                // write the names of control tokens
    struct tlm_drafter *drafter; // NULL: no guesses
    int32_t draft_max;           // tokens guessed at once; 0: what pays, at most 24
    tlm_token_fn *on_token;      // may be NULL
    tlm_prompt_fn *on_prompt;    // may be NULL
    void *user;
};

struct tlm_generate_result {
    enum tlm_finish finish;
    int32_t prompt_tokens, reused_tokens; // reused: of the prompt, not computed again
    int32_t new_tokens;
    int32_t drafted_tokens, accepted_tokens; // guessed; guessed right
    double prompt_seconds, new_seconds;      // the prompt pass; all that follows
    int32_t *tokens;                         // (prompt_tokens + new_tokens) the whole timeline; free() it
};

// Runs the prompt and draws tokens until one of the reasons in tlm_finish; penalties count the prompt too. An answer that a token ended has that
// token as its last. Errors: as tlm_session_sync(); ARGUMENT (fewer tokens than an answer of the sampler's grammar takes). *result is
// always valid to free.
enum tlm_status tlm_generate(struct tlm_session *session, struct tlm_sampler *sampler, const int32_t *prompt,
                             size_t count, const struct tlm_generate_options *options,
                             struct tlm_generate_result *result, struct tlm_error *err);

// ---- many answers at once -----------------------------------------------------------------------------

// A batch runs any number of requests over one cache: those that are running share every pass over the weights, prompts are read in
// chunks beside the steps of others, beginnings that requests have in common are computed and kept once, and where the cache is too
// small for all, the least important wait. No answer depends on its company: each has the text that tlm_generate() would give it.
// One caller at a time.
struct tlm_batch;

struct tlm_batch_options {
    int32_t parallel; // requests that run at once; default 8
    int32_t context;  // tokens of one request; default: the model's context length, at most 4096
    int32_t
        cache; // tokens the cache holds; default: parallel * context, or what half of the free memory holds
    int32_t threads, batch; // as in tlm_session_options
    const char *kv_type_k, *kv_type_v;
};

// Errors: ARGUMENT, MEMORY (with the bytes asked for).
enum tlm_status tlm_batch_open(struct tlm_batch **batch, const struct tlm_model *model,
                               const struct tlm_batch_options *options, struct tlm_error *err);
void tlm_batch_close(
    struct tlm_batch *batch); // requests that are not done are dropped without a word; NULL is allowed

// Called once a request, when its answer has ended; *result is the callee's, to free() its tokens. `user` is options->user.
typedef void tlm_done_fn(void *user, const struct tlm_generate_result *result);

// Adds a request and returns its number, from 1 on, in *id. Requests of higher priority come first, then those that were added first.
// `sampler` and options->drafter serve this request alone until it is done; both are the caller's. Errors: ARGUMENT, CONTEXT, MEMORY.
enum tlm_status tlm_batch_add(struct tlm_batch *batch, struct tlm_sampler *sampler, const int32_t *prompt,
                              size_t count, const struct tlm_generate_options *options, int32_t priority,
                              tlm_done_fn *done, int64_t *id, struct tlm_error *err);
// Ends the request with TLM_FINISH_CANCELLED; false where it is done already, or was never there.
bool tlm_batch_cancel(struct tlm_batch *batch, int64_t id);
// Runs one pass and calls the callbacks of those whose tokens it brought. Returns the requests that are left in *left.
// Errors: MEMORY, those of a drafter; all requests stay as they were before the pass or are done.
enum tlm_status tlm_batch_step(struct tlm_batch *batch, int64_t *left, struct tlm_error *err);

struct tlm_batch_info {
    int32_t parallel, context, cache, threads, batch; // as resolved
    int32_t running, waiting;
    uint64_t kv_bytes, kv_bytes_held;          // of the cache; of them, of tokens that requests hold
    uint64_t tokens_asked, tokens_found;       // of prompts; of them, found in the cache
    uint64_t passes, rows, preempted, evicted; // so far; evicted: blocks of 16 tokens
};
struct tlm_batch_info tlm_batch_info(const struct tlm_batch *batch);

#ifdef __cplusplus
}
#endif
#endif
