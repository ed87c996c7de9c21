#!/usr/bin/env bash
# From `git clone` to the first picture and the first prediction from a CSV file of one's own, as a new user goes there.
#
#   tests/benchmarks/first_prediction.sh
#
# Clones this one's HEAD into an empty directory, installs it with the extra `report`, trains on a table (2000 rows, `;`, decimal
# comma, missing values, text classes), writes the page, and predicts new rows from the run alone. Prints the seconds of each step.
# The download of the packages comes first and counts apart: it depends on the network and not on allgrad. Installs for real, so it
# needs pip's network. On a busy machine, read the CPU time.
set -euo pipefail

origin=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
place=$(mktemp -d /tmp/allgrad-first.XXXXXX)
trap 'rm -rf "$place"' EXIT
export OPENBLAS_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1

seconds_of() { # seconds_of WHAT COMMAND ...: runs it, and notes how long it took, and its CPU time
    local what=$1 user system TIMEFORMAT='%R %U %S'
    shift
    { time "$@" >"$place/log" 2>&1; } 2>"$place/times" || { cat "$place/log" >&2 && exit 1; }
    read -r taken user system <"$place/times"
    used=$(bc <<<"$user + $system")
    printf '%8.1f s  (CPU %5.1f s)  %s\n' "$taken" "$used" "$what"
}

counted() { # as seconds_of, and the time counts
    seconds_of "$@"
    total=$(bc <<<"$total + $taken") cpu=$(bc <<<"$cpu + $used")
}

wheels() {
    python3 -m venv "$place/download"
    "$place/download/bin/pip" download -q -d "$place/wheels" -c "$origin/launch/constraints.txt" "${origin}[mpich,report]" setuptools
}

own_table() { # own_table ROWS FILE
    awk -v rows="$1" 'BEGIN {
        srand(7); print "Fläche;Zimmer;Heizung;Preisklasse"
        for (i = 0; i < rows; i++) {
            area = 40 + 160 * rand(); rooms = int(1 + area / 35 + rand()); heating = rand() < 0.5 ? "Gas" : "Öl"
            size = sprintf("%.1f", area); sub(/\./, ",", size)
            print (rand() < 0.02 ? "" : size) ";" rooms ";" heating ";" (area + 10 * rooms > 150 ? "teuer" : "günstig")
        }
    }' | iconv -f UTF-8 -t WINDOWS-1252 >"$2"
}

total=0 cpu=0
seconds_of "download of the packages (not counted)" wheels
export PIP_NO_INDEX=1 PIP_FIND_LINKS="$place/wheels"
counted "git clone" git clone -q "$origin" "$place/clone"
cd "$place/clone"
own_table 2000 wohnungen.csv
own_table 50 neu.csv
cat >wohnungen.yaml <<'YAML'
model: {name: mlp, hidden: [32, 32]}
data: {name: csv, path: wohnungen.csv, target: Preisklasse, task: classes, numeric: auto, categorical: [Heizung], missing: mean}
loss: cross_entropy
batch: {size: 64}
optimizer: {name: adam, lr: 0.003}
train: {epochs: 20, eval_every: epoch}
YAML
counted "launch/setup.sh" launch/setup.sh --extras report
counted "launch/local.sh wohnungen.yaml (compiles the kernels)" launch/local.sh wohnungen.yaml run.dir=runs/wohnungen
counted "allgrad report: the first picture" .venv/bin/allgrad report runs/wohnungen
rm wohnungen.csv
counted "allgrad predict: the first prediction" .venv/bin/allgrad predict runs/wohnungen neu.csv -o preise.csv
printf '%8.1f s  (CPU %5.1f s)  in all, at most 180 wanted\n' "$total" "$cpu"
head -3 preise.csv
[ "$(wc -l <preise.csv)" -eq 51 ]
[ -s runs/wohnungen/report.html ]
