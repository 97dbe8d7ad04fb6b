#!/bin/sh
# What the image's entrypoint is for: scripts of /docker-entrypoint.d run before nginx, those that end in .envsh in this
# very shell, so that they can set variables for it.
set -e
case ${1:-} in
    nginx | nginx-debug)
        for script in /docker-entrypoint.d/*; do
            case $script in
                *.envsh) [ ! -x "$script" ] || . "$script" ;;
                *.sh) [ ! -x "$script" ] || "$script" ;;
            esac
        done
        ;;
esac
exec "$@"
