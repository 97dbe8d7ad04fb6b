#!/bin/sh
# What the image's entrypoint is for: scripts of /docker-entrypoint.d run before nginx, those that end in .envsh in this
# very shell, so that they can set variables for it.
set -e
if [ "${1:-}" = nginx ]; then
    for script in /docker-entrypoint.d/*.envsh /docker-entrypoint.d/*.sh; do
        [ -x "$script" ] || continue
        if [ "${script%.envsh}" != "$script" ]; then
            # shellcheck source=/dev/null
            . "$script"
        else
            "$script"
        fi
    done
fi
exec "$@"
