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
reason=$("$folder/tinylm" info | sed -n 's/^backends *//p')
case $reason in *"cpu, cuda: "*) ;; *) echo "gpu-check: no GPU: $reason" >&2; exit 1 ;; esac

# cuBLAS comes with the toolkit, or with somebody's Python.
if [ "$mode" != --emulation ] && ! ldconfig -p 2>/dev/null | grep -q 'libcublas\.so\.1[23]'; then
    cublas=$(find /usr/local /opt /usr/lib -name 'libcublas.so.1[23]' 2>/dev/null | head -n 1)
    [ -z "$cublas" ] || export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(dirname "$cublas")"
fi

records=$(mktemp) log=$(mktemp)
trap 'rm -f "$records" "$log"' EXIT
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
    timeout "$left" "$@"
}

# note NAME TEXT: a record of a test, and a line on stderr
note()
{
    echo "gpu-check: $1: $2" >&2
    printf '{"kind": "test", "name": "%s", "text": "%s"}\n' "$1" "$(printf %s "$2" | tr -d '"\\' | tr '\n\t' '  ')" >>"$records"
}

# step SECONDS NAME COMMAND...: a test; its last line is what the record says
step()
{
    seconds=$1 name=$2
    shift 2
    if within "$seconds" "$@" >"$log" 2>&1; then
        note "$name" "passed: $(tail -n 1 "$log" | cut -c1-200)"
    else
        failures=$((failures + 1))
        grep -E ':[FE]:' "$log" | head -n 20 >&2 || true
        note "$name" "FAILED: $(grep -E ':[FE]:' "$log" | head -n 1 | cut -c1-300) $(tail -n 1 "$log" | cut -c1-200)"
    fi
}

# measure SECONDS NAME COMMAND...: records of a measurement
measure()
{
    seconds=$1 name=$2
    shift 2
    if within "$seconds" "$@" >"$log.out" 2>"$log"; then
        cat "$log.out" >>"$records"
    else
        grep '^{.*}$' "$log.out" >>"$records" || true
        failures=$((failures + 1))
        note "$name" "FAILED: $(tail -n 1 "$log" | cut -c1-300)"
    fi
    rm -f "$log.out"
}

# ---- right?

small= count=48
[ "$mode" != --emulation ] || small=--small count=2
if [ "$mode" = --emulation ]; then
    step 60 "kernels against the double reference" "$folder/test_gpu" cuda_emu
else
    step 240 "kernels against the double reference" "$folder/test_gpu" cuda cuda_experts cuda_gradient
    step 120 "whole models" "$folder/test_gpu" cuda_model
    step 60 "training steps against the CPU's" "$folder/test_gpu" cuda_train
    # The checker refuses some devices and drivers: then that is what the page says.
    if command -v compute-sanitizer >/dev/null 2>&1; then
        step 90 "compute-sanitizer" env CK_FORK=no compute-sanitizer --error-exitcode 9 "$folder/test_gpu" cuda
    else
        note "compute-sanitizer" "not installed"
    fi
fi

# same BACKEND: what the built-in model writes, greedily
same() { "$folder/tinylm" generate --backend "$1" -p 'Once' -n $count --temp 0 2>/dev/null; }
if [ "$(same cuda)" = "$(same cpu)" ]; then
    note "greedy text of the built-in model" "passed: that of the CPU"
else
    note "greedy text of the built-in model" "differs from the CPU's: a sum in another order may turn a near tie"
fi

# ---- fast?

measure 200 "kernels" "$folder/gpu_bench" $small
if [ "$mode" = --emulation ]; then
    measure 60 "tiny, Q8_0" "$folder/tinylm" bench --backend cuda --shape tiny --type Q8_0 -p 8 -n 2 -r 1 -o jsonl
else
    for what in "llama-1b BF16" "llama-1b Q4_K" "llama-8b BF16" "llama-8b Q8_0" "llama-8b Q4_K" "llama-8b Q6_K"; do
        set -- $what
        measure 60 "$what" "$folder/tinylm" bench --backend cuda --shape "$1" --type "$2" -p 512,2048 -b 2048 -n 128 -r 3 -o jsonl
    done
    measure 60 "llama-1b BF16, profile" "$folder/tinylm" bench --backend cuda --shape llama-1b --type BF16 -p 512 -n 32 -r 1 -npl 8 -o jsonl
    "$folder/tinylm" bench --backend cuda --shape llama-8b --type Q4_K -p 512 -n 32 -r 1 --profile -o csv 2>&1 >/dev/null | sed 's/^/    /' >&2
    python=$(command -v python3 || true)
    if [ "$python" ] && "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        measure 120 "PyTorch" "$python" "$(dirname "$0")/gpu_torch.py"
    else
        note "PyTorch" "not installed, or without a GPU: nothing stands beside the kernels"
    fi
fi

note "all of it" "$(($(date +%s) - began)) s"
"$folder/gpu_report" "$records" "$page" "$json" || exit 1
echo "gpu-check: $page, $json; failures: $failures" >&2
[ "$failures" = 0 ]
