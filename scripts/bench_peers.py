#!/usr/bin/env python3
"""Runs tinylm and other engines in turn on the same files, and writes a table of medians, quartiles and ratios.

    scripts/bench_peers.py -m MODEL.gguf [-m ...] [--tests pp512,tg128] [--rounds 20] [--threads 2]
                           [--peer "NAME=COMMAND OF A llama-bench" ...] [--out TABLE.md] [--tinylm ./tinylm]

A peer is any llama-bench with the options it needs ("ik=/path/llama-bench -rtr 1 -fa 1"); where llama-cpp-python can be
imported, it joins without being named. In each round every engine runs each test once, the order turning from round to
round, so that a slow minute of a shared machine falls on all of them. A ratio is that of one round; the median of the
rounds counts.

Tests: ppN reads a prompt of N tokens, tgN generates N tokens; "tgN@dM" behind M tokens (peers: -gp M,N where their
llama-bench knows it). Needs Python 3.9, and nothing else.
"""

import argparse
import importlib.util
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time


def parse_test(text):
    found = re.fullmatch(r"(pp|tg)(\d+)(?:@d(\d+))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected tests like pp512, tg128 or tg32@d2048, found '{text}'")
    return found[1], int(found[2]), int(found[3] or 0)


def run_json(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: exit {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout[done.stdout.index("["):])


class Tinylm:
    def __init__(self, program, threads, options):
        self.name, self.program, self.threads, self.options = "tinylm", program, threads, options

    def version(self):
        done = subprocess.run([self.program, "--version"], capture_output=True, text=True)
        return done.stdout.strip().splitlines()[0] if done.stdout else "unknown"

    def run(self, model, test):
        kind, count, depth = test
        sizes = ["-p", str(count), "-n", "0"] if kind == "pp" else ["-p", "0", "-n", str(count)]
        rows = run_json([self.program, "bench", "-m", model, *sizes, "-d", str(depth), "-t", str(self.threads),
                         "-r", "1", "-o", "json", *self.options])
        return rows[0]["avg_ts"]


class LlamaBench:
    def __init__(self, name, command, threads):
        self.name, self.command, self.threads = name, shlex.split(command), threads

    def version(self):
        return " ".join(self.command[1:]) or "defaults"

    def run(self, model, test):
        kind, count, depth = test
        if depth:
            sizes = ["-p", "0", "-n", "0", "-gp", f"{depth},{count}"]
        else:
            sizes = ["-p", str(count), "-n", "0"] if kind == "pp" else ["-p", "0", "-n", str(count)]
        rows = run_json([*self.command, "-m", model, *sizes, "-t", str(self.threads), "-r", "1", "-o", "json"])
        return rows[-1]["avg_ts"]


class LlamaCppPython:
    """Itself in a process of its own, so that nothing stays in memory between runs."""
    name = "llama-cpp-python"

    def __init__(self, threads):
        self.threads = threads

    def version(self):
        return subprocess.run([sys.executable, "-c", "import llama_cpp; print(llama_cpp.__version__)"],
                              capture_output=True, text=True).stdout.strip()

    def run(self, model, test):
        kind, count, depth = test
        done = subprocess.run([sys.executable, __file__, "--inside", model, kind, str(count), str(depth), str(self.threads)],
                              capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"llama-cpp-python: {done.stderr.strip().splitlines()[-1:]}")
        return float(done.stdout.split()[-1])


def inside(model, kind, count, depth, threads):
    """What LlamaCppPython runs: prints tokens a second."""
    from llama_cpp import Llama
    llama = Llama(model, n_ctx=count + depth + 8, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
    tokens = [(7 * i + 3) % (llama.n_vocab() - 1) for i in range(count + depth)]
    llama.eval(tokens[:8])
    llama.reset()
    if depth:
        llama.eval(tokens[:depth])
    begin = time.monotonic()
    if kind == "pp":
        llama.eval(tokens[depth:])
    else:
        for token in tokens[depth:]:
            llama.eval([token])
    print(count / (time.monotonic() - begin))


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def measure(engines, model, test, rounds):
    rates = {e.name: [] for e in engines}
    for i in range(rounds):
        for engine in engines[i % len(engines):] + engines[:i % len(engines)]:
            try:
                rates[engine.name].append(engine.run(model, test))
            except (RuntimeError, ValueError, KeyError, IndexError) as error:
                print(f"{engine.name}: {error}", file=sys.stderr)
                rates[engine.name].append(float("nan"))
        print(f"\r{os.path.basename(model)} {i + 1}/{rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rates


def rows(engines, model, test, rates):
    name = f"{test[0]}{test[1]}" + (f" @ d{test[2]}" if test[2] else "")
    ours = rates["tinylm"]
    for engine in engines:
        theirs = rates[engine.name]
        good = [x for x in theirs if x == x]
        if not good:
            yield f"| {os.path.basename(model)} | {name} | {engine.name} | failed | | |"
            continue
        low, middle, high = quartiles(good)
        ratios = [a / b for a, b in zip(ours, theirs) if a == a and b == b]
        r_low, r_middle, r_high = quartiles(ratios)
        ratio = "" if engine.name == "tinylm" else f"{r_middle:.2f} ({r_low:.2f}-{r_high:.2f})"
        yield (f"| {os.path.basename(model)} | {name} | {engine.name} | {middle:.2f} | {low:.2f}-{high:.2f} | {ratio} |")


def write_whole(path, text):
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as f:
        f.write(text)
    os.replace(f.name, path)


def main():
    if sys.argv[1:2] == ["--inside"]:
        model, kind, count, depth, threads = sys.argv[2:]
        return inside(model, kind, int(count), int(depth), int(threads))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", action="append", required=True)
    parser.add_argument("--tests", default="pp512,tg128")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--tinylm", default="./tinylm")
    parser.add_argument("--options", default="", help="further options of tinylm bench")
    parser.add_argument("--out", help="where the table goes; default: standard output")
    a = parser.parse_args()
    tests = [parse_test(t) for t in a.tests.split(",")]
    engines = [Tinylm(a.tinylm, a.threads, shlex.split(a.options))]
    for peer in a.peer:
        name, _, command = peer.partition("=")
        engines.append(LlamaBench(name, command, a.threads))
    if importlib.util.find_spec("llama_cpp"):
        engines.append(LlamaCppPython(a.threads))
    lines = [f"{a.threads} threads, {a.rounds} rounds in turn, {time.strftime('%Y-%m-%d')}. "
             + "; ".join(f"{e.name}: {e.version()}" for e in engines) + ".", "",
             "| model | test | engine | t/s | quartiles | tinylm / engine |", "|---|---|---|--:|--:|--:|"]
    for model in a.model:
        for test in tests:
            lines += rows(engines, model, test, measure(engines, model, test, a.rounds))
    text = "\n".join(lines) + "\n"
    if a.out:
        write_whole(a.out, text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
