#!/bin/sh
# Installs the Debian packages that building and testing need, if any is missing: as root, or through sudo.
#
#     scripts/install_deps.sh [--dev]      --dev: also what formatting, static analysis and fuzzing need
#
# Where all is there it does nothing, says nothing and takes a few milliseconds. Where something is missing and cannot be
# installed from here, it says what, and ends with 1.
set -eu

needed="gcc g++ make libc6-dev libedit-dev libinih-dev libjansson-dev libpcre2-dev libutf8proc-dev libxxhash-dev check curl ca-certificates"
needed_dev="clang clang-format clang-tidy cppcheck"

fail()
{
    echo "install_deps: $*" >&2
    exit 1
}

installed()
{
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Waits for another apt instead of failing on its lock.
apt_install()
{
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" >&2
}

# Installs those of the packages that are missing. The package lists are fetched only if the ones at hand (none at all in a
# fresh container) do not do.
install_missing()
{
    missing=
    for package in "$@"; do
        installed "$package" || missing="$missing $package"
    done
    [ "$missing" ] || return 0

    command -v apt-get >/dev/null 2>&1 || fail "missing packages, and no apt-get to install them with:$missing"
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 || fail "neither root nor sudo; as root, run: apt-get install$missing"
        as_root=sudo
    fi
    echo "install_deps: ${as_root:+sudo }apt-get install$missing" >&2
    # shellcheck disable=SC2086 # a list of words
    if ! apt_install $missing; then
        echo "install_deps: again, with fresh package lists" >&2
        $as_root apt-get update -qq >&2 || fail "apt-get update failed; still missing:$missing"
        apt_install $missing || fail "apt-get could not install:$missing"
    fi
}

case ${1-} in
    "") dev= ;;
    --dev) dev=1 ;;
    *) echo "usage: scripts/install_deps.sh [--dev]" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
    # Another distribution: content if the headers and tools are there under whatever names.
    command -v make >/dev/null 2>&1 && printf '#include <check.h>\n#include <editline/readline.h>\n' |
        "${CC:-cc}" -E - >/dev/null 2>&1 && exit 0
    fail "no dpkg here; please install the counterparts of these Debian packages: $needed ${dev:+$needed_dev}"
fi

# shellcheck disable=SC2086 # lists of words
install_missing $needed
if [ "$dev" ]; then
    # shellcheck disable=SC2086
    install_missing $needed_dev
    # The runtime of clang's sanitizers and libFuzzer is a package named after the version that is the default.
    install_missing "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
fi
