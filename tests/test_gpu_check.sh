#!/bin/sh
# Tests scripts/gpu_check.sh: what it says without a GPU, and all its steps, on the emulation of CUDA.
#
#     tests/test_gpu_check.sh FOLDER     FOLDER: tinylm, test_gpu, gpu_bench, gpu_report, built on the emulation
#
# Prints a line a failed check and a summary; exit 1 on failure.
set -u
[ $# = 1 ] || { echo "usage: tests/test_gpu_check.sh FOLDER" >&2; exit 2; }
check=$(dirname "$0")/../scripts/gpu_check.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
checks=0 failures=0
expect() { checks=$((checks + 1)); [ "$2" = "$3" ] || { failures=$((failures + 1)); echo "FAIL $1: found '$2', expected '$3'"; }; }
holds() { checks=$((checks + 1)); grep -q -e "$2" "$1" || { failures=$((failures + 1)); echo "FAIL no '$2' in $1"; }; }

# ---- arguments, and a machine without a GPU
sh "$check" --nonsense 2>"$work/err"; expect "--nonsense" $? 2
sh "$check" a b c d 2>"$work/err"; expect "four operands" $? 2
mkdir "$work/empty"
sh "$check" --emulation "$work/empty" "$work/page.md" "$work/records.json" 2>"$work/err"; expect "no programs" $? 1
holds "$work/err" "make gpu-files"
if [ ! -e /dev/nvidiactl ] && ! command -v nvidia-smi >/dev/null 2>&1 && ! ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'; then
    sh "$check" 2>"$work/err"; expect "no GPU" $? 1
    expect "lines about it" "$(wc -l <"$work/err" | tr -d ' ')" 1
    holds "$work/err" "no GPU"
fi

# ---- a model in several places
"$1/tinylm" generate -ngl 1 -ot ffn_up=cpu -p Once -n 3 --temp 0 2>"$work/err" >"$work/out"; expect "generate -ngl" $? 0
holds "$work/err" "backend: cuda: .*, and the CPU"
holds "$work/err" "  cpu: layers 0 to "
holds "$work/err" "  cuda:0 (.*): layer .* matrices, .* MiB, the head"
"$1/tinylm" generate -p Once -n 3 --temp 0 2>/dev/null | cmp -s - "$work/out"; expect "the same text" $? 0
"$1/tinylm" bench --shape tiny --type Q8_0 -ot ffn_=cpu -p 8 -n 2 -r 1 2>"$work/err" >"$work/out"; expect "bench -ot" $? 0
holds "$work/out" "CUDA.*tg2"
"$1/tinylm" bench --shape tiny -ot experts=cpu 2>"$work/err" >"$work/out"; expect "a rule for nothing" $? 1
expect "lines about it" "$(wc -l <"$work/err" | tr -d ' ')" 1

# ---- every step
sh "$check" --emulation "$1" "$work/page.md" "$work/records.json" 2>"$work/err"; code=$?
expect "all steps" $code 0
[ $code = 0 ] || cat "$work/err"
holds "$work/page.md" "tests: cuda_emu | passed"
holds "$work/page.md" "| gemv: Q4_K 96 x 512, 1 row |"
holds "$work/page.md" "| attention: a token, d64, behind 200 keys |"
holds "$work/page.md" "| attention: backward, d64, causal, 80 tokens |"
holds "$work/page.md" "| decode, 8B shape, Q4_K | 60% of the copy bandwidth | not measured | open |"
holds "$work/page.md" "| tiny | llama .* Q8_0 | pp8 x1 @ 0 |"
holds "$work/records.json" '"kind": "device"'
holds "$work/records.json" '[0-9] where a pass begins behind the other; [0-9]* where the host looks'
# Errors against the reference: none above what 8 bits of the activations and weights in bf16 explain.
awk -F'"error": ' '/"error": [0-9]/ { split($2, n, /[,}]/); if (n[1] + 0 > 3e-3) { print "FAIL error " n[1]; exit 1 } }' "$work/records.json" ||
    failures=$((failures + 1))

# ---- the page with nothing measured is the one that stands in docs/ until something is
: >"$work/none"
"$1/gpu_report" "$work/none" "$work/open.md" "$work/open.json"; expect "no records" $? 0
holds "$work/open.md" "not measured: no GPU was at hand"
echo '{"kind": "kernel", "group": "rows", "name": "add", "rate": 9e11, "share": 0.9, "limit": "copy", "seconds": 1e-3, "error": 1e-7}' >"$work/one"
"$1/gpu_report" "$work/one" "$work/one.md" "$work/one.json"; expect "one record" $? 0
holds "$work/one.md" "the slowest | 85% of the copy bandwidth | 90% | reached |"
echo 'no json' >"$work/bad"
"$1/gpu_report" "$work/bad" "$work/bad.md" "$work/bad.json" 2>"$work/err"; expect "no JSON" $? 1

echo "test_gpu_check: $checks checks, $failures failures"
[ "$failures" = 0 ]
