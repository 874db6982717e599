#include "cuda/jit.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cuda/kernel_cache.h"
#include "cuda/kernel_source.h"
#include "cuda/nvrtc.h"

// A form that was asked for.
struct made {
    struct jit_form form;
    struct cuda_kernel *kernel; // NULL: the program's own is taken
};

struct jit {
    struct cuda_device device;
    char *folder, *note;
    size_t note_size;
    struct nvrtc *nvrtc; // opened when the first kernel is to be compiled
    bool nvrtc_sought, held;
    struct made *made;
    int made_count;
    struct jit_counts counts;
};

struct jit *jit_open(const struct cuda_device *device, const char *folder, char *note, size_t note_size)
{
    struct jit *j = calloc(1, sizeof *j);
    if (j)
        *j = (struct jit){.device = *device, .folder = strdup(folder), .note = note, .note_size = note_size};
    if (j && j->folder) return j;
    jit_close(j);
    return NULL;
}

void jit_close(struct jit *j)
{
    if (!j) return;
    for (int i = 0; i < j->made_count; i++) cuda_kernel_unload(j->made[i].kernel);
    nvrtc_close(j->nvrtc);
    free(j->made);
    free(j->folder);
    free(j);
}

struct jit_counts jit_counts(const struct jit *j)
{
    return j->counts;
}

void jit_hold(struct jit *j, bool held)
{
    j->held = held;
}

static void tell(struct jit *j, const struct tlm_error *why)
{
    const size_t used = strlen(j->note);
    if (strstr(j->note, "kernels are not made")) return; // one reason will do
    snprintf(j->note + used, j->note_size - used, "%s%.180s; kernels are not made for the model's sizes",
             used ? "; " : "", why->text);
}

// ---- compiling --------------------------------------------------------------------------------------------

enum { MOST_OPTIONS = 16, MOST_TEXTS = 256 };

static int find_source(const char *file)
{
    for (int i = 0; i < kernel_source_count; i++)
        if (!strcmp(kernel_source_names[i], file)) return i;
    TLM_ASSERT(!"a file that the program carries");
    return 0;
}

// The architecture-specific features of 9.0 are what nvcc's code for it has, too.
static void architecture(char *to, size_t size, const struct cuda_device *d)
{
    snprintf(to, size, "-arch=sm_%d%d%s", d->major, d->minor, d->major == 9 ? "a" : "");
}

static enum tlm_status compile(struct jit *j, const struct jit_form *form, struct nvrtc_binary *out,
                               struct tlm_error *err)
{
    char arch[32], constants[sizeof form->constants];
    const char *options[MOST_OPTIONS] = {arch, "-std=c++20", "-default-device"};
    int count = 3;
    if (!j->nvrtc_sought) {
        j->nvrtc_sought = true;
        enum tlm_status s = nvrtc_open(&j->nvrtc, err);
        if (s) return s;
    }
    if (!j->nvrtc) return error_set(err, TLM_ERR_UNSUPPORTED, "NVRTC: not there");
    architecture(arch, sizeof arch, &j->device);
    memcpy(constants, form->constants, sizeof constants);
    for (char *rest, *at = strtok_r(constants, " ", &rest); at; at = strtok_r(NULL, " ", &rest)) {
        TLM_ASSERT(count < MOST_OPTIONS);
        options[count++] = at;
    }
    const struct nvrtc_program program = {.text = kernel_source_texts[find_source(form->file)],
                                          .names = kernel_source_names,
                                          .texts = kernel_source_texts,
                                          .files = kernel_source_count,
                                          .kernel = form->kernel,
                                          .options = options,
                                          .option_count = count};
    return nvrtc_compile(j->nvrtc, &program, out, err);
}

// ---- measuring --------------------------------------------------------------------------------------------

enum { LAUNCHES = 8, ROUNDS = 3 };

// Launches as decoding sends them: many as one, so that what the host takes for a launch is not measured. NULL: the default stream, which
// cannot be recorded.
static struct cuda_recording *record(struct cuda_stream *s, jit_launch_fn *launch, void *user,
                                     const struct cuda_kernel *kernel)
{
    cuda_record_begin(s);
    for (int i = 0; i < LAUNCHES; i++) launch(user, kernel);
    return cuda_record_end(s);
}

// Is the kernel faster than the program's own? The least of some rounds in turn counts. Weights that fit the device's cache stay there in
// between, for both alike.
static bool measure(const struct cuda_kernel *kernel, struct cuda_stream *s, jit_launch_fn *launch,
                    void *user)
{
    struct cuda_event *begin = cuda_event_open(), *end = cuda_event_open();
    const struct cuda_kernel *kernels[2] = {NULL, kernel};
    struct cuda_recording *recordings[2] = {record(s, launch, user, NULL), record(s, launch, user, kernel)};
    struct tlm_error err;
    bool well = begin && end;
    double best[2] = {1e9, 1e9};
    for (int i = 0; i < 2 * (ROUNDS + 1) && well; i++) {
        cuda_event_record(begin, s);
        if (recordings[0] && recordings[1])
            cuda_recording_run(recordings[i % 2], s);
        else
            for (int l = 0; l < LAUNCHES; l++) launch(user, kernels[i % 2]);
        cuda_event_record(end, s);
        well = !cuda_sync(s, &err);
        const double seconds = well ? cuda_event_seconds(begin, end) : 0;
        if (i >= 2 && seconds < best[i % 2]) best[i % 2] = seconds; // the first round loads the kernels
    }
    cuda_recording_free(recordings[0]), cuda_recording_free(recordings[1]);
    cuda_event_close(begin), cuda_event_close(end);
    return well && best[1] < best[0];
}

// ---- choosing ---------------------------------------------------------------------------------------------

static enum tlm_status path_of(const struct jit *j, const struct jit_form *form, char **path,
                               struct tlm_error *err)
{
    const char *texts[MOST_TEXTS] = {TLM_VERSION, form->file, form->kernel, form->constants, j->device.name};
    char arch[32];
    int count = 5;
    TLM_ASSERT(count + 1 + kernel_source_count <= MOST_TEXTS);
    architecture(arch, sizeof arch, &j->device);
    texts[count++] = arch;
    for (int i = 0; i < kernel_source_count; i++) texts[count++] = kernel_source_texts[i];
    return kernel_cache_path(path, j->folder, texts, count, err);
}

// From disk: false where it is not there, or not whole, or the driver does not take it.
static bool find_kept(struct jit *j, const char *path, struct cuda_kernel **kernel)
{
    struct kernel_file f;
    if (kernel_cache_read(&f, path, NULL)) return false;
    const bool well = !f.faster || !cuda_kernel_load(kernel, f.cubin, f.size, f.name, NULL);
    kernel_cache_close(&f);
    j->counts.found += well;
    return well;
}

static enum tlm_status make(struct jit *j, const struct jit_form *form, const char *path,
                            struct cuda_kernel **kernel, struct cuda_stream *s, jit_launch_fn *launch,
                            void *user, struct tlm_error *err)
{
    struct nvrtc_binary binary;
    enum tlm_status status = compile(j, form, &binary, err);
    if (status) return status;
    j->counts.compiled++;
    if (!(status = cuda_kernel_load(kernel, binary.cubin, binary.size, binary.name, err))) {
        const bool faster = measure(*kernel, s, launch, user);
        kernel_cache_write(path, binary.name, binary.cubin, binary.size, faster, NULL); // no disk, no loss
        if (!faster) {
            cuda_kernel_unload(*kernel);
            *kernel = NULL;
        }
    }
    free(binary.cubin), free(binary.name);
    return status;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const struct cuda_kernel *jit_choose(struct jit *j, const struct jit_form *form, struct cuda_stream *s,
                                     jit_launch_fn *launch, void *user)
{
    for (int i = 0; i < j->made_count; i++)
        if (!strcmp(j->made[i].form.kernel, form->kernel) &&
            !strcmp(j->made[i].form.constants, form->constants))
            return j->made[i].kernel;
    struct made *more = j->held ? NULL : realloc(j->made, (size_t)(j->made_count + 1) * sizeof *more);
    if (!more) return NULL;
    j->made = more;
    struct made *m = &more[j->made_count++];
    *m = (struct made){.form = *form};
    struct tlm_error err;
    char *path;
    const double begin = now();
    enum tlm_status status = path_of(j, form, &path, &err);
    if (!status && !find_kept(j, path, &m->kernel))
        status = make(j, form, path, &m->kernel, s, launch, user, &err);
    if (status) tell(j, &err);
    free(path);
    j->counts.chosen += m->kernel != NULL;
    j->counts.seconds += now() - begin;
    return m->kernel;
}
