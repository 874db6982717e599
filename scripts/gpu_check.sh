#!/bin/sh
# Checks and measures the CUDA backend on the GPU of this machine, and writes a page and its records.
#
#     scripts/gpu_check.sh [--probe | --emulation] [FOLDER [PAGE.md RECORDS.json]]
#
# FOLDER (build/gpu) has the programs that `make gpu-files` puts there. --probe only says whether there is a GPU. --emulation goes through
# all steps on the emulation of CUDA, with FOLDER's programs built on it, to test this script. Exit: 0 done, 1 something failed or there is
# no GPU, 2 wrong usage.
set -u

usage() { echo "usage: scripts/gpu_check.sh [--probe | --emulation] [FOLDER [PAGE.md RECORDS.json]]" >&2; exit 2; }
mode=
case ${1-} in --probe | --emulation) mode=$1; shift ;; -*) usage ;; esac
[ $# -le 3 ] && [ $# != 2 ] || usage
folder=${1-build/gpu} page=${2-docs/benchmarks/gpu.md} json=${3-docs/benchmarks/gpu.json}

has_gpu()
{
    [ "$mode" = --emulation ] || [ -e /dev/nvidiactl ] || [ -e /dev/dxg ] || command -v nvidia-smi >/dev/null 2>&1 ||
        ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'
}
has_gpu || { echo "gpu-check: no GPU: this machine has no driver of one" >&2; exit 1; }
[ "$mode" != --probe ] || exit 0
for program in tinylm test_gpu gpu_bench gpu_report; do
    [ -x "$folder/$program" ] || { echo "gpu-check: no $folder/$program: 'make gpu-files' builds it" >&2; exit 1; }
done
reason=$(timeout 60 "$folder/tinylm" info | sed -n 's/^backends *//p')
case $reason in *"cpu, cuda:0: "*) ;; *) echo "gpu-check: no GPU: $reason" >&2; exit 1 ;; esac

# cuBLAS and NVRTC come with the toolkit, or with somebody's Python.
for library in libcublas libnvrtc; do
    if [ "$mode" != --emulation ] && ! ldconfig -p 2>/dev/null | grep -q "$library"'\.so\.1[23]'; then
        found=$(find /usr/local /opt /usr/lib -name "$library"'.so.1[23]' 2>/dev/null | head -n 1)
        [ -z "$found" ] || export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(dirname "$found")"
    fi
done

work=$(mktemp -d)
records=$work/records log=$work/log
: >"$records"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
failures=0
began=$(date +%s) most=570 # seconds for all of it
# within SECONDS COMMAND...: no longer than that, nor than all of it may take
within()
{
    left=$((began + most - $(date +%s)))
    [ "$1" -gt "$left" ] || left=$1
    shift
    [ "$left" -gt 0 ] || { echo "no time was left"; return 1; }
    timeout -k 5 "$left" "$@"
}

# note NAME TEXT: a record of a test, and a line on stderr
note()
{
    echo "gpu-check: $1: $2" >&2
    printf '{"kind": "test", "name": "%s", "text": "%s"}\n' "$1" "$(printf %s "$2" | tr -d '"\\' | tr '\n\t' '  ')" >>"$records"
}

# judge CODE NAME LOG: the record of a test that has run; its last line is what it says
judge()
{
    if [ "$1" = 0 ]; then
        note "$2" "passed: $(tail -n 1 "$3" | cut -c1-200)"
    else
        failures=$((failures + 1))
        grep -E ':[FE]:|^gpu: |internal error|^========= (Invalid|Program|Race|Error)' "$3" | head -n 20 >&2 || true
        note "$2" "FAILED: $(grep -E ':[FE]:' "$3" | head -n 1 | cut -c1-300) $(tail -n 1 "$3" | cut -c1-200)"
    fi
}

# measure SECONDS NAME COMMAND...: records of a measurement
measure()
{
    seconds=$1 name=$2
    shift 2
    if within "$seconds" "$@" >"$work/out" 2>"$log"; then
        cat "$work/out" >>"$records"
    else
        grep '^{.*}$' "$work/out" >>"$records" || true
        failures=$((failures + 1))
        tail -n 20 "$log" >&2
        note "$name" "FAILED: $(grep -v 'again, launch by launch' "$log" | tail -n 2 | cut -c1-300)"
    fi
}

# ---- right?

small= count=48
[ "$mode" != --emulation ] || small=--small count=2
if [ "$mode" = --emulation ]; then list="cuda_emu waits apart"; else list=$("$folder/test_gpu" --list); fi
suites=$(echo "$list" | sed 's/ .*//')

# run_suite SECONDS yes|no SUITE: with a process for each test, or one for all
run_suite()
{
    within "$1" env CK_FORK="$2" "$folder/test_gpu" "$3" >"$work/$3" 2>&1
    echo $? >"$work/$3.code"
}

# Side by side. A process takes its time to find the device, so tests share one where they can; if one of them fails, which may take others
# along, they run again, each in its own.
for suite in $suites; do
    if echo "$list" | grep -q "^$suite .* apart"; then run_suite 240 yes "$suite" & else run_suite 90 no "$suite" & fi
done
wait
for suite in $suites; do
    if [ "$(cat "$work/$suite.code")" != 0 ] && ! echo "$list" | grep -q "^$suite .* apart"; then run_suite 200 yes "$suite" & fi
done
wait
for suite in $suites; do judge "$(cat "$work/$suite.code")" "tests: $suite" "$work/$suite"; done
# Not all tests wait for each launch. What fails when they do is told with the launch; what passes then should have waited.
for suite in $(echo "$list" | sed -n 's/ runs.*//p'); do
    [ "$(cat "$work/$suite.code")" != 0 ] || continue
    within 60 env CUDA_LAUNCH_BLOCKING=1 "$folder/test_gpu" "$suite" >"$log" 2>&1
    judge $? "tests: $suite, launch by launch" "$log"
done

# same BACKEND: what the built-in model writes, greedily
same() { within 60 "$folder/tinylm" generate --backend "$1" -p 'Once' -n $count --temp 0 2>"$log"; }
if ! text=$(same cuda); then
    failures=$((failures + 1))
    note "greedy text of the built-in model" "FAILED: $(tail -n 1 "$log" | cut -c1-300)"
elif [ "$text" = "$(same cpu)" ]; then
    note "greedy text of the built-in model" "passed: that of the CPU"
else
    note "greedy text of the built-in model" "differs from the CPU's: a sum in another order may turn a near tie"
fi

# ---- fast?

# rate OPTION...: tokens a second of the built-in model, whose step is so short that what lies between two of them shows
rate()
{
    within 60 "$folder/tinylm" generate --backend cuda -p 'Once' -n $((5 * count)) --temp 0 --stats json "$@" 2>&1 >/dev/null |
        sed -n 's/.*"new_tokens_per_second": \([0-9]*\).*/\1/p'
}
printf '%s\n' 'root ::= [^\x00]*' >"$work/any.gbnf"
note "tokens a second, whole texts of the built-in model" \
    "$(rate) where a pass begins behind the other; $(rate --grammar "$work/any.gbnf") where the host looks at each token first"

measure 260 "kernels" "$folder/gpu_bench" $small
if [ "$mode" = --emulation ]; then
    measure 60 "tiny, Q8_0" "$folder/tinylm" bench --backend cuda --shape tiny --type Q8_0 -p 8 -n 2 -r 1 -o jsonl
else
    for what in "llama-1b BF16" "llama-1b Q4_K" "llama-8b BF16" "llama-8b Q8_0" "llama-8b Q4_K" "llama-8b Q6_K"; do
        set -- $what
        measure 60 "$what" "$folder/tinylm" bench --backend cuda --shape "$1" --type "$2" -p 512,2048 -b 2048 -n 128 -r 3 -o jsonl
    done
    measure 60 "llama-1b BF16, profile" "$folder/tinylm" bench --backend cuda --shape llama-1b --type BF16 -p 512 -n 32 -r 1 -npl 8 -o jsonl
    measure 60 "training" "$folder/tinylm" bench --backend cuda --shape gpt2-124m --type F32 --train 8x1024 -r 1 -o jsonl
    within 60 "$folder/tinylm" bench --backend cuda --shape llama-8b --type Q4_K -p 512 -n 32 -r 1 --profile -o csv 2>&1 >/dev/null | sed 's/^/    /' >&2
    python=$(command -v python3 || true)
    if [ "$python" ] && "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        measure 120 "PyTorch" "$python" "$(dirname "$0")/gpu_torch.py"
    else
        note "PyTorch" "not installed, or without a GPU: nothing stands beside the kernels"
    fi
fi

# ---- what is left of the time

# The checker refuses some devices and drivers: then that is what the page says.
if [ "$mode" = --emulation ] || ! command -v compute-sanitizer >/dev/null 2>&1; then
    note "compute-sanitizer" "not installed"
else
    within 90 env CK_FORK=no compute-sanitizer --error-exitcode 9 "$folder/test_gpu" cuda >"$log" 2>&1
    code=$?
    if [ $code = 0 ] || grep -q 'ERROR SUMMARY: [1-9]' "$log"; then
        judge $code "compute-sanitizer" "$log"
    else
        note "compute-sanitizer" "did not run to its end: $(tail -n 1 "$log" | cut -c1-200)"
    fi
fi

note "all of it" "$(($(date +%s) - began)) s"
"$folder/gpu_report" "$records" "$page" "$json" || exit 1
echo "gpu-check: $page, $json; failures: $failures" >&2
[ "$failures" = 0 ]
