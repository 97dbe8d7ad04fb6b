# shellcheck shell=bash
# Debian packages: install what is missing, and leave no service of theirs running or enabled. Sourced by utils/setup.

POLICY=/usr/sbin/policy-rc.d
POLICY_MARK='knetsim set-up: no service starts during this installation'

# installed_packages [NAME...]: the installed ones of these packages, or all, a line each
installed_packages() {
    { dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true; } | sed -n 's/^installed //p'
}

# missing_packages PACKAGE...: which of these are not installed, a line each; of `a|b|c` any will do, and `a` is named
missing_packages() {
    local installed choice name names
    read -r -a names <<<"${*//|/ }"
    installed=" $(installed_packages "${names[@]}" | tr '\n' ' ')"
    for choice; do
        for name in ${choice//|/ }; do
            [[ $installed != *" $name "* ]] || continue 2
        done
        say "${choice%%|*}"
    done
}

has_packages() {
    command -v dpkg-query >/dev/null && [[ -z $(missing_packages "$@") ]]
}

# ensure_packages PACKAGE...: fails with a remedy
ensure_packages() {
    local missing list
    command -v apt-get >/dev/null ||
        fail "this machine has no apt: knetsim's set-up knows Debian 12 and its kin" "the Docker image: see README.md"
    list=$(missing_packages "$@")
    [[ -n $list ]] || return 0
    mapfile -t missing <<<"$list"
    [[ $EUID -eq 0 ]] ||
        fail "only root can install Debian packages; missing: ${missing[*]}" "sudo $0, or: sudo apt-get install --no-install-recommends ${missing[*]}"
    say "Debian packages: installing ${#missing[@]} (up to two minutes): ${missing[*]}"
    install_packages "${missing[@]}" || fail "the Debian packages could not be installed" "sudo apt-get update; sudo dpkg --configure -a; then this again"
}

install_packages() (
    local before log=$TOOLS/log/debian.log
    mkdir -p -- /run/lock "$TOOLS/log"
    exec 8>/run/lock/knetsim-debian.lock
    flock 8
    trap 'remove_policy' EXIT
    write_policy
    before=$(installed_packages | sort -u)
    export DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none NEEDRESTART_MODE=l
    apt-get update --quiet >"$log" 2>&1 || complain "    apt-get update had trouble; going on with the lists that are there"
    if ! apt-get install --yes --quiet --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1; then
        grep -E '^(E:|W:|dpkg: error)' "$log" >&2 || tail -n 5 -- "$log" >&2
        say "    log: $log"
        switch_services_off "$before"
        exit 1
    fi
    switch_services_off "$before"
)

# Debian starts a service when its package is configured, unless this file forbids it. Somebody else's is left as it is.
write_policy() {
    [[ ! -e $POLICY ]] || grep -qF "$POLICY_MARK" "$POLICY" || return 0
    printf '#!/bin/sh\n# %s\nexit 101\n' "$POLICY_MARK" >"$POLICY"
    chmod 755 "$POLICY"
}

remove_policy() {
    ! grep -qsF "$POLICY_MARK" "$POLICY" || rm -f -- "$POLICY"
}

# switch_services_off PACKAGES-BEFORE: no service of a package that was not there before starts now or at the next boot
switch_services_off() {
    local fresh files unit script
    mapfile -t fresh < <(installed_packages | sort -u | comm -13 <(printf '%s\n' "$1") -)
    ((${#fresh[@]})) || return 0
    files=$(dpkg-query --listfiles "${fresh[@]}")
    if command -v systemctl >/dev/null; then
        sed -nE 's#^(/usr)?/lib/systemd/system/([^/@]+\.(service|socket|timer))$#\2#p' <<<"$files" | while read -r unit; do
            systemctl --quiet is-enabled "$unit" 2>/dev/null || continue
            systemctl --quiet disable "$unit" >/dev/null 2>&1 || true
            [[ ! -d /run/systemd/system ]] || systemctl --quiet stop "$unit" || true
            say "    left switched off: $unit"
        done
    else
        sed -nE 's#^/etc/init\.d/([^/]+)$#\1#p' <<<"$files" | while read -r script; do
            update-rc.d "$script" disable >/dev/null 2>&1 || true
        done
    fi
}
