// train/corpus.h -- the documents of files, one after the other: texts, and lines of JSON.
//
// A file whose name ends in .jsonl has a document a line: an object with a text in one of its fields, or a conversation in
// "messages". Any other file is one document, or several with a separator between them. Files are mapped, and what is handed out
// points into the map; lines are parsed by who wants them, so that threads can share that work.
#ifndef TRAIN_CORPUS_H
#define TRAIN_CORPUS_H

#include <jansson.h>

#include "core/error.h"

struct corpus_options {
    const char *separator; // between the documents of a text file; NULL or "": a file is a document
    const char *field;     // that holds the text of a line; NULL: "text"
};

struct corpus;

struct corpus_part { // a document as it stands in its file
    const char *data;
    size_t bytes;
    const char *path;
    int64_t line; // of a .jsonl file, from 1; 0: plain text
    bool whole;   // the whole of a text file
};

// The paths and options must outlive it. Errors: MEMORY.
enum tlm_status corpus_open(struct corpus **out, const char *const *paths, size_t count,
                            const struct corpus_options *options, struct tlm_error *err);
void corpus_close(struct corpus *c); // NULL is allowed
// The next document that is not empty; part->data is NULL behind the last one. It stays mapped until the first document of the
// next file has been asked for and corpus_release has been called. White space at the ends of separated documents is dropped.
// Errors: IO.
enum tlm_status corpus_next(struct corpus *c, struct corpus_part *part, struct tlm_error *err);
// Nothing that was handed out before is in use any more: files that were read to their ends are unmapped.
void corpus_release(struct corpus *c);
uint64_t corpus_bytes(const struct corpus *c); // that were handed out

struct corpus_document {
    const char *text; // NULL: a conversation
    size_t bytes;
    json_t *messages; // an array, owned by `json`
    json_t *json;     // NULL for plain text
};

// Parses a part. Errors: FORMAT (with the file and line), MEMORY.
enum tlm_status corpus_parse(struct corpus_document *out, const struct corpus_part *part,
                             const struct corpus_options *options, struct tlm_error *err);
void corpus_document_free(struct corpus_document *d);

#endif
