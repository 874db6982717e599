// tinylm.c -- main(): the table of subcommands, nothing else.
#include <stdio.h>
#include <string.h>

#include "cli/common.h"

static const struct {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"generate", "continue a text", command_generate},
    {"chat", "talk with a model", command_chat},
    {"train", "make a model, or train one further", command_train},
    {"convert", "a Hugging Face folder to a GGUF file, and back", command_convert},
    {"quantize", "a model file in a smaller type", command_quantize},
    {"imatrix", "which columns of a model's matrices matter", command_imatrix},
    {"bench", "measure speed beside the machine's limits", command_bench},
    {"eval", "perplexity, logits, where two models part", command_eval},
    {"check", "examine a model: numbers, shapes, tokenizer, template", command_check},
    {"tokenize", "text to token ids and back", command_tokenize},
    {"tokenizer", "make a vocabulary of texts", command_tokenizer},
    {"data", "corpora for training", command_data},
    {"template", "render a chat template", command_template},
    {"info", "what is in a model file; what this machine can do", command_info},
};

static void usage(FILE *to)
{
    fprintf(to, "tinylm " TLM_VERSION
                ": language models on hand-written kernels\n\nusage: tinylm COMMAND [OPTION ...]\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(to, "\n'tinylm COMMAND --help' lists the options of a command.\n");
}

// The exit code behind words on stdout that no command printed.
static int said(void)
{
    if (!fflush(stdout) && !ferror(stdout)) return EXIT_DONE;
    perror("tinylm: standard output");
    return EXIT_FAILED;
}

int main(int argc, char **argv)
{
    common_keep_standard_files();
    const char *name = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(name, commands[i].name)) return commands[i].run(argc - 1, argv + 1);
    if (!strcmp(name, "--version")) {
        puts("tinylm " TLM_VERSION);
        return said();
    }
    if (!strcmp(name, "help") || !strcmp(name, "--help") || !strcmp(name, "-h")) {
        usage(stdout);
        return said();
    }
    if (argc > 1) fprintf(stderr, "tinylm: no command '%s'\n\n", name);
    usage(stderr);
    return EXIT_USAGE;
}
