#include "cuda/nvrtc.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

// Of nvrtc.h: what we call.
struct program;
typedef int create_fn(struct program **, const char *text, const char *name, int files,
                      const char *const *texts, const char *const *names);
typedef int destroy_fn(struct program **);
typedef int compile_fn(struct program *, int count, const char *const *options);
typedef int add_name_fn(struct program *, const char *expression);
typedef int lowered_name_fn(struct program *, const char *expression, const char **name);
typedef int size_fn(struct program *, size_t *bytes);
typedef int get_fn(struct program *, char *to);
typedef const char *error_fn(int);

struct nvrtc {
    create_fn *create;
    destroy_fn *destroy;
    compile_fn *compile;
    add_name_fn *add_name;
    lowered_name_fn *lowered_name;
    size_fn *log_size, *cubin_size;
    get_fn *log, *cubin;
    error_fn *error;
};

// The library of built-in functions is sought by the compiler itself, beside it and where the program's own libraries are.
static void *open_library(void)
{
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so",
                                        "/usr/local/cuda/lib64/libnvrtc.so"};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}

enum tlm_status nvrtc_open(struct nvrtc **out, struct tlm_error *err)
{
    *out = NULL;
    void *library = open_library();
    if (!library)
        return error_set(err, TLM_ERR_UNSUPPORTED, "NVRTC: no libnvrtc.so.13 or .12 on this machine");
    struct nvrtc n = {
        .create = (create_fn *)dlsym(library, "nvrtcCreateProgram"),
        .destroy = (destroy_fn *)dlsym(library, "nvrtcDestroyProgram"),
        .compile = (compile_fn *)dlsym(library, "nvrtcCompileProgram"),
        .add_name = (add_name_fn *)dlsym(library, "nvrtcAddNameExpression"),
        .lowered_name = (lowered_name_fn *)dlsym(library, "nvrtcGetLoweredName"),
        .log_size = (size_fn *)dlsym(library, "nvrtcGetProgramLogSize"),
        .cubin_size = (size_fn *)dlsym(library, "nvrtcGetCUBINSize"),
        .log = (get_fn *)dlsym(library, "nvrtcGetProgramLog"),
        .cubin = (get_fn *)dlsym(library, "nvrtcGetCUBIN"),
        .error = (error_fn *)dlsym(library, "nvrtcGetErrorString"),
    };
    if (!n.create || !n.destroy || !n.compile || !n.add_name || !n.lowered_name || !n.log_size ||
        !n.cubin_size || !n.log || !n.cubin || !n.error)
        return error_set(err, TLM_ERR_UNSUPPORTED, "NVRTC: the library lacks a function of version 12");
    if (!(*out = malloc(sizeof **out))) return error_set(err, TLM_ERR_MEMORY, "NVRTC: no memory");
    **out = n;
    return TLM_OK;
}

void nvrtc_close(struct nvrtc *n)
{
    free(n); // the library stays, as cuBLAS does
}

// The line of the log that has the first error, or what the number means.
static enum tlm_status complain(const struct nvrtc *n, struct program *program, int failure,
                                const char *kernel, struct tlm_error *err)
{
    size_t size = 0;
    char *log = n->log_size(program, &size) ? NULL : malloc(size + 1);
    if (log && !n->log(program, log)) {
        log[size] = '\0';
        char *line = strstr(log, "error");
        if (line) {
            while (line > log && line[-1] != '\n') line--;
            line[strcspn(line, "\n")] = '\0';
            for (char *c = line; *c; c++) // for whoever quotes it
                if (*c == '"') *c = '\'';
            error_set(err, TLM_ERR_UNSUPPORTED, "NVRTC: %.60s: %.350s", kernel, line);
            free(log);
            return TLM_ERR_UNSUPPORTED;
        }
    }
    free(log);
    return error_set(err, TLM_ERR_UNSUPPORTED, "NVRTC: %.60s: %s", kernel, n->error(failure));
}

static enum tlm_status take_binary(const struct nvrtc *n, struct program *program, const char *kernel,
                                   struct nvrtc_binary *out, struct tlm_error *err)
{
    const char *name = NULL;
    int failure = n->lowered_name(program, kernel, &name);
    if (!failure) failure = n->cubin_size(program, &out->size);
    if (failure) return complain(n, program, failure, kernel, err);
    out->cubin = malloc(out->size), out->name = strdup(name);
    if (!out->cubin || !out->name) return error_set(err, TLM_ERR_MEMORY, "NVRTC: no memory");
    failure = n->cubin(program, out->cubin);
    return failure ? complain(n, program, failure, kernel, err) : TLM_OK;
}

enum tlm_status nvrtc_compile(struct nvrtc *n, const struct nvrtc_program *p, struct nvrtc_binary *out,
                              struct tlm_error *err)
{
    struct program *program = NULL;
    *out = (struct nvrtc_binary){0};
    int failure = n->create(&program, p->text, "kernel.cu", p->files, p->texts, p->names);
    if (failure) return error_set(err, TLM_ERR_UNSUPPORTED, "NVRTC: %s", n->error(failure));
    failure = n->add_name(program, p->kernel);
    if (!failure) failure = n->compile(program, p->option_count, p->options);
    enum tlm_status s = failure ? complain(n, program, failure, p->kernel, err)
                                : take_binary(n, program, p->kernel, out, err);
    n->destroy(&program);
    if (s) {
        free(out->cubin), free(out->name);
        *out = (struct nvrtc_binary){0};
    }
    return s;
}
