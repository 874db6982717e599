#include "cli/train_chart.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

struct point {
    double step, loss;
};

struct curve {
    struct point *points;
    size_t count, room;
};

struct chart {
    struct curve batch, validation;
    double last, low, high; // step; losses
};

// Points come in rising steps, but for a run that went on from an earlier step: what it had done behind that is done again.
static enum tlm_status add_point(struct curve *c, double step, double loss, struct tlm_error *err)
{
    while (c->count && c->points[c->count - 1].step >= step) c->count--;
    if (c->count == c->room) {
        size_t room = c->room ? 2 * c->room : 256;
        struct point *more = realloc(c->points, room * sizeof *more);
        if (!more) return error_set(err, TLM_ERR_MEMORY, "chart: no memory for %zu losses", room);
        c->points = more, c->room = room;
    }
    c->points[c->count++] = (struct point){step, loss};
    return TLM_OK;
}

static enum tlm_status add_line(struct chart *c, const char *line, size_t bytes, struct tlm_error *err)
{
    json_t *j = json_loadb(line, bytes, 0, NULL), *step = json_object_get(j, "step");
    json_t *loss = json_object_get(j, "loss"), *validation = json_object_get(j, "validation_loss");
    enum tlm_status s = TLM_OK;
    if (json_is_number(step) && json_is_number(loss))
        s = add_point(&c->batch, json_number_value(step), json_number_value(loss), err);
    if (!s && json_is_number(step) && json_is_number(validation))
        s = add_point(&c->validation, json_number_value(step), json_number_value(validation), err);
    json_decref(j);
    return s;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// From the lowest loss to what all but the first hundredth stay below, so that the beginning does not flatten the rest.
static enum tlm_status scale(struct chart *c, struct tlm_error *err)
{
    size_t count = c->batch.count + c->validation.count;
    double *all = malloc((count + 1) * sizeof *all);
    if (!all) return error_set(err, TLM_ERR_MEMORY, "chart: no memory for %zu losses", count);
    for (size_t i = 0; i < c->batch.count; i++) all[i] = c->batch.points[i].loss;
    for (size_t i = 0; i < c->validation.count; i++) all[c->batch.count + i] = c->validation.points[i].loss;
    qsort(all, count, sizeof *all, rising);
    if (count) c->low = all[0], c->high = all[(count - 1) - (count - 1) / 100];
    if (!(c->high > c->low)) c->high = c->low + 1;
    double room = (c->high - c->low) * 0.04;
    c->low -= room, c->high += room;
    for (int i = 0; i < 2; i++) {
        const struct curve *v = i ? &c->validation : &c->batch;
        if (v->count && v->points[v->count - 1].step > c->last) c->last = v->points[v->count - 1].step;
    }
    free(all);
    return TLM_OK;
}

static void chart_free(struct chart *c)
{
    free(c->batch.points);
    free(c->validation.points);
}

static enum tlm_status chart_read(struct chart *c, const char *log, struct tlm_error *err)
{
    char *text;
    size_t size;
    *c = (struct chart){0};
    enum tlm_status s = file_read(log, &text, &size, err);
    if (s) return s;
    for (const char *at = text, *end; !s && (end = memchr(at, '\n', size - (size_t)(at - text)));
         at = end + 1)
        s = add_line(c, at, (size_t)(end - at), err);
    free(text);
    if (!s) s = scale(c, err);
    if (s) chart_free(c);
    return s;
}

// The mean of a point and of those up to a fiftieth of all in front of it.
static double smooth(const struct curve *c, size_t i)
{
    size_t span = c->count / 50 + 1, first = i + 1 > span ? i + 1 - span : 0;
    double sum = 0;
    for (size_t j = first; j <= i; j++) sum += c->points[j].loss;
    return sum / (double)(i + 1 - first);
}

// A step of 1, 2 or 5 times a power of ten that cuts `span` into about five.
static double tick(double span)
{
    double power = pow(10, floor(log10(span / 5))), part = span / 5 / power;
    return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

// ---- SVG ----------------------------------------------------------------------------------------------

enum { LEFT = 64, TOP = 40, WIDTH = 640, HEIGHT = 320, RIGHT = 24, BOTTOM = 48 };

static double x_of(const struct chart *c, double step)
{
    return LEFT + step / c->last * WIDTH;
}

static double y_of(const struct chart *c, double loss)
{
    double share = (c->high - loss) / (c->high - c->low);
    return TOP + (share < 0 ? 0 : share > 1 ? 1 : share) * HEIGHT;
}

static void put_axes(FILE *f, const struct chart *c)
{
    double every = tick(c->high - c->low), steps = tick(c->last);
    for (double v = ceil(c->low / every) * every; v <= c->high; v += every)
        fprintf(
            f,
            "<path d='M%d %.1fh%d' stroke='#e0e0e0'/><text x='%d' y='%.1f' text-anchor='end'>%.4g</text>\n",
            LEFT, y_of(c, v), WIDTH, LEFT - 8, y_of(c, v) + 4, v);
    for (double v = 0; v <= c->last; v += steps)
        fprintf(f, "<text x='%.1f' y='%d' text-anchor='middle'>%.0f</text>\n", x_of(c, v), TOP + HEIGHT + 20,
                v);
    fprintf(f, "<text x='%d' y='%d' text-anchor='middle'>step</text>\n", LEFT + WIDTH / 2, TOP + HEIGHT + 40);
    fprintf(f, "<path d='M%d %dv%dh%d' fill='none' stroke='#808080'/>\n", LEFT, TOP, HEIGHT, WIDTH);
}

static void put_chart(FILE *f, const struct chart *c)
{
    fprintf(f,
            "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='sans-serif' "
            "font-size='12' "
            "fill='#303030'>\n<rect width='100%%' height='100%%' fill='white'/>\n",
            LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM);
    put_axes(f, c);
    fputs("<path fill='none' stroke='#4878a8' stroke-width='1.5' d='", f);
    for (size_t i = 0; i < c->batch.count; i++)
        fprintf(f, "%c%.1f %.1f", i ? 'L' : 'M', x_of(c, c->batch.points[i].step),
                y_of(c, smooth(&c->batch, i)));
    fputs("'/>\n", f);
    for (size_t i = 0; i < c->validation.count; i++)
        fprintf(f, "<circle cx='%.1f' cy='%.1f' r='3' fill='#d06030'/>\n",
                x_of(c, c->validation.points[i].step), y_of(c, c->validation.points[i].loss));
    fprintf(f, "<text x='%d' y='24'>loss in nats a token: <tspan fill='#4878a8'>batches", LEFT);
    if (c->validation.count)
        fprintf(f, "</tspan>, <tspan fill='#d06030'>validation, at last %.4f",
                c->validation.points[c->validation.count - 1].loss);
    fputs("</tspan></text>\n</svg>\n", f);
}

enum tlm_status train_chart_write(const char *log, const char *svg, struct tlm_error *err)
{
    struct chart c;
    struct file_writer *w;
    char *text = NULL;
    size_t bytes = 0;
    enum tlm_status s = chart_read(&c, log, err);
    if (s) return s;
    FILE *f = c.batch.count + c.validation.count > 1 ? open_memstream(&text, &bytes) : NULL;
    if (f) {
        put_chart(f, &c);
        if (fclose(f)) s = error_set(err, TLM_ERR_MEMORY, "%s: no memory for a chart", svg);
        if (!s && !(s = file_writer_open(&w, svg, err))) {
            file_writer_write(w, text, bytes);
            s = file_writer_finish(w, err);
        }
    }
    free(text);
    chart_free(&c);
    return s;
}

// ---- letters ------------------------------------------------------------------------------------------

enum { ROWS = 12, MOST = 200, MARGIN = 9 };

static void mark(char grid[ROWS][MOST], const struct chart *c, int columns, double step, double loss,
                 char letter)
{
    double share = (c->high - loss) / (c->high - c->low);
    int x = (int)(step / c->last * (columns - 1)), y = (int)(share * ROWS);
    if (x >= 0 && x < columns) grid[y < 0 ? 0 : y >= ROWS ? ROWS - 1 : y][x] = letter;
}

enum tlm_status train_chart_print(const char *log, FILE *to, int columns, struct tlm_error *err)
{
    struct chart c;
    char grid[ROWS][MOST];
    enum tlm_status s = chart_read(&c, log, err);
    if (s) return s;
    columns = (columns - MARGIN < MOST ? columns - MARGIN : MOST) - 1;
    if (c.batch.count + c.validation.count > 1 && columns > 8) {
        memset(grid, ' ', sizeof grid);
        for (size_t i = 0; i < c.batch.count; i++)
            mark(grid, &c, columns, c.batch.points[i].step, smooth(&c.batch, i), '.');
        for (size_t i = 0; i < c.validation.count; i++)
            mark(grid, &c, columns, c.validation.points[i].step, c.validation.points[i].loss, 'o');
        for (int r = 0; r < ROWS; r++) {
            double middle = c.high - (r + 0.5) / ROWS * (c.high - c.low);
            if (r % 4)
                fprintf(to, "        |%.*s\n", columns, grid[r]);
            else
                fprintf(to, "%7.3f |%.*s\n", middle, columns, grid[r]);
        }
        fprintf(to, "        0 .. step %.0f; . batches, o validation\n", c.last);
    }
    chart_free(&c);
    return s;
}
