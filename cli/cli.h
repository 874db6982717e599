// cli/cli.h -- what the subcommands share. Results go to stdout, all else to stderr.
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "tinylm.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

// argv[0] is the subcommand's name. Returns the exit code.
int command_generate(int argc, char **argv);
int command_chat(int argc, char **argv);
int command_train(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_info(int argc, char **argv);
int command_convert(int argc, char **argv);
int command_quantize(int argc, char **argv);
int command_imatrix(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_eval(int argc, char **argv);
int command_check(int argc, char **argv);
int eval_kld(int argc, char **argv); // of command_eval
int eval_types(int argc, char **argv);
int eval_sensitivity(int argc, char **argv);
int eval_diff(int argc, char **argv);
int command_template(int argc, char **argv);
int command_tokenizer(int argc, char **argv);
int command_data(int argc, char **argv);
int data_generate(int argc, char **argv); // of command_data

#endif
