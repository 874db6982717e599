#!/bin/sh
# Tests scripts/get_model.sh against a server on this machine: resuming, checksums, and servers that fail.
#
#     tests/test_get_model.sh HTTP_SERVER GET_MODEL        the program built from tests/http_server.c, and the script
set -eu
[ $# = 2 ] || { echo "usage: tests/test_get_model.sh HTTP_SERVER GET_MODEL" >&2; exit 2; }

server_program=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
# A copy of the script stands beside a table of our own.
cp "$2" "$work/get_model.sh"
cd "$work"
no_proxy='*'
export no_proxy

# 250,001 bytes that no two ranges of share: a download glued together wrongly cannot have the right checksum.
awk 'BEGIN { for (i = 0; i < 41667; i++) printf "%05d\n", i }' | head -c 250001 >model
right=$(sha256sum <model | cut -d ' ' -f 1)
wrong=$(echo other | sha256sum | cut -d ' ' -f 1)

"$server_program" model >log &
server=$!
tries=0
until [ -s log ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "the server does not start" >&2; exit 1; }
    sleep 0.05
done
base=http://127.0.0.1:$(head -n 1 log)
printf 'known\t%s/file-known.gguf\t%s\nunknown\t%s/file-unknown.gguf\t-\n' "$base" "$right" "$base" >models.tsv

failures=0
name=
begin() { name=$1; rm -rf out && mkdir out; lines=$(wc -l <log); }
requests() { tail -n "+$((lines + 1))" log | cut -d ' ' -f 2-; }
bad() { failures=$((failures + 1)); echo "FAIL $name: $*" >&2; sed 's/^/    stderr: /' err >&2; requests | sed 's/^/    asked: /' >&2; }
# run STATUS ARGUMENTS...: the script must end with STATUS.
run()
{
    want=$1; shift
    found=0
    sh ./get_model.sh "$@" >stdout 2>err || found=$?
    [ "$found" = "$want" ] || bad "exit $found instead of $want"
}
same() { cmp -s "$1" "$2" || bad "$1 differs from $2"; }
absent() { [ ! -e "$1" ] || bad "$1 should not be there"; }
says() { grep -q -- "$1" err || bad "stderr lacks '$1'"; }
asked() { [ "$(requests | tr '\n' ',')" = "$1" ] || bad "asked for something else than $1"; }

begin "plain download"
run 0 "$base/file.gguf" "$right" -o out/m
same out/m model; absent out/m.part; asked "/file.gguf -,"
[ "$(cat stdout)" = out/m ] || bad "stdout is not the file's name"

begin "already there"
cp model out/m
run 0 "$base/file.gguf" "$right" -o out/m
asked ""; says "already there"

begin "another file is there"
echo mine >out/m
run 1 "$base/file.gguf" "$right" -o out/m
asked ""; says "checksum"; [ "$(cat out/m)" = mine ] || bad "the other file was changed"

begin "connection that breaks"
run 0 "$base/cut.gguf" "$right" -o out/m
same out/m model; asked "/cut.gguf -,/cut.gguf 100000,/cut.gguf 200000,"

begin "resumed by a second run"
run 1 "$base/first.gguf" "$right" -o out/m
absent out/m; [ "$(wc -c <out/m.part)" = 100000 ] || bad "out/m.part has not 100000 bytes"; says "100000 bytes"
lines=$(wc -l <log)
run 0 "$base/file.gguf" "$right" -o out/m
same out/m model; absent out/m.part; asked "/file.gguf 100000,"

begin "all bytes were there"
cp model out/m.part
run 0 "$base/file.gguf" "$right" -o out/m
same out/m model; asked "/file.gguf 250001,"

begin "more bytes were there than the file has"
cat model model >out/m.part
run 0 "$base/file.gguf" -o out/m
same out/m model; asked "/file.gguf 500002,/file.gguf -,"

begin "server without ranges"
head -c 1000 model >out/m.part
run 0 "$base/whole.gguf" "$right" -o out/m
same out/m model; says "starting again"

begin "wrong checksum"
run 1 "$base/file.gguf" "$wrong" -o out/m
absent out/m; absent out/m.part; same out/m.bad model; says "expected $wrong, found $right"
run 0 "$base/file.gguf" "$right" -o out/m

begin "resumed from bytes of another file"
tr 0 1 <model | head -c 5000 >out/m.part
run 1 "$base/file.gguf" "$right" -o out/m
absent out/m; says "checksum"
run 0 "$base/file.gguf" "$right" -o out/m
same out/m model

begin "404"
run 1 "$base/nothing.gguf" -o out/m
absent out/m; absent out/m.part; says "answered 404"

begin "404 keeps what was there"
head -c 1000 model >out/m.part
run 1 "$base/nothing.gguf" -o out/m
[ "$(wc -c <out/m.part)" = 1000 ] || bad "out/m.part has changed"

begin "redirection"
run 0 "$base/moved.gguf" "$right" -o out/m
same out/m model

begin "upper-case checksum"
run 0 "$base/file.gguf" "$(echo "$right" | tr a-f A-F)" -o out/m

begin "name from the table, file name from the URL"
run 0 known
same file-known.gguf model

begin "name without a checksum"
run 0 unknown -o out/m
same out/m model; says "$right"

begin "list"
run 0 --list
[ "$(tr -d ' ' <stdout | tr '\n' ,)" = known,unknown, ] || bad "wrong list"

begin "usage"
run 2
run 2 no-such-model
run 2 "$base/file.gguf" 123
run 2 --what

begin "server that is gone"
kill "$server"; wait "$server" 2>/dev/null || :
server=
run 1 "$base/file.gguf" "$right" -o out/m
absent out/m; absent out/m.part; says "curl failed with 7"

[ "$failures" = 0 ] || { echo "test_get_model: $failures failures" >&2; exit 1; }
echo "test_get_model: all passed"
