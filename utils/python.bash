# shellcheck shell=bash
# The virtual environment .venv, of Debian's own python3: Mininet, nftables and etcd3 are Debian's modules, so another
# python3 that comes first on PATH will not do. Sourced by utils/setup.

PYTHON=/usr/bin/python3
# Bump when what ensure_environment does changes, so that existing environments are brought up to date.
ENVIRONMENT_RECIPE=1

# Of pip's variables only those that say where and how to download are kept; the rest belongs to other projects.
tame_pip() {
    local name
    for name in $(compgen -A variable PIP_); do
        case $name in
            PIP_CERT | PIP_CLIENT_CERT | PIP_PROXY | PIP_INDEX_URL | PIP_EXTRA_INDEX_URL | PIP_FIND_LINKS | PIP_NO_INDEX) ;;
            PIP_TRUSTED_HOST | PIP_DEFAULT_TIMEOUT | PIP_TIMEOUT | PIP_RETRIES | PIP_CACHE_DIR | PIP_KEYRING_PROVIDER) ;;
            *) unset "$name" ;;
        esac
    done
    export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_CACHE_DIR=${PIP_CACHE_DIR-$TOOLS/cache/pip}
}

# environment_hash FILE...: what the environment depends on, these files among it
environment_hash() {
    (cd -- "$CHECKOUT" && { printf '%s\n' "$ENVIRONMENT_RECIPE" "$CHECKOUT" "$(readlink -f "$PYTHON")" && cat -- "$@"; } | sha256sum)
}

# is_stamped NAME FILE...
is_stamped() {
    local stamp=$ENVIRONMENT/$1.stamp
    shift
    [[ -x $ENVIRONMENT/bin/python && -f $stamp && $(<"$stamp") == "$(environment_hash "$@")" ]]
}

RUNTIME_FILES=(requirements.txt pyproject.toml setup.py)
TEST_FILES=("${RUNTIME_FILES[@]}" requirements-test.txt)

has_environment() { [[ -x $ENVIRONMENT/bin/knetsim ]] && is_stamped runtime "${RUNTIME_FILES[@]}"; }
has_test_environment() { [[ -x $ENVIRONMENT/bin/pytest ]] && is_stamped tests "${TEST_FILES[@]}"; }

# pip_install ARGUMENT...: by the environment's pip, its words in the log; fails with the last of them
pip_install() {
    local log=$TOOLS/log/python.log
    mkdir -p -- "$TOOLS/log"
    if ! (cd -- "$CHECKOUT" && tame_pip && "$ENVIRONMENT/bin/python" -m pip install --progress-bar off "$@") >"$log" 2>&1; then
        tail -n 3 -- "$log" >&2
        fail "the Python packages could not be installed; log: $log" "check the network, then this again"
    fi
}

# An environment that was made by another Python, or for a checkout at another place, is made anew.
is_usable_environment() {
    local settings=$ENVIRONMENT/pyvenv.cfg
    [[ -x $ENVIRONMENT/bin/python && -f $settings ]] || return 1
    grep -qix 'include-system-site-packages = true' "$settings" && grep -qx 'home = /usr/bin' "$settings" || return 1
    [[ $(grep '^command = ' "$settings") == *" $ENVIRONMENT" ]] && "$ENVIRONMENT/bin/python" -c 'import pip' 2>/dev/null
}

ensure_environment() {
    if has_environment; then return; fi
    # `venv --clear` would empty what a link leads to: the environment of another checkout, which may be at work
    [[ ! -L $ENVIRONMENT ]] ||
        fail "$ENVIRONMENT is a link to $(readlink -- "$ENVIRONMENT"), an environment of another place" "rm '$ENVIRONMENT', then this again"
    if ! is_usable_environment; then
        say "Python: a virtual environment in .venv (about 5 s)"
        "$PYTHON" -m venv --clear --system-site-packages "$ENVIRONMENT" ||
            fail "$PYTHON could not make a virtual environment in $ENVIRONMENT" "sudo apt-get install --reinstall python3-venv"
    fi
    "$PYTHON" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' || fail "$PYTHON is too old: knetsim needs Python 3.11, as Debian 12 has it"
    say "Python: packages and knetsim itself (about 15 s)"
    pip_install --no-deps --requirement requirements.txt
    pip_install --no-deps --no-build-isolation --editable .
    "$ENVIRONMENT/bin/python" -c 'import click, etcd3, mininet, nftables, proton, pyroute2, rich, yaml' ||
        fail "a Python module that knetsim needs does not load (see above)" "rm -r .venv, then this again"
    environment_hash "${RUNTIME_FILES[@]}" >"$ENVIRONMENT/runtime.stamp"
    rm -rf -- "$TOOLS/cache/pip"
}

ensure_test_environment() {
    if has_test_environment; then return; fi
    say "Python: packages for the tests (about 15 s)"
    pip_install --no-deps --requirement requirements-test.txt
    environment_hash "${TEST_FILES[@]}" >"$ENVIRONMENT/tests.stamp"
    rm -rf -- "$TOOLS/cache/pip"
}
