#!/bin/sh
# Tests the command line as a person or a script meets it: options, errors, pipes, exit codes, Ctrl-C.
#
#     tests/test_cli.sh TINYLM MODEL.gguf        the program, and a small model with a SentencePiece vocabulary
#
# Prints a line a failed check and a summary; exit 1 on failure. With ../shared beside the repository, a model that was
# really trained must write its known text, too.
set -u
[ $# = 2 ] || { echo "usage: tests/test_cli.sh TINYLM MODEL.gguf" >&2; exit 2; }

case $1 in */*) tinylm=$1 ;; *) tinylm=./$1 ;; esac
model=$2
[ -x "$tinylm" ] && [ -f "$model" ] || { echo "test_cli: no program '$tinylm', or no model '$model'" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
stories=$root/../shared/models/stories260K
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
out=$work/out err=$work/err
XDG_DATA_HOME=$work/data HOME=$work
export XDG_DATA_HOME HOME

checks=0
failures=0
what=
bad() { failures=$((failures + 1)); echo "FAIL $what: $*"; sed 's/^/    stderr: /' "$err" | head -n 5; }
# run STATUS ARGUMENTS...: tinylm must end with STATUS; standard input is the caller's.
run()
{
    want=$1; shift
    what="tinylm $*"
    checks=$((checks + 1))
    found=0
    "$tinylm" "$@" >"$out" 2>"$err" || found=$?
    [ "$found" = "$want" ] || bad "exit $found instead of $want"
}
says() { grep -q -e "$1" "$err" || bad "stderr lacks '$1'"; }
prints() { grep -q -e "$1" "$out" || bad "stdout lacks '$1'"; }
lines() { [ "$(wc -l <"$2")" -eq "$1" ] || bad "$2 has not $1 lines"; }
is() { [ "$(cat "$out")" = "$1" ] || bad "stdout is not '$1'"; }
# Wrong usage: exit 2, nothing on stdout, a line that says what, a hint.
wrong()
{
    pattern=$1; shift
    run 2 "$@" </dev/null
    says "$pattern"; says "'tinylm .* --help' lists the options"; lines 2 "$err"; lines 0 "$out"
}
# A failure: exit 1 and one line.
fails()
{
    pattern=$1; shift
    run 1 "$@" </dev/null
    says "$pattern"; lines 1 "$err"
}

# ---- help and wrong usage

for command in generate chat tokenize info bench eval; do
    run 0 "$command" --help </dev/null
    prints "^usage: tinylm $command"; lines 0 "$err"
done
run 0 --help; prints generate
run 0 --version; prints '^tinylm [0-9]'
run 2; says usage; lines 0 "$out"
run 2 genrate; says "no command 'genrate'"

# Without -m the model that is built in answers.
run 0 generate -p 'Once upon a time' -n 8 --temp 0 --stats none; [ -s "$out" ] || bad "no text"
cp "$out" "$work/builtin"
run 0 generate -m models/pretrained/tinylm-stories-q4_0.gguf -p 'Once upon a time' -n 8 --temp 0 --stats none
cmp -s "$out" "$work/builtin" || bad "other text than by the file"
run 0 info; prints '^model  *tinylm-stories, '
wrong "no option '--tmp'; did you mean '--temp'" generate --tmp 0
wrong "no option '--xyzzyxyzzy'" generate --xyzzyxyzzy=3
wrong '-n: expected N behind it, found nothing' generate -m "$model" -n
wrong "-n: expected a whole number of at least -1, found '4k'" generate -n 4k
wrong "-n: expected a whole number of at least -1, found '-2'" generate -n -2
wrong "--predict: expected a whole number .* found ''" generate --predict=
wrong "-n: expected a whole number .* found '99999999999'" generate -n 99999999999
wrong "--top-p: expected a number from 0 to 1, found '1.5'" generate --top-p 1.5
wrong "--temp: expected a number of at least 0, found 'nan'" generate --temp=nan
wrong "expected standard input for one of the prompt and --grammar, found both" generate --grammar -
wrong "expected standard input for one of --in and --json-schema, found both" generate --in - --json-schema -
wrong "--stats: expected text, json or none, found 'xml'" generate --stats xml
wrong "--echo: expected no value, found 'yes'" generate --echo=yes
wrong "--isa: expected auto, .*, found 'sse'" generate --isa sse
wrong "expected options only, found 'stray'" generate -m "$model" stray
wrong "expected options only, found '-n'" generate -m "$model" -- -n
wrong 'expected one of -p and -f, found both' generate -m "$model" -p a -f b
wrong 'found "nothing"' generate -m "$model" -p a --samplers 'top_k;nothing'
wrong 'top_p' generate -m "$model" -p a --top-p 0
wrong "--logit-bias: .* found '5'" generate -m "$model" -p a --logit-bias 5
wrong 'expected a token from 0' generate -m "$model" -p a --logit-bias 999999+1
wrong 'expected at most 1 operand' info a b

# ---- models that are not there, or none

for command in generate chat tokenize info; do
    fails 'No such file' "$command" -m "$work/absent.gguf"
    fails 'config.json\|tokenizer.json' "$command" -m "$work"
    fails 'device' "$command" -m /dev/null
    echo 'not a model' >"$work/text.gguf"
    fails "$work/text.gguf" "$command" -m "$work/text.gguf"
    head -c 5000 "$model" >"$work/cut.gguf"
    fails "$work/cut.gguf" "$command" -m "$work/cut.gguf"
done

# ---- tokenize

printf 'Hello w\303\266rld\n' >"$work/text"
run 0 tokenize -m "$model" <"$work/text"
lines 1 "$out"; lines 0 "$err"
grep -Eqx '[0-9]+( [0-9]+)*' "$out" || bad "stdout is no line of ids"
cp "$out" "$work/ids"
run 0 tokenize -m "$model" --decode <"$work/ids"
cmp -s "$out" "$work/text" || bad "decoding does not give the text back"
# Any bytes go there and back: zero bytes, broken UTF-8, no newline at the end.
printf '\000\377\303(\n\n tail \342\202' >"$work/text"
run 0 tokenize -m "$model" <"$work/text"; cp "$out" "$work/ids"
run 0 tokenize -m "$model" --decode <"$work/ids"
cmp -s "$out" "$work/text" || bad "decoding does not give the bytes back"
run 0 tokenize -m "$model" </dev/null; is ''; lines 1 "$out"
run 0 tokenize -m "$model" --decode </dev/null; lines 0 "$out"
printf '</s>' >"$work/text"
run 0 tokenize -m "$model" --special <"$work/text"; is 2
run 0 tokenize -m "$model" <"$work/text"; [ "$(cat "$out")" != 2 ] || bad "plain text became a special token"
for ids in '1 x' '1,2' '-1' '99999999999999999999' '1e2'; do
    echo "$ids" >"$work/ids"
    run 1 tokenize -m "$model" --decode <"$work/ids"; says 'expected a token'; lines 1 "$err"; lines 0 "$out"
done
echo 3 999999 >"$work/ids"
run 1 tokenize -m "$model" --decode <"$work/ids"; says 'token 1: expected an id'

# ---- backends: a machine without a GPU, or a build without CUDA, runs on the processor and says why

run 0 generate -m "$model" -p x -n 2 --backend auto; says 'backend: c'
run 2 generate -m "$model" -p x -n 2 --backend tpu; says 'backend'
run 1 generate -m "$model" -p x -n 2 -ot attn_q=gpu; says 'tensor placement: expected REGEX=PLACE'; lines 1 "$err"
run 0 generate -m "$model" -p x -n 2 --backend auto -ot 'attn_[qk]{1}=cpu,ffn_down=cpu' -ts 1; says 'backend: c'

# ---- info

run 0 info; prints '^processor'; prints '^isa .*auto takes'; prints '^backends.*cpu'
run 0 info "$model"; prints 'general.architecture .*"llama"'; prints '^  token_embd.weight .* x '; prints ' parameters'
cp "$out" "$work/info"
run 0 info -m "$model"; cmp -s "$out" "$work/info" || bad "-m MODEL differs from MODEL"

# ---- generate

greedy="-m $model -t 1 --temp 0 -s 1"
# shellcheck disable=SC2086 # $greedy is a list of words
{
    run 0 generate $greedy -p 'Hello there' -n 8 </dev/null; lines 1 "$err"; says 'finish: length; seed: 1$'
    cp "$out" "$work/first"
    run 0 generate $greedy --prompt='Hello there' --predict=8 --stats none </dev/null
    lines 0 "$err"; cmp -s "$out" "$work/first" || bad "the same options gave another text"
    printf 'Hello there\n' >"$work/prompt"
    run 0 generate $greedy -n 8 <"$work/prompt"; cmp -s "$out" "$work/first" || bad "standard input differs from -p"
    run 0 generate $greedy -n 8 -f "$work/prompt" </dev/null; cmp -s "$out" "$work/first" || bad "-f differs from -p"
    run 0 generate $greedy -n 8 -f - <"$work/prompt"; cmp -s "$out" "$work/first" || bad "-f - differs from -p"
    run 0 generate $greedy -n 8 -e -p 'Hello\x20there' </dev/null; cmp -s "$out" "$work/first" || bad "-e differs"
    run 0 generate $greedy -n 8 -b 1 -p 'Hello there' </dev/null; cmp -s "$out" "$work/first" || bad "-b 1 differs"
    run 0 generate $greedy -n 8 -t 2 -p 'Hello there' </dev/null; cmp -s "$out" "$work/first" || bad "-t 2 differs"
    run 0 generate $greedy -n 8 --echo -p 'Hello there' </dev/null
    { printf 'Hello there'; cat "$work/first"; } | cmp -s - "$out" || bad "--echo is not prompt and answer"
    run 0 generate $greedy -n 0 -p 'Hello there' </dev/null; lines 0 "$out"; says 'new: 0 tokens'
    run 0 generate $greedy -n 8 -p 'Hello there' --stats json </dev/null; lines 1 "$err"
    for name in prompt_tokens reused_tokens prompt_seconds prompt_tokens_per_second new_tokens new_seconds \
        new_tokens_per_second finish seed context threads isa; do says "\"$name\": "; done
    says '"new_tokens": 8,.*"finish": "length", "seed": 1,'

    # A stop string, cut out of the text that came before: the answer ends in front of it.
    stop=$(tail -c 3 "$work/first")
    run 0 generate $greedy -n 8 -p 'Hello there' -r "$stop" -r 'never there' </dev/null
    says 'finish: stop'; case $(cat "$out") in *"$stop"*) bad "the stop string was written" ;; esac

    fails 'context' generate $greedy -c 4 -p 'a prompt that is longer than four tokens'
    run 0 generate $greedy -c 16 -p 'Hi' --ignore-eos </dev/null; says 'finish: context'
    fails 'absent' generate $greedy -f "$work/absent"
}
# The same seed draws the same text; without -s the seed is another each time.
run 0 generate -m "$model" -p Hello -n 20 -t 1 -s 5 </dev/null; cp "$out" "$work/first"
run 0 generate -m "$model" -p Hello -n 20 -t 1 -s 5 </dev/null; cmp -s "$out" "$work/first" || bad "another text"
run 0 generate -m "$model" -p Hello -n 1 -t 1 </dev/null; seed=$(grep -o 'seed: .*' "$err")
run 0 generate -m "$model" -p Hello -n 1 -t 1 </dev/null; [ "$(grep -o 'seed: .*' "$err")" != "$seed" ] || bad "the same seed"
# Every option of sampling is taken.
run 0 generate -m "$model" -p Hello -n 5 -t 1 -s 1 --top-k 5 --top-p 0.9 --min-p 0 --typical 0.9 --repeat-penalty 1.1 \
    --repeat-last-n -1 --frequency-penalty -0.1 --presence-penalty 0.1 --dry-multiplier 1 --dry-base 2 \
    --dry-allowed-length 1 --dry-penalty-last-n 32 --dry-sequence-breaker x --xtc-probability 0.5 --xtc-threshold 0.1 \
    --samplers 'top_k;temperature' --logit-bias 5+1.5 --logit-bias 6-inf </dev/null
run 0 generate -m "$model" -p Hello -n 5 -t 1 --mirostat 2 --mirostat-ent 4 --mirostat-lr 0.2 -ctk f32 -ctv bf16 </dev/null

# ---- outputs that break

what='/dev/full'
if [ -w /dev/full ]; then
    for command in 'generate -p Hi -n 5 --stats none' 'chat -n 5' 'tokenize' 'info' 'info --help'; do
        checks=$((checks + 1)) what="tinylm $command >/dev/full" found=0
        # shellcheck disable=SC2086 # a list of words
        echo Hi | "$tinylm" $command -m "$model" >/dev/full 2>"$err" || found=$?
        [ "$found" = 1 ] || bad "exit $found instead of 1"
        says 'cannot write to standard output: No space left'; lines 1 "$err"
    done
fi
checks=$((checks + 1)) what='closed standard output' found=0
"$tinylm" generate -m "$model" -p Hi -n 5 --stats none >&- 2>"$err" </dev/null || found=$?
[ "$found" = 1 ] || bad "exit $found instead of 1"
says 'cannot write'
# A reader that has seen enough is no failure: silence.
checks=$((checks + 2)) what='generate | head'
{ "$tinylm" generate -m "$model" -p Hi -n 200 --ignore-eos --stats none </dev/null 2>"$err"; echo $? >"$work/code"; } | head -c 1 >"$out"
lines 0 "$err"; [ "$(cat "$work/code")" = 0 ] || bad "exit $(cat "$work/code") instead of 0"
what='chat | head'
{ for i in 1 2 3 4 5 6 7 8 9; do echo "message $i"; done | "$tinylm" chat -m "$model" -n 5 -c 4096 2>"$err"; echo $? >"$work/code"; } | head -c 1 >"$out"
lines 0 "$err"; [ "$(cat "$work/code")" = 0 ] || bad "exit $(cat "$work/code") instead of 0"

# ---- Ctrl-C: what was written counts, the statistics come, exit 0

checks=$((checks + 1)) what='generate and SIGINT' found=0
rm "$out" "$err" # what earlier runs wrote must not pass for a beginning
"$tinylm" generate -m "$model" -p Hi -c 1000000 -t 1 --ignore-eos >"$out" 2>"$err" </dev/null &
pid=$!
tries=0
until [ -s "$out" ] || [ "$tries" = 200 ]; do tries=$((tries + 1)); sleep 0.05; done
kill -INT "$pid"
{ sleep 20; kill -KILL "$pid"; } >/dev/null 2>&1 &
guard=$!
wait "$pid" || found=$?
kill "$guard"
[ "$found" = 0 ] || bad "exit $found instead of 0"
says 'finish: cancelled'

# ---- chat through a pipe

chat() # STATUS OPTIONS... < messages
{
    want=$1; shift
    checks=$((checks + 1)) found=0 what="tinylm chat $*"
    "$tinylm" chat -m "$model" -t 1 -s 1 "$@" <"$work/messages" >"$out" 2>"$err" || found=$?
    [ "$found" = "$want" ] || bad "exit $found instead of $want"
}
printf 'Hello\n\n  \nTwo \\\nlines\n' >"$work/messages"
chat 0 -n 4 --stats json
lines 2 "$err"; says '"reused_tokens": 0,'; [ "$(wc -l <"$out")" -ge 2 ] || bad "no line an answer"
case $(cat "$out") in *'> '*) bad "a prompt in a pipe" ;; esac
grep -q "$(printf '\033')" "$out" "$err" && bad "an escape sequence in a pipe"
second=$(sed -n '2s/.*"reused_tokens": \([0-9]*\),.*/\1/p' "$err")
[ "${second:-0}" -gt 0 ] || bad "the second turn reused nothing"

printf '/help\n/stats\n/clear\n/what\n/quit\nHello\n' >"$work/messages"
chat 0 -n 4; lines 0 "$out"; says '^/clear'; says 'turns: 0'; says 'starts again'; says "no command '/what'"
printf 'one\ntwo\nthree\nfour\nfive\nsix\n' >"$work/messages"
chat 0 -n 4 -c 96 --system 'A system text.'; says 'the context of 96 tokens is full: dropped the oldest'
{ i=0; while [ "$i" -lt 300 ]; do printf 'word '; i=$((i + 1)); done; echo; echo Hello; } >"$work/messages"
chat 1 -n 4 -c 96; says 'message: expected fewer than the 96 tokens'; [ "$(wc -l <"$out")" -ge 1 ] || bad "no answer after the error"
printf 'no newline' >"$work/messages"
chat 0 -n 4
: >"$work/messages"
chat 0 -n 4; lines 0 "$out"; lines 0 "$err"
[ ! -e "$work/data" ] || bad "a history was kept without a terminal"

# What the cache holds of each turn, and freeing by hand: the next answer is the one of a conversation without that turn.
printf 'One\nTwo words\n/cache\n/free 3\n/free x\n/free 1\n/cache\n/save %s\nThree\n' "$work/without" >"$work/messages"
chat 0 -n 4 --temp 0 --system Kind.
says '^system .* in the cache  Kind\.$'; says '^turn 1 .* in the cache  One$'; says '^turn 2 .* in the cache  Two words$'
says "expected the number of a turn (/cache lists them) or all, found '3'"; says "found 'x'"; says 'is free; the cache holds'
[ "$(grep -c '^turn 1 .*One$' "$err")" -eq 1 ] && grep -q '^turn 1 .*Two words$' "$err" || bad "turn 1 was not taken out"
tail -n 1 "$out" >"$work/third"; rm "$work/without.kv"
printf '/load %s\n/free all\nThree\n' "$work/without" >"$work/messages"
chat 0 -n 4 --temp 0; says 'the cache holds 0 tokens'; tail -n 1 "$out" | cmp -s - "$work/third" || bad "another answer than without turn 1"

# Commands: taking back, answering again, settings, files.
printf 'One\nTwo\n/undo\n/regen\n/set temp 0\n/set top-k x\n/set what 1\n/system Kind.\n/save %s\n/save %s\n/clear\n/load %s\n/load %s\n/stats\n' \
    "$work/saved" "$work/saved" "$work/saved" "$work/absent" >"$work/messages"
chat 0 -n 4
says '1 left'; says 'temp is 0 now'; says "no setting 'what'"; says "found 'x'"; says 'expected a name that is free'
says 'Loaded 3 messages'; says 'absent'; says 'turns: 1'
[ "$(wc -l <"$work/saved")" -eq 3 ] && grep -q '"role":"system","content":"Kind."' "$work/saved" || bad "saved another conversation"
echo 'no message' >"$work/saved.txt"
echo "/load $work/saved.txt" >"$work/messages"; chat 0 -n 4; says 'saved.txt'
run 0 generate -m "$model" --chat -p 'Hello' -n 4 -s 1 --stats none
echo '{{ messages[0].content' >"$work/broken.jinja"
fails 'broken.jinja' generate -m "$model" --chat --chat-template-file "$work/broken.jinja" -p a
printf '{{ raise_exception("only tools speak here") }}' >"$work/raises.jinja"
fails 'only tools speak here' generate -m "$model" --chat --chat-template-file "$work/raises.jinja" -p a
printf '{{ messages[0].content }}{{ name }}' >"$work/own.jinja"
run 0 generate -m "$model" --chat --chat-template-file "$work/own.jinja" --kwargs '{"name": "x"}' -p a -n 0
fails 'kwargs' generate -m "$model" --chat --chat-template-file "$work/own.jinja" --kwargs '[' -p a
wrong 'think' chat -m "$model" --think maybe

# ---- vocabularies of our own

printf 'the cat and the hat and the bat\n' >"$work/words.txt"
run 0 tokenizer train -o "$work/vocab.gguf" --vocab-size 262 --special '<|endoftext|>' "$work/words.txt" </dev/null
says '262 tokens, 5 merges'
printf 'the hat' >"$work/hat"
run 0 tokenize -m "$work/vocab.gguf" <"$work/hat"
mv "$out" "$work/ids"
run 0 tokenize -m "$work/vocab.gguf" --decode <"$work/ids"; is 'the hat'
run 0 tokenizer train -o "$work/chars.gguf" --type char "$work/words.txt" </dev/null; says '10 tokens, 0 merges'
run 0 tokenizer train -o "$work/vocab.json" --vocab-size 260 "$work/words.txt" </dev/null
grep -q '"BPE"' "$work/vocab.json" || bad 'no tokenizer.json'
wrong 'expected files to read' tokenizer train -o "$work/a.gguf"
wrong 'expected -o OUT.gguf or' tokenizer train -o "$work/a.txt" "$work/words.txt"
fails 'absent.txt' tokenizer train -o "$work/a.gguf" "$work/absent.txt"
fails "found 'nothing'" tokenizer train -o "$work/a.gguf" --pre nothing "$work/words.txt"

# ---- corpora

printf '%s\n' '{"text": "the cat"}' '{"text": "the hat"}' '{"text": "the cat"}' '{"text": "and the bat"}' >"$work/docs.jsonl"
run 0 data tokenize -m "$work/vocab.gguf" -o "$work/docs.gguf" --val-every 4 --dedup "$work/docs.jsonl" </dev/null
says 'docs.gguf: 2 documents'; says 'docs-val.gguf: 1 documents'; says '1 duplicates'
run 0 info "$work/docs-val.gguf" </dev/null; prints tinylm-tokens
run 0 data tokenize -m "$work/chars.gguf" -o "$work/words.gguf" --split-val 0.25 "$work/words.txt" </dev/null
says 'words.gguf: 1 documents, 24 tokens'; says 'words-val.gguf: 1 documents, 8 tokens'
echo 'the dog' >"$work/dog.txt"
fails 'has no token' data tokenize -m "$work/chars.gguf" -o "$work/a.gguf" "$work/dog.txt"
[ ! -e "$work/a.gguf" ] || bad 'a file was left behind'
echo '{"messages": []}' >"$work/talk.jsonl"
fails 'line 1: a conversation needs' data tokenize -m "$work/vocab.gguf" -o "$work/a.gguf" "$work/talk.jsonl"
wrong 'no tokenizer' data tokenize -o "$work/a.gguf" "$work/words.txt"
wrong 'one of the two' data tokenize -m "$work/vocab.gguf" -o "$work/a.gguf" --val-every 2 --split-val 0.5 "$work/words.txt"

run 0 data generate stories -o "$work/stories.jsonl" -n 40 -s 3 </dev/null; says '40\|stories and'; lines 40 "$work/stories.jsonl"
run 0 data generate stories -o "$work/later.jsonl" -n 10 -s 3 --first 30 </dev/null
tail -n 10 "$work/stories.jsonl" | cmp -s - "$work/later.jsonl" || bad 'document 30 is another one'
wrong 'expected what to write' data generate -o "$work/a.jsonl"
printf '{%% for m in messages %%}<|{{ m.role }}|>{{ m.content }}<|end|>{%% endfor %%}' >"$work/talk.jinja"
run 0 tokenizer train -o "$work/talk.gguf" --vocab-size 400 --special '<|end|>' --special '<|user|>' --special '<|assistant|>' --eos '<|end|>' \
    --chat-template "$work/talk.jinja" "$work/stories.jsonl" </dev/null
run 0 data tokenize -m "$work/talk.gguf" -o "$work/talk-tokens.gguf" "$work/stories.jsonl" </dev/null; says '40 documents'

# ---- chat on a terminal, which script(1) stands in for

# Waits for the nth prompt: from then on keys go to the line editor.
prompts()
{
    tries=0
    until [ "$(grep -ao '32m> ' "$out" | wc -l)" -ge "$1" ] || [ "$tries" = 400 ]; do tries=$((tries + 1)); sleep 0.05; done
}
if script -qec true /dev/null </dev/null >/dev/null 2>&1; then
    what='chat on a terminal'; checks=$((checks + 1))
    : >"$out"
    { prompts 1; printf 'Hello\n'; prompts 2; printf 'gone\003'; prompts 3; printf '/stats\n'; prompts 4; printf '\004'; sleep 0.5; } |
        TERM=xterm NO_COLOR='' script -qec "'$tinylm' chat -m '$model' -n 4 -s 1 -t 1; echo exit \$?" /dev/null >"$out" 2>"$err"
    prints '/help lists the commands'; prints 'Ctrl-C again'; prints 'turns: 1'; prints 'exit 0'
    printf 'Hello\n/stats\n' | cmp -s - "$work/data/tinylm/history" || bad "the history is not what was typed"
fi

# ---- a model that was really trained

if [ -f "$stories.gguf" ] && [ -f "$stories.expected.txt" ]; then
    for isa in ref auto; do
        run 0 generate -m "$stories.gguf" -p '' -n 200 --temp 0 --isa "$isa" --stats none </dev/null
        { cat "$out"; echo; } | sed '1s/^ //' | cmp -s - "$stories.expected.txt" || bad "not the text that is known"
    done
fi

[ "$failures" = 0 ] || { echo "test_cli: $failures of $checks checks failed"; exit 1; }
echo "test_cli: $checks runs, all as expected"
