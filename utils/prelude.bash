# shellcheck shell=bash
# What the scripts of this folder share: where the checkout is, an environment without surprises, how they speak.
# Sourced first; works from any directory and for a checkout at any path.

CHECKOUT=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # read by the scripts that source this
ENVIRONMENT=$CHECKOUT/.venv
# A root shell by `su` may lack these, and dpkg needs them.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# What a shell set for other projects' Python must not lead ours astray; a personal ~/.local holds what it likes.
unset CDPATH GREP_OPTIONS PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONOPTIMIZE PYTHONPLATLIBDIR PYTHONWARNINGS VIRTUAL_ENV
export PYTHONNOUSERSITE=1

say() { printf '%s\n' "$*"; }

complain() { printf '%s\n' "$*" >&2; }

# fail WHAT [HINT]: end with exit code 1
fail() {
    complain "${0##*/}: $1"
    [[ -z ${2-} ]] || complain "    try: $2"
    exit 1
}

# misuse WHAT: end with exit code 2
misuse() {
    complain "${0##*/}: $1 (${0##*/} --help shows the usage)"
    exit 2
}

# usage: print the comment on top of the script, which is its manual
usage() { sed -nE '2,/^[^#]|^$/{/^#/!d; s/^# ?//; p}' "$0"; }
