// cli/info.c -- tinylm info: what is in a model file; without one, what this machine can do.
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cli/builtin.h"
#include "cli/common.h"
#include "core/cpu.h"
#include "core/gguf.h"
#include "models/hf.h"
#include "ops/backend.h"
#include "quant/composite.h"

enum { STRING_WIDTH = 72, ARRAY_ITEMS = 4, ITEM_WIDTH = 16 };

// ---- metadata -----------------------------------------------------------------------------------------

static void print_number(const struct gguf_value *v, uint64_t i)
{
    if (v->item == GGUF_BOOL)
        printf("%s", gguf_value_i64(v, i) ? "true" : "false");
    else if (v->item == GGUF_F32)
        printf("%.9g", gguf_value_f64(v, i));
    else if (v->item == GGUF_F64)
        printf("%.17g", gguf_value_f64(v, i));
    else if (v->item == GGUF_U64 && gguf_value_i64(v, i) == INT64_MAX)
        printf(">=%" PRId64, INT64_MAX); // the reader saturates
    else
        printf("%" PRId64, gguf_value_i64(v, i));
}

static void print_string(struct gguf_string s, size_t width)
{
    char shown[STRING_WIDTH + 1];
    printf("\"%s\"", gguf_printable(s, shown, width + 1));
}

// String i of an array, walking from the one before; the container has checked that lengths stay inside.
static struct gguf_string next_string(const uint8_t **at)
{
    struct gguf_string s;
    memcpy(&s.length, *at, sizeof s.length);
    s.data = (const char *)*at + sizeof s.length;
    *at += sizeof s.length + s.length;
    return s;
}

// "u32 4096", "string[32000] "<unk>", "<s>", ..."
static void print_value(const struct gguf_value *v)
{
    bool array = v->type == GGUF_ARRAY;
    char type[48];
    if (array)
        snprintf(type, sizeof type, "%s[%" PRIu64 "]", gguf_type_traits[v->item].name, v->count);
    else
        snprintf(type, sizeof type, "%s", gguf_type_traits[v->item].name);
    printf("%-14s", type);
    if (v->item == GGUF_ARRAY) return; // arrays of arrays: their count says enough
    uint64_t shown = v->count < ARRAY_ITEMS ? v->count : ARRAY_ITEMS;
    const uint8_t *at = v->data;
    for (uint64_t i = 0; i < shown; i++) {
        printf(i ? ", " : " ");
        if (v->item == GGUF_STRING)
            print_string(next_string(&at), array ? ITEM_WIDTH : STRING_WIDTH);
        else
            print_number(v, i);
    }
    if (shown < v->count) printf(", ...");
}

static void print_metadata(const struct gguf *g)
{
    int width = 0;
    char name[STRING_WIDTH + 1];
    for (uint64_t i = 0; i < g->key_count; i++) {
        int n = (int)strlen(gguf_printable(g->keys[i].name, name, sizeof name));
        if (n > width) width = n;
    }
    printf("\n%" PRIu64 " keys\n", g->key_count);
    for (uint64_t i = 0; i < g->key_count && !common_output_broken(); i++) {
        printf("  %-*s  ", width, gguf_printable(g->keys[i].name, name, sizeof name));
        print_value(&g->keys[i].value);
        putchar('\n');
    }
}

// ---- tensors ------------------------------------------------------------------------------------------

// "2048 x 32000": columns first, as GGUF writes shapes; axes of 1 at the end are left out.
static void shape_text(const struct tensor *t, char *text, size_t size)
{
    int dims = TENSOR_MAX_DIMS;
    while (dims > 1 && t->ne[dims - 1] == 1) dims--;
    size_t used = 0;
    for (int i = 0; i < dims && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i ? " x " : "", t->ne[i]);
}

static void print_tensors(const struct gguf *g)
{
    int width = 0;
    char name[STRING_WIDTH + 1], shape[96];
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        int n = (int)strlen(gguf_printable(g->tensors[i].name, name, sizeof name));
        if (n > width) width = n;
    }
    printf("\n%" PRIu64 " tensors: type, shape (columns first), bytes\n", g->tensor_count);
    for (uint64_t i = 0; i < g->tensor_count && !common_output_broken(); i++) {
        const struct tensor *t = &g->tensors[i].tensor;
        shape_text(t, shape, sizeof shape);
        printf("  %-*s  %-8s %-20s %14zu\n", width, gguf_printable(g->tensors[i].name, name, sizeof name),
               dtype_traits[t->type].name, shape, composite_file_bytes(t->type, t));
    }
}

// Numbers and bytes, for each type and together.
static void print_totals(const struct gguf *g)
{
    uint64_t tensors[DTYPE_COUNT] = {0}, bytes[DTYPE_COUNT] = {0}, numbers = 0, all = 0;
    char size[16];
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        const struct tensor *t = &g->tensors[i].tensor;
        tensors[t->type]++;
        bytes[t->type] += composite_file_bytes(t->type, t);
        numbers += (uint64_t)tensor_elements(t);
        all += composite_file_bytes(t->type, t);
    }
    printf("\ntotal\n");
    for (int type = 0; type < DTYPE_COUNT; type++)
        if (tensors[type])
            printf("  %-8s %6" PRIu64 " tensors  %14" PRIu64 " bytes  (%s)\n", dtype_traits[type].name,
                   tensors[type], bytes[type], common_human_bytes(bytes[type], size, sizeof size));
    printf("  %-8s %6" PRIu64 " tensors  %14" PRIu64 " bytes  (%s), %" PRIu64 " parameters", "all",
           g->tensor_count, all, common_human_bytes(all, size, sizeof size), numbers);
    if (numbers) printf(", %.2f bits each", 8.0 * (double)all / (double)numbers);
    putchar('\n');
}

static int info_model(const struct command_line *line, const char *path)
{
    struct gguf *g;
    struct tlm_error err;
    if (model_file_open(&g, path, MODEL_SHAPES, &err)) return common_failed(line, &err);
    uint64_t bytes = 0;
    char size[16];
    for (int i = 0; i < g->file_count; i++) bytes += g->files[i].size;
    printf("%s\n", path);
    common_human_bytes(bytes, size, sizeof size);
    if (g->files[0].map)
        printf("GGUF version %" PRIu32 ", %d file%s, %" PRIu64 " bytes (%s), alignment %" PRIu64 "\n",
               g->version, g->file_count, g->file_count == 1 ? "" : "s", bytes, size, g->alignment);
    else
        printf("Hugging Face folder, %" PRIu64
               " bytes of weights (%s), shown as the GGUF file it would become\n",
               bytes, size);
    print_metadata(g);
    print_tensors(g);
    print_totals(g);
    gguf_close(g);
    return EXIT_DONE;
}

// ---- the machine --------------------------------------------------------------------------------------

// The rest of the first line of `path` that starts with `key`, without the colon and blanks; false where
// there is none.
static bool find_line(const char *path, const char *key, char *value, size_t size)
{
    FILE *f = fopen(path, "re");
    bool found = false;
    char line[512];
    while (f && !found && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, strlen(key))) continue;
        const char *rest = line + strlen(key);
        rest += strspn(rest, " \t:");
        snprintf(value, size, "%.*s", (int)strcspn(rest, "\n"), rest);
        found = true;
    }
    if (f) fclose(f);
    return found;
}

static void print_memory(void)
{
    char size[16];
    uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
             available = memory_available();
    printf("memory     %s", common_human_bytes(total, size, sizeof size));
    if (available) printf(", %s available", common_human_bytes(available, size, sizeof size));
    putchar('\n');
}

// What there is beside the processor, or why there is nothing.
static void print_backends(void)
{
    struct backend *cuda;
    struct tlm_error err;
    const int count = cuda_backend_count();
    char size[16];
    if (!count) {
        if (cuda_backend_open(&cuda, 0, &err)) printf("backends   cpu; %s\n", err.text);
        return;
    }
    for (int i = 0; i < count; i++) {
        const char *name = i ? "          " : "backends   cpu,";
        if (cuda_backend_open(&cuda, i, &err)) {
            printf("%s %s\n", name, err.text);
            continue;
        }
        printf("%s cuda:%d: %s, %s available\n", name, i, cuda->device,
               common_human_bytes(cuda->available, size, sizeof size));
        cuda->class->close(cuda);
    }
}

static int info_machine(void)
{
    char name[128] = "unknown", size[16];
    enum isa best = isa_detect();
    find_line("/proc/cpuinfo", "model name", name, sizeof name);
    printf("tinylm     %s\n", TLM_VERSION);
    printf("processor  %s\n", name);
    printf("cores      %d for this process, %ld online\n", cpu_count(), sysconf(_SC_NPROCESSORS_ONLN));
    printf("isa        ");
    for (enum isa i = ISA_REF; i <= best; i++)
        if (isa_supported(i)) printf("%s ", isa_name(i));
    printf("(auto takes %s); f64 as an oracle\n", isa_name(best));
    print_backends();
    print_memory();
    printf("model      %s, %s, is built in; scripts/get_model.sh downloads public ones\n", BUILTIN_NAME,
           common_human_bytes(builtin_bytes(), size, sizeof size));
    return EXIT_DONE;
}

int command_info(int argc, char **argv)
{
    struct model_args model = {0};
    static const struct option options[] = {
        {"-m, --model", "FILE", OPTION_STRING, offsetof(struct model_args, path),
         .help = "the same as the operand. Default: none, which shows the machine."},
    };
    const struct option_group groups[] = {OPTION_GROUP("Options:", options, &model)};
    const struct command_line line = {
        "info",
        "[MODEL]",
        "Shows the metadata and the tensors of a GGUF file (of a split set: of all its "
        "files) or of a Hugging Face folder; without a file, what this machine has and which instruction "
        "sets the "
        "kernels take.",
        groups,
        1,
        NULL};
    const char *path = NULL;
    size_t count;
    int code = options_parse(&line, argc, argv, &path, 1, &count);
    if (code == OPTIONS_GO) {
        if (model.path && path)
            return options_wrong(&line, "expected one model, found '%s' and '%s'", model.path, path);
        if (model.path) path = model.path;
        code = path ? info_model(&line, path) : info_machine();
    }
    return code == EXIT_USAGE ? code : common_finish_output(&line, code);
}
