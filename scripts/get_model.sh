#!/bin/sh
# Downloads a public model, resuming what an earlier try left, and checks it.
#
#     scripts/get_model.sh NAME|URL [SHA256] [-o FILE]      default FILE: the last part of the URL, in this directory
#     scripts/get_model.sh --list                           the names in scripts/models.tsv
#
# The file's name goes to stdout when it is there and right, all else to stderr. Until then the bytes are in FILE.part, so
# FILE is never half a model, and the next try goes on where the last one stopped. A download whose checksum is wrong is
# kept as FILE.bad, for a look at it, and the next try starts from zero. Without a checksum the computed one is printed.
# Exit: 0 done, 1 failed, 2 wrong usage.
set -eu

table=$(dirname "$0")/models.tsv

say() { echo "get_model: $*" >&2; }
fail() { say "$*"; exit 1; }
names() { awk -F '\t' '!/^#/ && NF == 3 { print "  " $1 }' "$table"; }

usage()
{
    echo "usage: scripts/get_model.sh NAME|URL [SHA256] [-o FILE]; names:" >&2
    names >&2
    exit 2
}

checksum_of()
{
    if command -v sha256sum >/dev/null 2>&1; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d ' ' -f 1
}

size_of() { if [ -e "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }

# ---- what to get ------------------------------------------------------------------------------------------------

source='' expected='' file=''
while [ $# -gt 0 ]; do
    case $1 in
        --list) names; exit 0 ;;
        -o) [ $# -ge 2 ] || usage; file=$2; shift ;;
        -*) usage ;;
        *) if [ -z "$source" ]; then source=$1; elif [ -z "$expected" ]; then expected=$1; else usage; fi ;;
    esac
    shift
done
[ "$source" ] || usage

case $source in
    http://* | https://*) url=$source ;;
    *)
        row=$(awk -F '\t' -v name="$source" '!/^#/ && NF == 3 && $1 == name { print $2 " " $3 }' "$table")
        [ "$row" ] || { say "no model is called '$source'"; usage; }
        url=${row% *}
        [ "$expected" ] || expected=${row##* }
        ;;
esac
expected=$(printf '%s' "${expected#-}" | tr 'A-F' 'a-f')
if [ "$expected" ] && ! printf '%s' "$expected" | grep -qxE '[0-9a-f]{64}'; then
    say "a SHA-256 has 64 hexadecimal digits: '$expected'"
    usage
fi
if [ -z "$file" ]; then
    file=${url%%[?#]*}
    file=${file##*/}
fi
[ "$file" ] || fail "$url names no file; say -o FILE"

# ---- checks -----------------------------------------------------------------------------------------------------

# Fails if the checksum of $1 is not the expected one; says it where nothing is expected.
check()
{
    found=$(checksum_of "$1")
    if [ -z "$expected" ]; then
        say "no checksum to compare with; SHA-256 of $file: $found"
    elif [ "$found" != "$expected" ]; then
        say "$1: checksum: expected $expected, found $found"
        return 1
    fi
}

if [ -e "$file" ]; then
    check "$file" || fail "$file is another file; move it away, or choose a name with -o"
    say "$file is already there"
    echo "$file"
    exit 0
fi
command -v curl >/dev/null 2>&1 || fail "curl is missing"

# ---- the download -----------------------------------------------------------------------------------------------

part=$file.part
headers=$(mktemp)
trap 'rm -f "$headers"' EXIT
if [ -t 2 ]; then progress=--progress-bar; else progress=-sS; fi

# One connection, from where $part ends. Sets $status (curl's) and $code (HTTP's). curl appends nothing of an error page.
fetch()
{
    status=0
    code=$(curl "$progress" -fL --proto '=http,https' --connect-timeout 20 --speed-limit 1 --speed-time 60 \
        -C - -D "$headers" -o "$part" -w '%{http_code}' "$url") || status=$?
}

# A connection that broke is taken up again as long as each brings something.
restarted=
while :; do
    before=$(size_of "$part")
    [ "$before" = 0 ] || say "going on after $before bytes"
    fetch
    after=$(size_of "$part")
    if [ "$code" = 416 ]; then
        # Nothing behind our last byte: either all is here, or what is here never was the start of this file.
        total=$(tr -d '\r' <"$headers" | sed -n 's/^[Cc]ontent-[Rr]ange: bytes \*\///p' | tail -n 1)
        [ "$total" = "$after" ] && break
        status=33
    fi
    case $status in
        0) break ;;
        33) # The server cannot resume, or has another file now: once more from zero.
            [ -z "$restarted" ] || fail "$url: the server does not resume"
            restarted=1
            say "the server cannot go on there; starting again"
            rm -f "$part" ;;
        18 | 28 | 52 | 55 | 56 | 92)
            [ "$after" -gt "$before" ] || fail "$url: the connection broke; $after bytes are in $part, try again later" ;;
        22) [ "$after" -gt 0 ] || rm -f "$part"
            fail "$url: the server answered $code" ;;
        *) [ "$after" -gt 0 ] || rm -f "$part"
            fail "$url: curl failed with $status" ;;
    esac
done
# An empty body makes curl write no file at all.
[ "$(size_of "$part")" -gt 0 ] || { rm -f "$part"; fail "$url: the server sent nothing"; }

if ! check "$part"; then
    mv -f "$part" "$file.bad"
    fail "kept as $file.bad"
fi
sync "$part" 2>/dev/null || sync
mv -f "$part" "$file"
echo "$file"
