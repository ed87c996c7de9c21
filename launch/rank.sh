#!/usr/bin/env bash
# What the cluster launchers start as one rank: `rank.sh COMMAND...`. Becomes COMMAND, so that signals reach it.
#
#   LOGS=folder                     one file per rank, rank-0000.log ...; the output of rank 0 is also shown as usual
#   STAGE_FROM=path STAGE_TO=folder copies the data to this node's own disk first, once per node and job
set -euo pipefail

rank=0
for name in OMPI_COMM_WORLD_RANK PMI_RANK PALS_RANKID MV2_COMM_WORLD_RANK PMIX_RANK SLURM_PROCID; do
    if [ -n "${!name:-}" ]; then
        rank=${!name}
        break
    fi
done

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
    : "${STAGE_TO:?STAGE_FROM is set, but not STAGE_TO, the folder on the disk of the node}"
    mkdir -p "$STAGE_TO"
    marker=$STAGE_TO/.staged-${ALLGRAD_JOB:?set by the launcher}
    ( # in a shell of its own: one of the rank's own descriptors may be number 9, the launcher's line to it
        flock 9 # the first rank of a node copies, the others wait for it here
        if [ ! -e "$marker" ]; then
            echo "allgrad: rank $rank copies $STAGE_FROM to $(uname -n):$STAGE_TO"
            cp -Ru "$STAGE_FROM" "$STAGE_TO/"
            touch "$marker"
        fi
    ) 9>"$STAGE_TO/.staging.lock"
fi

exec "$@"
