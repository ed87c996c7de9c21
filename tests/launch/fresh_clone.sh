#!/usr/bin/env bash
# Both commands from nothing, as the README promises them: a fresh clone of this one's HEAD, an empty HOME, an empty environment
# but for pip's own variables, as the user who calls it and, when that is root, as an ordinary user as well. Installs for real,
# so it needs pip's network and some minutes; no test calls it.
#
#   tests/launch/fresh_clone.sh [CONFIG [key=value ...]]      what launch/local.sh trains (default: a short diamonds)
set -euo pipefail

origin=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
[ $# -gt 0 ] || set -- configs/diamonds.yaml train.steps=20
mapfile -t pip < <(env | grep '^PIP_' || true)

# attempt USER [CONFIG ...]: everything as that user
attempt() {
    local user=$1 place
    shift
    place=$(mktemp -d /tmp/allgrad-fresh.XXXXXX)
    git clone -q "$origin" "$place/clone"
    mkdir "$place/home"
    local run=(env -i HOME="$place/home" PATH=/usr/bin:/bin ${pip[@]+"${pip[@]}"})
    if [ "$user" != "$(id -un)" ]; then
        chown -R "$user" "$place"
        run=(runuser -u "$user" -- "${run[@]}")
    fi
    cd "$place/clone"
    echo "== $user: two callers at once, then training"
    "${run[@]}" launch/setup.sh &
    local other=$!
    time "${run[@]}" launch/local.sh "$@"
    wait "$other"
    echo "== $user: the second call"
    time "${run[@]}" launch/setup.sh
    time "${run[@]}" launch/local.sh -n 2 "$@"
    echo "== $user: the tests of the launchers and the command line"
    time "${run[@]}" launch/test.sh -q tests/launch tests/cli
    echo "== $user: Open MPI beside it"
    time "${run[@]}" launch/local.sh --mpi openmpi -n 2 "$@"
    [ -z "$(git status --porcelain)" ] || { git status --short && return 1; }
    cd "$origin"
    rm -rf "$place"
    echo "== $user: all is well"
}

attempt "$(id -un)" "$@"
if [ "$(id -u)" = 0 ]; then
    name=allgrad-fresh
    id "$name" >/dev/null 2>&1 || { useradd --no-create-home --home-dir /nonexistent "$name" && trap 'userdel allgrad-fresh' EXIT; }
    attempt "$name" "$@"
fi
