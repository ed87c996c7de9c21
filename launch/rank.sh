#!/usr/bin/env bash
# What the cluster launchers start as one rank: `rank.sh COMMAND...`. Becomes COMMAND, so that signals reach it.
#
#   LOGS=directory                     one file per rank, rank-0000.log ...; the output of rank 0 is also shown as usual
#   STAGE_FROM=path STAGE_TO=directory copies the data to this node's own disk first, once per node and job. A file counts as
#                                      copied if its content is the same, and appears under its name when it is whole.
#
# A rank that cannot start says so on the job's output too, and dies of a signal: launchers wait for ranks that merely exit
# before they have joined.
set -euo pipefail
exec 3>&2 # the job's output, wherever this rank's goes

rank=0
for name in OMPI_COMM_WORLD_RANK PMI_RANK PALS_RANKID MV2_COMM_WORLD_RANK PMIX_RANK SLURM_PROCID; do
    if [ -n "${!name:-}" ]; then
        rank=${!name}
        break
    fi
done

give_up() {
    local text
    text="allgrad: rank $rank on $(uname -n) cannot start: $*"
    echo "$text" >&2
    [ -z "${LOGS:-}" ] || echo "$text" >&3
    kill -KILL $$
}

# copy FILE TARGET: unless its content is there already
copy() {
    cmp -s "$1" "$2" && return
    mkdir -p "$(dirname "$2")" && cp -p "$1" "$2.partial" && cmp -s "$1" "$2.partial" && mv -f "$2.partial" "$2"
}

# stage: copies $STAGE_FROM, a file or a directory, into $STAGE_TO
stage() {
    local target file
    target=$STAGE_TO/$(basename "$STAGE_FROM")
    if [ ! -d "$STAGE_FROM" ]; then
        copy "$STAGE_FROM" "$target"
        return
    fi
    mkdir -p "$target"
    find -L "$STAGE_FROM" -type f -print0 | while IFS= read -r -d '' file; do
        copy "$file" "$target/${file#"$STAGE_FROM"/}" || return
    done
}

if [ -n "${LOGS:-}" ]; then
    mkdir -p "$LOGS"
    log=$LOGS/$(printf 'rank-%04d.log' "$rank")
    if [ "$rank" = 0 ]; then
        # The launcher's signals may go to the whole process group; the copier lives until its input ends.
        exec > >(trap '' USR1 TERM INT && exec tee -a "$log") 2>&1
    else
        exec >>"$log" 2>&1
    fi
fi

if [ -n "${STAGE_FROM:-}" ]; then
    [ -n "${STAGE_TO:-}" ] || give_up "STAGE_FROM is set, but not STAGE_TO, the directory on the disk of the node"
    STAGE_FROM=${STAGE_FROM%/}
    mkdir -p "$STAGE_TO" || give_up "$STAGE_TO cannot be made"
    marker=$STAGE_TO/.staged-${ALLGRAD_JOB:?set by the launcher}
    ( # in a shell of its own: one of the rank's own descriptors may be number 9, the launcher's line to it
        flock 9 # the first rank of a node copies, the others wait for it here
        if [ ! -e "$marker" ]; then
            echo "allgrad: rank $rank copies $STAGE_FROM to $(uname -n):$STAGE_TO"
            stage || exit
            touch "$marker"
        fi
    ) 9>"$STAGE_TO/.staging.lock" || give_up "$STAGE_FROM could not be copied to $STAGE_TO"
fi

type -P "$1" >/dev/null || give_up "there is no program $1 here"
exec 3>&-
export ALLGRAD_RANK_OF=${ALLGRAD_JOB:-} # by which the launcher's watchdog knows ranks (mpi.sh)
exec "$@"
