#!/bin/sh
# Arguments that are no command are curl's.
case ${1:-} in
    -*) exec curl "$@" ;;
esac
if command -v "${1:-curl}" >/dev/null; then
    exec "${@:-curl}"
fi
exec curl "$@"
