#!/bin/sh
# tests/test_train.sh TINYLM GOLDEN -- training runs that are killed at twenty moments, stopped by Ctrl-C, or run out of room: they go on to the
# same bits as one that was never stopped, and what was saved stays whole.
set -u
tinylm=$1
golden=$2
dir=$(mktemp -d "${TMPDIR:-/tmp}/tinylm-train-XXXXXX")
trap 'chmod -R u+w "$dir" 2>/dev/null; rm -rf "$dir"' EXIT
failed=0
runs=0

fail()
{
    echo "test_train: $*" >&2
    failed=1
}

awk 'BEGIN { for (i = 0; i < 3000; i++) printf "the %d. wave comes behind the %d. and before the %d. ", i % 97, i * i % 89, i * 7 % 83 }' \
    > "$dir/text.txt"
cat > "$dir/config.ini" <<END
[model]
arch = llama
layers = 2
width = 64
heads = 4
context = 64
tokenizer = $golden/llama-plain.gguf
[data]
train = $dir/text.txt
val = $dir/text.txt
[train]
steps = 60
batch_tokens = 1024
micro_batch = 4
dropout = 0.1
eval_every = 20
eval_batches = 2
[checkpoint]
every = 3
[log]
every = 1
END

train()
{
    "$tinylm" train "$dir/config.ini" "checkpoint.dir=$1" 2> "$1.err"
}

# The losses of every step, once: a step that was done again must have had the same.
losses()
{
    grep -o '"step": [0-9]*, "tokens": [0-9]*, "loss": [^,]*\|"step": [0-9]*, "validation_loss": [^,]*' "$1/log.jsonl" | sort -u
}

train "$dir/whole" || fail "a run that nobody disturbs: $(tail -1 "$dir/whole.err")"

# Killed at twenty moments: when the log has so many lines more, and a little later; each time the same command goes on.
count() { cat "$1/log.jsonl" 2> /dev/null | wc -l; }
for moment in $(awk 'BEGIN { srand(7); for (i = 0; i < 20; i++) printf "%d:%.3f ", 1 + rand() * 8, rand() * 0.02 }'); do
    lines=$(($(count "$dir/killed") + ${moment%:*}))
    "$tinylm" train "$dir/config.ini" "checkpoint.dir=$dir/killed" 2> "$dir/killed.err" &
    child=$!
    while kill -0 $child 2> /dev/null && [ "$(count "$dir/killed")" -lt "$lines" ]; do sleep 0.003; done
    sleep "${moment#*:}"
    kill -KILL $child 2> /dev/null && wait $child 2> /dev/null
    runs=$((runs + 1))
done
train "$dir/killed" || fail "a run that was killed: $(tail -1 "$dir/killed.err")"
cmp -s "$dir/whole/model.gguf" "$dir/killed/model.gguf" || fail "a run that was killed: expected the same model, found another"
[ "$(losses "$dir/whole")" = "$(losses "$dir/killed")" ] || fail "a run that was killed: expected the same losses, found others"
[ -z "$(find "$dir/killed" -name '*.tmp.*')" ] || fail "a run that was killed: expected nothing half written, found $(ls "$dir/killed")"
[ "$(wc -l < "$dir/killed/log.jsonl")" -gt 66 ] || fail "expected steps that were done again, found none"
[ "$(losses "$dir/whole" | wc -l)" = 63 ] || fail "expected 60 losses and 3 validations, found $(losses "$dir/whole" | wc -l)"

# Ctrl-C saves and stops with 0.
"$tinylm" train "$dir/config.ini" "checkpoint.dir=$dir/stopped" 2> "$dir/stopped.err" &
child=$!
while kill -0 $child 2> /dev/null && [ "$(count "$dir/stopped")" -lt 10 ]; do sleep 0.003; done
kill -INT $child
wait $child || fail "Ctrl-C: expected exit 0, found $?: $(tail -1 "$dir/stopped.err")"
grep -q "the same command goes on" "$dir/stopped.err" || fail "Ctrl-C: expected word of going on, found $(tail -1 "$dir/stopped.err")"
train "$dir/stopped" || fail "a run that was stopped: $(tail -1 "$dir/stopped.err")"
cmp -s "$dir/whole/model.gguf" "$dir/stopped/model.gguf" || fail "a run that was stopped: expected the same model, found another"
runs=$((runs + 2))

# On the grid of a quantized type: the model comes out in it, and a run that was killed comes to the same bytes.
"$tinylm" train "$dir/config.ini" "checkpoint.dir=$dir/grid" quantize=Q4_0 2> "$dir/grid.err" || fail "on a grid: $(tail -1 "$dir/grid.err")"
"$tinylm" train "$dir/config.ini" "checkpoint.dir=$dir/grid2" quantize=Q4_0 2> "$dir/grid2.err" &
child=$!
while kill -0 $child 2> /dev/null && [ "$(count "$dir/grid2")" -lt 20 ]; do sleep 0.003; done
kill -KILL $child 2> /dev/null && wait $child 2> /dev/null
"$tinylm" train "$dir/config.ini" "checkpoint.dir=$dir/grid2" quantize=Q4_0 2> "$dir/grid2.err" || fail "on a grid: $(tail -1 "$dir/grid2.err")"
cmp -s "$dir/grid/model.gguf" "$dir/grid2/model.gguf" || fail "on a grid: expected the same model behind a kill, found another"
"$tinylm" info "$dir/grid/model.gguf" 2> /dev/null | grep 'blk.0.ffn_up.weight' | grep -q 'Q4_0' || fail "on a grid: expected a matrix in Q4_0"
[ "$(losses "$dir/grid")" = "$(losses "$dir/grid2")" ] || fail "on a grid: expected the same losses behind a kill, found others"
# What training computed with is what the file says: by way of f32, only the rounding of sums is between the two.
loss=$(grep -o '"validation_loss": [0-9.]*' "$dir/grid/log.jsonl" | tail -1 | grep -o '[0-9.]*$')
gap=$(sed -n 's/^log-probabilities .* differ by at most \([0-9.e+-]*\) over.*/\1/p' "$dir/grid.err")
awk "BEGIN { exit !($gap < 0.2 && $loss < 4) }" || fail "on a grid: expected a small gap and a loss below 4, found '$gap' and '$loss'"
runs=$((runs + 3))

# No room for a checkpoint: one line, exit 1, and what was there is whole. A file size limit stands for the full disk.
(
    ulimit -f 700
    trap '' XFSZ
    "$tinylm" train "$dir/config.ini" "checkpoint.dir=$dir/full" model.width=128 2> "$dir/full.err"
) && fail "no room: expected a failure"
grep -q "cannot write" "$dir/full.err" || fail "no room: expected 'cannot write', found $(tail -1 "$dir/full.err")"
runs=$((runs + 1))

# Wrong input, one line each.
expect()
{
    want=$1
    shift
    found=$("$tinylm" train "$@" 2>&1 >/dev/null | head -1)
    case $found in
    *"$want"*) ;;
    *) fail "$*: expected '$want', found '$found'" ;;
    esac
    runs=$((runs + 1))
}
expect "cannot open" "$dir/none.ini"
expect "optimizer.lr" "$dir/config.ini" "checkpoint.dir=$dir/whole" lr=0.5
expect "lrr" "$dir/config.ini" optimizer.lrr=1
expect "expected" "$dir/config.ini" "checkpoint.dir=$dir/new" model.arch=lama
expect "cannot" "$dir/config.ini" "checkpoint.dir=$dir/new2" "data.train=$dir/none.txt"
expect "train.quantize: expected a type or mix" "$dir/config.ini" "checkpoint.dir=$dir/new4" quantize=Q4
expect "data.context" "$dir/config.ini" "checkpoint.dir=$dir/new3" data.context=65

[ $failed = 0 ] && echo "test_train: $runs runs of the program, all as expected"
exit $failed
