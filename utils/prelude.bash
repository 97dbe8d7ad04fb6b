# shellcheck shell=bash
# What the scripts of this folder share: where the checkout is, an environment without surprises, how they speak.
# Sourced first; works from any directory and for a checkout at any path.

CHECKOUT=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # read by the scripts that source this
ENVIRONMENT=$CHECKOUT/.venv
# programs of ours, logs of set-ups
# shellcheck disable=SC2034 # as above
TOOLS=$CHECKOUT/.tools
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

# require_root WHAT ARGUMENT...: fail unless it is root who called this script, with these arguments, to do WHAT
require_root() {
    local what=$1
    shift
    [[ $(id -u) == 0 ]] || fail "only root can $what" "sudo $0${*:+ ${*@Q}}"
}

# hand_over PATH...: under sudo, what is made in somebody's checkout is theirs: they can move, clean and delete it
hand_over() {
    local owner
    owner=$(stat -c %u:%g -- "$CHECKOUT")
    [[ $EUID -eq 0 && $owner != 0:* ]] || return 0
    find "$@" -uid 0 -exec chown -h "$owner" -- {} + 2>/dev/null || true
}

# usage: print the comment on top of the script, which is its manual
usage() { sed -nE '2,/^[^#]|^$/{/^#/!d; s/^# ?//; p}' "$0"; }
