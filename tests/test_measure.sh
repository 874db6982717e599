#!/bin/sh
# Tests `tinylm eval` against known perplexities and by row independence, and the shape of what `tinylm bench` writes.
#
#     tests/test_measure.sh TINYLM GOLDEN DEMO_MODEL     the program, the folder with llama-plain.gguf and llama-ppl.*, and what
#                                                        makes the demo model
#
# Prints a line a failed check and a summary; exit 1 on failure. With ../shared beside the repository, the perplexity of a
# model that was really trained must be the known one, too.
set -u
[ $# = 3 ] || { echo "usage: tests/test_measure.sh TINYLM GOLDEN DEMO_MODEL" >&2; exit 2; }

case $1 in */*) tinylm=$1 ;; *) tinylm=./$1 ;; esac
model=$2/llama-plain.gguf text=$2/llama-ppl.text known=$2/llama-ppl.txt
shared=$(cd "$(dirname "$0")/.." && pwd)/../shared
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
out=$work/out err=$work/err

checks=0
failures=0
what=
bad() { failures=$((failures + 1)); echo "FAIL $what: $*"; sed 's/^/    stderr: /' "$err" | head -n 5; }
# run STATUS ARGUMENTS...: tinylm must end with STATUS; what it writes is in $out and $err.
run()
{
    want=$1; shift
    what="tinylm $*"
    checks=$((checks + 1))
    found=0
    "$tinylm" "$@" >"$out" 2>"$err" </dev/null || found=$?
    [ "$found" = "$want" ] || bad "exit $found instead of $want"
}
fails() { pattern=$1; shift; run 1 "$@"; grep -q -e "$pattern" "$err" && [ "$(wc -l <"$err")" -eq 1 ] || bad "not one line with '$pattern'"; }
wrong() { pattern=$1; shift; run 2 "$@"; grep -q -e "$pattern" "$err" || bad "stderr lacks '$pattern'"; }
prints() { grep -q -e "$1" "$out" || bad "stdout lacks '$1'"; }
# near A B SHARE: |A - B| <= SHARE * B
near() { awk "BEGIN { d = $1 - $2; exit !((d < 0 ? -d : d) <= $3 * $2) }" || bad "found $1, expected $2"; }
json() { sed "s/.*\"$1\": \([^,}]*\).*/\1/" "$out"; }

# ---- perplexity: what PyTorch computes in double precision, here in double, in float, and with short keys

# like KIND SHARE OPTION...
like()
{
    set -- $(awk -v kind="$1" '$1 == kind { print $2, $4, $5, $6 }' "$known") "$@"
    context=$1 count=$2 nll=$3 ppl=$4 share=$6; shift 6
    run 0 eval ppl -m "$model" -f "$text" -c "$context" -o json "$@"
    near "$(json perplexity)" "$ppl" "$share"; near "$(json nll)" "$nll" "$share"
    [ "$(json tokens)" = "$count" ] || bad "counted $(json tokens) tokens instead of $count"
}
like half 1e-8 --isa f64
like stride-all 1e-8 --isa f64 --stride 8
for isa in ref auto; do
    like half 1e-5 --isa $isa -ctk f32 -ctv f32
    like stride-all 5e-4 --isa $isa --stride 8 -t 1
done
run 0 eval ppl -m "$model" -f "$text" -c 32 --chunks 3 -o json
[ "$(json windows)" = 3 ] || bad "not 3 windows"
run 0 eval ppl -m "$model" -f "$text" -c 32
prints '^perplexity [0-9.]* +- [0-9.]*  (tokens 180, windows 12)$'
fails 'expected 8192 tokens' eval ppl -m "$model" -f "$text" -c 8192
fails 'nowhere' eval ppl -m "$model" -f "$work/nowhere"
wrong 'no text' eval ppl -m "$model"
wrong 'expected one of' eval nothing

# ---- divergence: what numpy computes of the same logits; the two forms; what does not fit is refused

run 0 quantize "$model" "$work/bf16.gguf" BF16
run 0 eval kld -m "$work/bf16.gguf" --base "$model" -f "$text" -c 32 --isa f64 -o json
grep -v '^#' "$2/llama-kld.txt" >"$work/kld.txt"
while read -r name value; do
    awk "BEGIN { d = $(json "$name") - ($value); m = $value < 0 ? -($value) : $value; exit !((d < 0 ? -d : d) <= 1e-5 * m + 1e-12) }" ||
        bad "$name: found $(json "$name"), expected $value"
done <"$work/kld.txt"
direct=$(json kld)
run 0 eval kld -m "$model" --save-logits "$work/base.kld" -f "$text" -c 32 --isa f64
run 0 eval kld -m "$work/bf16.gguf" --kl-base "$work/base.kld" --isa f64 -o json
near "$(json kld)" "$direct" 1e-2; [ "$(json tokens)" = 180 ] || bad "not 180 tokens"
run 0 eval kld -m "$model" --base "$model" -f "$text" -c 32 --chunks 2
prints '^KL divergence    mean 0.000000 +- 0.000000 nats$'; prints '^same best token  100.000%'
wrong 'one of --base' eval kld -m "$model" -f "$text"
wrong 'no text' eval kld -m "$model" --base "$model"
fails 'windows of 64 tokens (-c), found 32' eval kld -m "$model" --kl-base "$work/base.kld" -c 64
fails 'vocabulary' eval kld -m "$2/llama-bias.gguf" --kl-base "$work/base.kld"
fails 'expected logits' eval kld -m "$model" --kl-base "$text"
fails 'nowhere' eval kld -m "$model" --kl-base "$work/nowhere"
fails 'lower -c' eval kld -m "$model" --base "$model" -f "$text" -c 4096
rm "$work/bf16.gguf" "$work/base.kld" "$work/kld.txt"

# ---- types and matrices: a table, its JSON, a chart; nothing is left in $TMPDIR

story=$(dirname "$0")/golden/tales.txt
"$3" "$story" "$work/demo.gguf" >"$out" 2>"$err" || bad "no demo model"
mkdir "$work/tmp"
export TMPDIR="$work/tmp"
measured="-m $work/demo.gguf -f $story -c 32 --chunks 2 -t 2"
run 0 eval types $measured --types Q8_0,q4_0 --plot "$work/types.svg"
prints '^| Q8_0 | '; prints '^| Q4_0 | '
[ "$(grep -c '<circle' "$work/types.svg")" -eq 2 ] || bad "not a point a type"
run 0 eval types $measured --types Q8_0 -o json
prints '"type": "Q8_0", "method": "rtn"'; prints '"kld_error": '
wrong 'needs a file' eval types $measured --types Q8_0 --methods rtn,imatrix
wrong 'needs a text' eval types $measured --types Q8_0 --methods gptq
run 0 eval types $measured --types Q4_0 --methods gptq,awq --calibration "$story" --calibration-chunks 1 -o json
prints '"method": "gptq"'; prints '"method": "awq"'
wrong "found 'best'" eval types $measured --types Q8_0 --methods best
wrong "called 'Q9'" eval types $measured --types Q8_0,Q9
run 0 eval sensitivity $measured --type Q4_0 -o json
prints '"by": "tensor", "name": "blk.0.attn_q"'; prints '"by": "kind", "name": "attn_q"'; prints '"by": "layer", "name": "blk.0"'
run 0 eval sensitivity $measured --by kind
prints '^| ffn_up | 1048576 | '
wrong 'can be written' eval sensitivity $measured --type Q9
[ -z "$(ls "$work/tmp")" ] || bad "left files behind: $(ls "$work/tmp")"

# ---- recipes: under the size, and the same again from its file

run 0 quantize "$work/demo.gguf" "$work/auto.gguf" --target-bpw 5 -f "$story" --chunks 1 --save-recipe "$work/recipe" -t 2
grep -q '^^blk.*attn_q\\.weight[$]=' "$work/recipe" || bad "not a recipe"
grep -q 'expected, .* measured' "$err" || bad "no forecast"
awk '$1 == "all" { exit !($(NF - 2) <= 5 && $(NF - 2) > 4) }' "$err" || bad "not the size that was asked for"
run 0 quantize "$work/demo.gguf" "$work/again.gguf" --recipe "$work/recipe"
cmp -s "$work/auto.gguf" "$work/again.gguf" || bad "the recipe gives another file"
run 0 quantize "$work/demo.gguf" "$work/none.gguf" --target-bpw 5 --chunks 1 --dry-run
prints 'blk.0.ffn_up.weight'
fails 'smallest types' quantize "$work/demo.gguf" "$work/none.gguf" --target-bpw 1.5 -f "$story" --chunks 1
wrong 'found both' quantize "$work/demo.gguf" "$work/none.gguf" Q4_0 --target-bpw 6
wrong 'no TYPE' quantize "$work/demo.gguf" "$work/none.gguf"
wrong 'REGEX=TYPE' quantize "$work/demo.gguf" "$work/none.gguf" --recipe "$text"
# A type that GGUF lacks: the file has its parts, and runs.
run 0 quantize "$work/demo.gguf" "$work/nf4.gguf" NF4
run 0 info "$work/nf4.gguf"; prints '^  NF4 '
run 0 eval ppl -m "$work/nf4.gguf" -f "$story" --chunks 1; prints '^perplexity'
# Static activations: the same limits on any number of threads, gone where the file's numbers become others.
run 0 quantize "$work/demo.gguf" "$work/static.gguf" Q8_0 --static-activations --calibration "$story" -c 32 --calibration-chunks 4 -t 1
run 0 info "$work/static.gguf"
prints 'tinylm.activations.limits'
run 0 quantize "$work/demo.gguf" "$work/static-3.gguf" Q8_0 --static-activations --calibration "$story" -c 32 --calibration-chunks 4 -t 3
cmp -s "$work/static.gguf" "$work/static-3.gguf" || bad "other limits than on one thread"
run 0 eval kld -m "$work/static.gguf" --base "$work/demo.gguf" -f "$story" -c 32 --chunks 2
run 0 quantize "$work/static.gguf" "$work/again.gguf" Q4_0
run 0 info "$work/again.gguf"
grep -q 'tinylm.activations' "$out" && bad "limits of other numbers were kept"
[ ! -e "$work/none.gguf" ] && [ -z "$(ls "$work/tmp")" ] || bad "left files behind"
unset TMPDIR
rm -r "$work/tmp" "$work"/*.gguf "$work/types.svg" "$work/recipe"

# ---- logits: the file's layout, and the same bits for all chunks and threads

run 0 eval logits -m "$model" --ids '5 6 7 8 9 10 11' -o "$work/all.npy" -t 1
vocab=$(head -n 1 "$work/all.npy" | LC_ALL=C sed -n "s/.*'shape': (7, \([0-9]*\)), .*/\1/p")
[ "$(head -c 6 "$work/all.npy" | tail -c 5)" = NUMPY ] || bad "not an NPY file"
[ "$(wc -c <"$work/all.npy")" -eq $((128 + 7 * ${vocab:-0} * 4)) ] || bad "shape and size differ"
echo '5, 6 7 8 9 10 11' >"$work/ids"
run 0 eval logits -m "$model" --ids-file "$work/ids" -o "$work/two.npy" -t 3 -b 2
cmp -s "$work/all.npy" "$work/two.npy" || bad "other bits than in one chunk on one thread"
fails 'expected an id from 0' eval logits -m "$model" --ids '5 99999999' -o "$work/none.npy"
fails "found 'x" eval logits -m "$model" --ids '5 x' -o "$work/none.npy"
fails '' eval logits -m "$model" --ids '5' -o "$work/nowhere/none.npy"
[ "$(ls "$work")" = "$(printf 'all.npy\nerr\nids\nout\ntwo.npy')" ] || bad "left files behind: $(ls "$work")"

# ---- diff: a model is itself; another instruction set differs little; a quantized copy much

run 0 eval diff "$model" "$model"
prints 'logits: error 0.00e+00, .*same best token 8 of 8'
[ "$(grep -c '| -  *|  0.00e+00 | -' "$out")" -ge 4 ] || bad "a model differs from itself"
run 0 eval diff "$model" --isa-a ref
prints '^| 0 .*| rmsnorm attn_norm'; prints 'isa f64'
awk '/^logits/ { exit !($3 + 0 < 1e-5 && $3 + 0 > 0) }' "$out" || bad "float is not near double"
fails 'vocabulary' eval diff "$model" "$2/llama-bias.gguf"
fails "found 'x'" eval diff "$model" --ids '1 x'
wrong 'no model' eval diff

# ---- check: a whole model; one with a number that is none; one against another

run 0 check "$model"
prints '0 faults'; prints 'texts come back'
cp "$model" "$work/nan.gguf"
size=$(wc -c <"$work/nan.gguf")
printf '\377\377\377\177' | dd of="$work/nan.gguf" bs=1 seek=$((size - 400)) conv=notrunc 2>"$err"
run 1 check "$work/nan.gguf"
prints 'FAULT: .*: 1 NaN'; prints '1 fault'
run 0 check "$model" "$2/llama-bias.gguf"
prints 'token_embd.weight'
head -c 5000 "$model" >"$work/cut.gguf"
fails 'cut.gguf' check "$work/cut.gguf"
wrong 'no model' check

# ---- imatrix and quantize: sums over a text's rows, and matrices rounded by its moments

run 0 imatrix -m "$model" -f "$text" -o "$work/sums.gguf" -c 32
run 0 info "$work/sums.gguf"
prints 'imatrix.chunk_size *u32 *32$'; prints 'blk.0.attn_q.weight.in_sum2'
run 0 quantize "$model" "$work/sums-q4.gguf" Q4_0 --imatrix "$work/sums.gguf"
run 0 check "$work/sums-q4.gguf"
run 0 quantize "$model" "$work/gptq.gguf" Q4_0 --method gptq --calibration "$text" -c 32 -t 1
run 0 check "$work/gptq.gguf"
run 0 quantize "$model" "$work/gptq-3.gguf" Q4_0 --method gptq --calibration "$text" -c 32 -t 3
cmp -s "$work/gptq.gguf" "$work/gptq-3.gguf" || bad "other bits than on one thread"
fails 'expected 8192 tokens' quantize "$model" "$work/none.gguf" Q4_0 --method gptq --calibration "$text" -c 8192
fails "expected 'imatrix'" quantize "$model" "$work/none.gguf" Q4_0 --imatrix "$model"
fails 'sums of squares' quantize "$model" "$work/none.gguf" Q4_0 --imatrix "$text"
fails 'nowhere' imatrix -m "$model" -f "$text" -o "$work/nowhere/sums.gguf" -c 32
wrong 'name a text' quantize "$model" "$work/none.gguf" Q4_0 --method gptq
wrong 'name a text' quantize "$model" "$work/none.gguf" Q4_0 --static-activations
wrong 'changes what goes into matrices' quantize "$model" "$work/none.gguf" Q4_0 --static-activations --method awq --calibration "$text"
wrong 'only with --static-activations' quantize "$model" "$work/none.gguf" Q4_0 --clip-percentile 99
wrong 'no text' imatrix -m "$model" -o "$work/none.gguf"
[ -z "$(ls -A "$work" | grep -e none -e '^\.')" ] || bad "left files behind: $(ls -A "$work")"

# ---- bench: names and numbers of fields; never what they measure

bench="bench -m $model -t 1 --isa ref"
run 0 $bench -r 1 -p 3,5 -n 0,2 -d 4 -o md
[ "$(wc -l <"$out")" -eq 5 ] || bad "expected 3 rows and the heading"
prints '| *pp5 @ d4 |'; prints '| *tg2 @ d4 |'
run 0 $bench -r 1 -p 3 -n 2 -o csv
awk -F, 'NR == 1 { n = NF } NF != n { exit 1 } END { exit NR != 3 }' "$out" || bad "rows of CSV differ in length"
run 0 $bench -r 2 -p 3 -n 0 -o json
for name in model_filename model_type model_size model_n_params n_batch n_threads type_k type_v n_prompt n_gen n_depth \
    n_parallel test_time avg_ns stddev_ns avg_ts stddev_ts samples_ns samples_ts rate limit share share_q1 share_q3; do
    prints "\"$name\": "
done
prints '"samples_ts": \[[0-9.e+]*, [0-9.e+]*\]'; prints '^\]$'
run 0 $bench -r 1 -p 0 -n 2 -npl 1,3 -ctk f16 -ctk f32 -o jsonl
[ "$(grep -c '"n_parallel": 3' "$out")" -eq 2 ] && [ "$(grep -c '"type_k": "f32"' "$out")" -eq 2 ] || bad "not each type with each number"
fails "no type is called 'f17'" bench -m "$model" -ctk f17
# Whole-number products have a limit on every tier that this machine has.
"$tinylm" quantize "$model" "$work/q8.gguf" Q8_0 2>"$err" || bad "cannot quantize"
for isa in $("$tinylm" info | sed -n 's/^isa *\(.*\)(auto.*/\1/p'); do
    run 0 bench -m "$work/q8.gguf" -t 1 -r 1 -p 3 -n 0 --isa "$isa" -o jsonl; prints '"limit_rate"'
done
run 0 $bench -r 1 -p 0 -n 0 --load -o jsonl
prints '"what": "first token, warm"'; prints '"what": "first token, cold"'
run 0 $bench -r 1 -p 3 -n 0 -o json --plot "$work/plot.svg"
grep -q '^</svg>' "$work/plot.svg" || bad "no whole chart"
run 0 $bench -r 1 -p 3 -n 0 --profile --trace "$work/trace.json"
grep -q '| matmul *| F32' "$err" && grep -q '| waiting ' "$err" || bad "no table of ops"
grep -q '"name": "matmul F32", "ph": "X"' "$work/trace.json" && [ "$(tail -n 1 "$work/trace.json")" = ']}' ] || bad "no whole trace"
run 0 $bench -r 1 -p 3 -n 0 -o json
# An earlier run that was far slower, and one that was far faster.
sed 's/"share_q\([13]\)": [0-9.e-]*/"share_q\1": 0.000001/' "$out" >"$work/slow.json"
sed 's/"share_q\([13]\)": [0-9.e-]*/"share_q\1": 1000/' "$out" >"$work/fast.json"
run 0 $bench -r 1 -p 3 -n 0 --compare "$work/slow.json"
grep -q '0 slower, 1 faster' "$err" || bad "not told to be faster"
run 1 $bench -r 1 -p 3 -n 0 --compare "$work/fast.json"
grep -q 'SLOWER' "$err" || bad "not told to be slower"
run 0 $bench -r 1 -p 4 -n 0 --compare "$work/fast.json"
grep -q 'no such test' "$err" || bad "not told that there is nothing to compare"
echo '{' >"$work/broken.json"
fails 'broken.json' bench -m "$model" --compare "$work/broken.json"
fails 'nowhere' bench -m "$model" --compare "$work/nowhere"
wrong 'no test' bench -m "$model" -p 0 -n 0
wrong '\-\-load: expected -m FILE' bench --load
run 0 bench -t 1 -r 1 -p 3 -n 2 -o jsonl # the model that is built in
prints '"model_filename": "tinylm-stories"'; prints '"model_type": "llama 5.2M Q4_0"'
# a model of a shape: no file, random weights of any type that can be written
run 0 bench --shape tiny --type Q4_K -t 1 -r 1 -p 3 -n 2 -o jsonl
prints '"model_filename": "tiny"'; prints '"model_type": "llama 1.7M Q4_K"'
fails 'expected a type that can be written' bench --shape tiny --type IQ2_XXS
wrong 'neither -m' bench --shape tiny -m "$model"
wrong 'llama-8b' bench --shape huge
fails 'nowhere' bench -m "$work/nowhere"

# ---- a model that was really trained: the known perplexity of the last tenth of its text

if [ -f "$shared/models/char-5m.gguf" ] && [ -f "$shared/data/tinyshakespeare.txt" ]; then
    tail -c +1003855 "$shared/data/tinyshakespeare.txt" >"$work/text"
    run 0 eval ppl -m "$shared/models/char-5m.gguf" -f "$work/text" -o json
    near "$(json perplexity)" 5.4324 2e-5; near "$(json error)" 0.036 0.02
fi

[ "$failures" = 0 ] || { echo "test_measure: $failures of $checks checks failed"; exit 1; }
echo "test_measure: $checks runs, all as expected"
