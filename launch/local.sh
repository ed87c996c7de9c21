#!/usr/bin/env bash
# Trains on this machine, from a bare clone:
#
#   launch/local.sh [-n RANKS] [--mpi mpich|openmpi|system] [--extras scipy,tensorboard] [--survive] [--supervise] CONFIG [key=value ...]
#
# The first call makes an environment in the clone (launch/setup.sh); later ones start at once. Without -n there is one rank
# for every physical core that this process may use, at most one per virtual worker of CONFIG. What follows CONFIG goes to
# `allgrad train -n`, which this process becomes: Ctrl-C, SIGTERM and SIGUSR1 save the run's state and end it (exit code 4).
# With --survive, the ranks that are left go on when others die, and replace them (docs/reliability.md; Open MPI, which becomes the
# default of --mpi). With --supervise, a run that fails is started again from its newest checkpoint (`allgrad supervise --help`).
set -euo pipefail

# shellcheck source=launch/mpi.sh
source "$(dirname "${BASH_SOURCE[0]}")/mpi.sh"

ranks="" mpi="" extras="" survive="" supervised=""
while [ $# -gt 0 ]; do
    case $1 in
        -n | --mpi | --extras)
            [ $# -ge 2 ] || die "$1 needs a value"
            case $1 in
                -n) ranks=$2 ;;
                --mpi) mpi=$2 ;;
                --extras) extras=$2 ;;
            esac
            shift 2
            ;;
        --survive) survive=--survive && shift ;;
        --supervise) supervised=yes && shift ;;
        -h | --help) help && exit 0 ;;
        -*) die "unknown option '$1' before CONFIG (launch/local.sh --help)" ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || die "no CONFIG given, such as configs/moby_dick.yaml (launch/local.sh --help)"
[ -f "$1" ] || die "there is no file '$1' (in $PWD)"
case $ranks in *[!0-9]* | 0) die "-n must be a positive number, got '$ranks'" ;; esac

[ -z "$survive" ] || mpi=${mpi:-openmpi}
mpi=${mpi:-mpich}
use_mpi "$mpi"
"$launch/setup.sh" --mpi "$mpi" --extras "$extras"
one_blas_thread
training=("$venv/bin/allgrad" train -n "${ranks:-auto}" ${survive:+"$survive"} "$@")
[ -z "$supervised" ] || exec "$venv/bin/allgrad" supervise -- "${training[@]}"
exec "${training[@]}"
