#include "cli/drafting.h"

const struct option drafting_options[DRAFTING_OPTION_COUNT] = {
    {"--lookup", NULL, OPTION_FLAG, offsetof(struct drafting_args, lookup),
     .help = "guess that what followed the same tokens before follows again, and check the guesses several "
             "at once. "
             "The text stays the same; answers that repeat their prompt come faster. Default: off."},
    {"-md, --model-draft", "FILE", OPTION_STRING, offsetof(struct drafting_args, model),
     .help =
         "let this smaller model with the same vocabulary guess. The text stays the same. Default: none."},
    {"--draft-max", "N", OPTION_INT, offsetof(struct drafting_args, most), .low = 0, .high = 24,
     .help = "tokens guessed at once, at most. Default: 0, what is measured to pay."},
};

int drafting_open(const struct command_line *line, const struct drafting_args *args,
                  const struct sampling_args *sampling, const struct session_args *session,
                  const struct tlm_model *target, struct drafting *d)
{
    struct tlm_error err;
    *d = (struct drafting){0};
    if (args->lookup && args->model)
        return options_wrong(line, "expected one of --lookup and -md, found both");
    if (args->lookup)
        return tlm_drafter_open_lookup(&d->drafter, &err) ? common_failed(line, &err) : OPTIONS_GO;
    if (!args->model) return OPTIONS_GO;
    struct model_args model = {.path = args->model, .isa = tlm_model_isa(target)};
    struct sampling_args same = *sampling; // with the seed that was drawn
    same.seed = (int64_t)(sampling->options.seed & INT64_MAX);
    int code = common_open_model(line, &model, false, &d->model);
    if (code == OPTIONS_GO) code = sampling_open(line, &same, d->model, &d->sampler);
    if (code == OPTIONS_GO) code = common_open_session(line, d->model, session, &d->session);
    if (code == OPTIONS_GO && tlm_drafter_open_model(&d->drafter, d->session, d->sampler, target, &err))
        code = common_failed(line, &err);
    return code;
}

void drafting_close(struct drafting *d)
{
    tlm_drafter_close(d->drafter);
    tlm_session_close(d->session);
    tlm_sampler_close(d->sampler);
    tlm_model_close(d->model);
}
