// cli/bench_plot.c -- the tests of a run as a chart: a bar a test, as long as its share of the limit, with the quartiles.
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "core/file.h"

enum { LEFT = 330, WIDTH = 420, RIGHT = 230, ROW = 26, BAR = 16, TOP = 64, BOTTOM = 40 };

struct bench_plot {
    const char *path;
    char *bars; // SVG of the bars so far
    size_t bytes;
    FILE *memory; // writes to them
    size_t count;
    int colour;
    char model[128]; // of the last bar
};

enum tlm_status bench_plot_open(struct bench_plot **out, const char *path, struct tlm_error *err)
{
    struct bench_plot *p = calloc(1, sizeof *p);
    if (p) p->memory = open_memstream(&p->bars, &p->bytes);
    if (!p || !p->memory) {
        free(p);
        return error_set(err, TLM_ERR_MEMORY, "%s: no memory for a chart", path);
    }
    p->path = path;
    p->colour = -1;
    *out = p;
    return TLM_OK;
}

void bench_plot_close(struct bench_plot *p)
{
    if (!p) return;
    if (p->memory) fclose(p->memory);
    free(p->bars);
    free(p);
}

// With what has a meaning in XML escaped.
static void put_text(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (*text == '&' || *text == '<')
            fputs(*text == '&' ? "&amp;" : "&lt;", f);
        else if ((unsigned char)*text >= 0x20)
            putc(*text, f);
    }
}

// Small models live in the processor's caches and pass the limit of memory: their bars end a little behind it.
static double along(double share)
{
    return LEFT + (share < 1.02 ? share : 1.02) * WIDTH;
}

void bench_plot_add(struct bench_plot *p, const struct bench_result *r)
{
    static const char *const colours[] = {"#3b6fb6", "#d1793b", "#4a9a6a", "#9a5fb0", "#b04a56", "#7a7a52"};
    FILE *f = p->memory;
    double share = series_quantile(&r->share, 0.5), q1 = series_quantile(&r->share, 0.25);
    double q3 = series_quantile(&r->share, 0.75), y = TOP + (double)p->count++ * ROW, middle = y + BAR / 2.0;
    char name[48];
    if (p->colour < 0 || strcmp(p->model, r->model_type)) p->colour = (p->colour + 1) % 6;
    snprintf(p->model, sizeof p->model, "%s", r->model_type);
    fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 8, middle + 4);
    put_text(f, r->model_type);
    fprintf(f, " \302\267 ");
    put_text(f, bench_test_name(r, name, sizeof name));
    if (strcmp(r->type_k, "f16") || strcmp(r->type_v, "f16"))
        fprintf(f, " \302\267 kv %s/%s", r->type_k, r->type_v);
    fprintf(f, "</text>\n<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", LEFT, y,
            along(share) - LEFT, BAR, colours[p->colour]);
    fprintf(f, "<path d=\"M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8\" stroke=\"#222\" fill=\"none\"/>\n",
            along(q1), middle, along(q3), along(q1), middle - 4, along(q3), middle - 4);
    fprintf(f, "<text x=\"%d\" y=\"%.1f\">%.1f t/s, %.1f%% of %s</text>\n", LEFT + WIDTH + 20, middle + 4,
            series_mean(&r->samples_ts), 100 * share, bench_limit_name(r));
}

enum tlm_status bench_plot_write(struct bench_plot *p, struct tlm_error *err)
{
    bool failed = fclose(p->memory) != 0;
    p->memory = NULL;
    if (failed) return error_set(err, TLM_ERR_MEMORY, "%s: no memory for a chart", p->path);
    struct file_writer *w;
    enum tlm_status status = file_writer_open(&w, p->path, err);
    if (status) return status;
    int width = LEFT + WIDTH + RIGHT, bottom = TOP + (int)p->count * ROW, height = bottom + BOTTOM;
    char text[512];
#define PUT(...) file_writer_write(w, text, (size_t)snprintf(text, sizeof text, __VA_ARGS__))
    PUT("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
        "font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
        width, height, width, height);
    PUT("<text x=\"%d\" y=\"24\" font-size=\"15\">Share of the limit that was measured in turn</text>\n",
        LEFT);
    PUT("<text x=\"%d\" y=\"42\" fill=\"#666\">median, and the quartiles of the pairs</text>\n", LEFT);
    for (int i = 0; i <= 4; i++) {
        PUT("<path d=\"M%d %dV%d\" stroke=\"#ccc\"/>\n", LEFT + i * WIDTH / 4, TOP - 8, bottom);
        PUT("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" fill=\"#666\">%d%%</text>\n",
            LEFT + i * WIDTH / 4, bottom + 18, 25 * i);
    }
    file_writer_write(w, p->bars, p->bytes);
    PUT("</svg>\n");
#undef PUT
    return file_writer_finish(w, err);
}
