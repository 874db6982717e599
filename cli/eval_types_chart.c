// cli/eval_types_chart.c -- types of weights as points: how far they take a model from itself, by the bits that they spend.
#include <math.h>
#include <string.h>

#include "cli/eval_types.h"
#include "core/file.h"

enum { LEFT = 84, TOP = 56, WIDTH = 640, HEIGHT = 400, RIGHT = 60, BOTTOM = 56 };

struct scale {
    double bits_low, bits_high, log_low, log_high; // log10 of divergences
};

static double x_of(const struct scale *s, double bits)
{
    return LEFT + (bits - s->bits_low) / (s->bits_high - s->bits_low) * WIDTH;
}

static double y_of(const struct scale *s, double kl)
{
    return TOP + (s->log_high - log10(kl)) / (s->log_high - s->log_low) * HEIGHT;
}

// Whole bits, and a little room around the divergences. Rows without a divergence are not drawn.
static struct scale scale_of(const struct types_row *rows, size_t count)
{
    struct scale s = {INFINITY, -INFINITY, INFINITY, -INFINITY};
    for (size_t i = 0; i < count; i++) {
        if (!(rows[i].d.kl.value > 0)) continue;
        double log_kl = log10(rows[i].d.kl.value);
        s.bits_low = fmin(s.bits_low, floor(rows[i].bits - 0.3)); // with room for a name
        s.bits_high = fmax(s.bits_high, ceil(rows[i].bits));
        s.log_low = fmin(s.log_low, log_kl - 0.15);
        s.log_high = fmax(s.log_high, log_kl + 0.15);
    }
    if (!(s.bits_low <= s.bits_high)) s = (struct scale){1, 8, -4, 0};
    if (s.bits_low == s.bits_high) s.bits_high++;
    return s;
}

static void put_axes(FILE *f, const struct scale *s)
{
    for (double b = s->bits_low; b <= s->bits_high; b++)
        fprintf(f,
                "<path d='M%.1f %dv%d' stroke='#eee'/><text x='%.1f' y='%d' "
                "text-anchor='middle'>%.0f</text>\n",
                x_of(s, b), TOP, HEIGHT, x_of(s, b), TOP + HEIGHT + 20, b);
    for (int power = (int)floor(s->log_low); power <= (int)ceil(s->log_high); power++)
        for (int step = 1; step < 10; step++) {
            double kl = step * pow(10, power), at = log10(kl);
            if (at < s->log_low || at > s->log_high) continue;
            fprintf(f, "<path d='M%d %.1fh%d' stroke='%s'/>\n", LEFT, y_of(s, kl), WIDTH,
                    step == 1 ? "#ccc" : "#f0f0f0");
            if (step == 1 || step == 2 || step == 5)
                fprintf(f, "<text x='%d' y='%.1f' text-anchor='end'>%g</text>\n", LEFT - 8, y_of(s, kl) + 4,
                        kl);
        }
    fprintf(f, "<path d='M%d %dv%dh%d' fill='none' stroke='#808080'/>\n", LEFT, TOP, HEIGHT, WIDTH);
    fprintf(f, "<text x='%d' y='%d' text-anchor='middle'>bits a weight</text>\n", LEFT + WIDTH / 2,
            TOP + HEIGHT + 42);
}

static const char *const colours[TYPES_METHODS] = {"#4878a8", "#d1793b", "#4a9a6a", "#9a5aa0"};

// Points of one type stand above each other: the lowest bears the name.
static bool named(const struct types_row *rows, size_t count, size_t i)
{
    for (size_t j = 0; j < count; j++)
        if (rows[j].d.kl.value > 0 && !strcmp(rows[j].type, rows[i].type) &&
            (rows[j].d.kl.value < rows[i].d.kl.value || (rows[j].d.kl.value == rows[i].d.kl.value && j < i)))
            return false;
    return rows[i].d.kl.value > 0;
}

// Does another name stand where this one would, to the left and a little below?
static bool crowded(const struct scale *s, const struct types_row *rows, size_t count, size_t i)
{
    double x = x_of(s, rows[i].bits), y = y_of(s, rows[i].d.kl.value);
    for (size_t j = 0; j < count; j++) {
        if (j == i || !named(rows, count, j)) continue;
        double left = x - x_of(s, rows[j].bits), below = y_of(s, rows[j].d.kl.value) - y;
        if (left >= 0 && left < 100 && fabs(below) < 20) return true;
    }
    return false;
}

static void put_point(FILE *f, const struct scale *s, const struct types_row *rows, size_t count, size_t i)
{
    const struct types_row *r = &rows[i];
    const char *colour = colours[r->method];
    double kl = r->d.kl.value, x = x_of(s, r->bits), y = y_of(s, kl);
    double low = fmax(kl - r->d.kl.error, pow(10, s->log_low)), high = kl + r->d.kl.error;
    fprintf(f, "<path d='M%.1f %.1fV%.1f' stroke='%s'/>\n", x, y_of(s, low), y_of(s, high), colour);
    fprintf(f, "<circle cx='%.1f' cy='%.1f' r='4' fill='%s'/>\n", x, y, colour);
    if (!named(rows, count, i)) return;
    bool right = crowded(s, rows, count, i);
    fprintf(f, "<text x='%.1f' y='%.1f' text-anchor='%s' font-size='11'>%s</text>\n", right ? x + 7 : x - 7,
            right ? y - 6 : y + 14, right ? "start" : "end", r->type);
}

// The methods that rows are of, each in its colour.
static void put_legend(FILE *f, const struct types_row *rows, size_t count)
{
    fprintf(f, "<text x='%d' y='40' fill='#606060'>lines: standard errors", LEFT);
    for (int m = 0; m < TYPES_METHODS; m++) {
        bool any = false;
        for (size_t i = 0; i < count; i++) any |= rows[i].method == m;
        if (any) fprintf(f, "<tspan dx='12' fill='%s'>%s</tspan>", colours[m], types_methods[m]);
    }
    fputs("</text>\n", f);
}

static void put_chart(FILE *f, const char *model, const struct types_row *rows, size_t count)
{
    struct scale s = scale_of(rows, count);
    fprintf(f,
            "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='sans-serif' "
            "font-size='12' fill='#303030'>\n<rect width='100%%' height='100%%' fill='white'/>\n",
            LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM);
    fprintf(f, "<text x='%d' y='22' font-size='15'>KL divergence from %s, nats a token</text>\n", LEFT,
            model);
    put_legend(f, rows, count);
    put_axes(f, &s);
    for (size_t i = 0; i < count; i++)
        if (rows[i].d.kl.value > 0) put_point(f, &s, rows, count, i);
    fputs("</svg>\n", f);
}

enum tlm_status types_chart_write(const char *path, const char *model, const struct types_row *rows,
                                  size_t count, struct tlm_error *err)
{
    char *text = NULL;
    size_t bytes = 0;
    struct file_writer *w;
    FILE *f = open_memstream(&text, &bytes);
    if (f) put_chart(f, model, rows, count);
    enum tlm_status status = TLM_OK;
    if (!f || fclose(f)) status = error_set(err, TLM_ERR_MEMORY, "%.300s: no memory for a chart", path);
    if (!status && !(status = file_writer_open(&w, path, err))) {
        file_writer_write(w, text, bytes);
        status = file_writer_finish(w, err);
    }
    free(text);
    return status;
}
