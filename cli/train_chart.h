// cli/train_chart.h -- the losses of a run as a chart, out of its log.
#ifndef CLI_TRAIN_CHART_H
#define CLI_TRAIN_CHART_H

#include <stdio.h>

#include "core/error.h"

// Writes a chart of log.jsonl as SVG: losses of batches as a line, averaged, and of validations as points. Lines that are not whole are left
// out, and of steps that were taken twice the last counts. A log without two losses makes none. Errors: IO, MEMORY.
enum tlm_status train_chart_write(const char *log, const char *svg, struct tlm_error *err);
// The same in letters, `columns` wide.
enum tlm_status train_chart_print(const char *log, FILE *to, int columns, struct tlm_error *err);

#endif
