#!/usr/bin/env bash
# Rows of cpus.py (the shipped configurations, shortened) on emulated 64-bit Arm; prints the digests of their weights beside this
# machine's. Nothing is installed on the machine. It needs a Debian or Ubuntu with apt, about 1 GB in DIRECTORY, and several
# minutes per row (numba compiles under emulation).
#
#   tests/portability/arm.sh DIRECTORY [row ...]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:?usage: arm.sh DIRECTORY [configuration ...]}
shift
[ $# -gt 0 ] || set -- diamonds heat_equation
python=${PYTHON:-$root/.venv/bin/python}
suite=${SUITE:-bookworm}  # its Python is 3.11; for another suite set VERSION as well
version=${VERSION:-3.11}
mirror=${MIRROR:-$(apt-get indextargets --format "\$(SITE)" "Release: $suite" | sed -n 1p)}  # this machine's own
mkdir -p "$work"
work=$(cd "$work" && pwd)
cd "$work"

if [ ! -x tools/usr/bin/qemu-aarch64-static ]; then
    apt-get download qemu-user-static debootstrap
    for package in *.deb; do dpkg-deb -x "$package" tools; done
fi
if [ ! -x "root/usr/bin/python$version" ]; then
    # The first stage only unpacks what the second needs; a Python without installation scripts is all that is wanted here.
    DEBOOTSTRAP_DIR=$work/tools/usr/share/debootstrap tools/usr/sbin/debootstrap --arch=arm64 --foreign --variant=minbase \
        --include=python3 "$suite" root "$mirror"
    for package in root/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" root; done
fi
if [ ! -d site/numba ]; then
    wanted=$("$python" -c 'from importlib.metadata import version as v
print(*(f"{n}=={v(n)}" for n in "numpy numba llvmlite PyYAML pydantic safetensors rich annotated-types mpi4py".split()))')
    platforms=$(for glibc in 28 27 17; do echo "--platform manylinux_2_${glibc}_aarch64"; done)
    # shellcheck disable=SC2086  # words, on purpose
    "$python" -m pip install -q --target site $platforms --python-version "$version" --implementation cp --only-binary=:all: $wanted
fi

export OPENBLAS_NUM_THREADS=1 PYTHONNOUSERSITE=1 HOME=$work
arm=(tools/usr/bin/qemu-aarch64-static -L root "root/usr/bin/python$version" -W ignore)
for row in "$@"; do
    files=$(mktemp -d)
    mapfile -t words < <("$python" "$root/tests/portability/cpus.py" --print "$row" "$files")
    here=$("$python" -W ignore -m allgrad train "${words[@]}" --debug run.dir="$files/here" | tail -1)
    there=$(PYTHONPATH=$work/site:$root/src "${arm[@]}" -m allgrad train "${words[@]}" --debug run.dir="$files/there" | tail -1)
    rm -r "$files"
    echo "$row: here $here"
    echo "$row: Arm  $there"
    [ "$here" = "$there" ] || { echo "$row: the digests differ"; exit 1; }
done
