#!/usr/bin/env bash
# The whole program in one command.
#
#   bash run.sh demo       install, make the demo data, run steps 1 to 7 and 9 on it (no download of data)
#   bash run.sh coma       steps 2 to 7 and 9 on Dataset_FLAME_Aligned_COMA/, from where the data begins (landmarks alone: from step 4)
#   bash run.sh florence   steps 1, 3 to 7 and 9 on Dataset_FLAME_Aligned/, likewise
#   bash run.sh install    install only
#   bash run.sh test       install and run the tests (what follows goes to pytest)
#   bash run.sh check      install, then lint, formatting and types: ruff and mypy, as pyproject.toml says
#
# Needs Python 3.10 or newer; PYTHON=python3.12 bash run.sh ... picks one. Run again, it reuses what exists and goes on where it stopped.
# Without an NVIDIA GPU torch is installed from TORCH_INDEX, PyTorch's builds without CUDA; TORCH_INDEX= bash run.sh ... takes the usual one.
set -euo pipefail
cd "$(dirname "$0")"

usage() { sed -n '2,12p' "$0" | cut -c3-; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: ${PYTHON:-python3}: expected Python 3.10 or newer, found none (name one: PYTHON=python3.12 bash run.sh ...)" >&2
    exit 2
}

TORCH_INDEX=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}

has_gpu() { [ "$(uname -s)" != Linux ] || [ -e /proc/driver/nvidia ] || command -v nvidia-smi >/dev/null; }

pip_install() { .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }

# Installs when .venv is new, or when what is to be installed has changed; the stamp is written last.
install() {
    local python wanted
    if [ ! -x .venv/bin/python ]; then
        python=$(find_python)
        echo "== making .venv with $("$python" --version)"
        "$python" -m venv .venv
    fi
    wanted=$(cat requirements.txt pyproject.toml | cksum)
    if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
        echo "== installing requirements.txt into .venv; the first time this takes minutes (1.5 GB, with CUDA 5.3 GB)"
        if [ -n "$TORCH_INDEX" ] && ! has_gpu; then
            pip_install --retries 1 --timeout 15 --index-url "$TORCH_INDEX" "$(grep '^torch==' requirements.txt)" 2>/dev/null ||
                echo "note: $TORCH_INDEX: no answer, so torch may bring CUDA, which this machine does not need"
        fi
        pip_install -r requirements.txt
        echo "$wanted" >.venv/installed
    fi
}

# What tests and checks need besides, when it is not there or pyproject.toml has changed.
install_development() {
    local wanted
    install
    wanted=$(cksum <pyproject.toml)
    if [ "$(cat .venv/installed_development 2>/dev/null)" != "$wanted" ]; then
        pip_install -e '.[dev]'
        echo "$wanted" >.venv/installed_development
    fi
}

step() { printf '\n== %s\n' "$*"; }

py() { FACE4D_NEXT=no .venv/bin/python "$@"; } # run.sh itself goes on with the next command

holds() { [ -n "$(find -L "$1" -iname "*.$2" ! -name '.*' -print -quit 2>/dev/null)" ]; } # folder, suffix

no_data() { # data set, places
    echo "error: $1: expected data, found none in $2 (README.md, Data, says where it goes; bash run.sh demo needs none)" >&2
    exit 2
}

# Steps 4 to 7 and 9: train, generate, train the classifier, score, train the dense decoder, draw the figures.
learn() { # data set, folder that its outputs lie in (with /, or nothing), a neutral face to move, a label to move it with, a face to try next, meshes
    local generator=${2}models/$1.pt classifier=${2}models/$1_classifier.pt generated=${2}Generated_Animation/$1 results=${2}results/$1
    local decoder=${2}models/dense_$1_regional.pt own=${2}Generated_Animation/$1_own report=${2}figures/report.html
    step "4  train the generator"
    py main.py --dataset "$1" --run "$1" --resume
    step "5  generate the test set"
    py test.py --checkpoint "$generator" --output "$generated" --overwrite # keeps what is whole and of this generator
    step "6  train the classifier, score what was generated"
    py Classification/main.py --dataset "$1" --run "$1_classifier" --resume
    py Classification/test.py --checkpoint "$classifier" --generated "$generated" --output "$results" --overwrite
    step "7  train the decoder from landmarks to meshes"
    if holds "$6" ply || holds "$6" obj; then
        py Sparse2Dense/main.py --dataset "$1" --resume
    fi
    if [ ! -f "$decoder" ]; then
        echo "note: no meshes in $6, so there is no decoder and no mesh is moved"
    elif [ ! -f "$3" ]; then
        echo "note: no $3, so no mesh is moved; put a neutral face there (the first frame of a sequence will do) and run again"
    else
        py test.py --checkpoint "$generator" --actor "$3" --label "$4" --dense --export glb,mp4,gif,png --overwrite
    fi
    step "9  figures, tables, and the page with all of it"
    if [ "$report" -nt "$results/scores.md" ] && [ ! -e "${2}figures/.face4d.lock" ]; then # a mark of figures that were stopped
        echo "$report: already there"
    else
        py figures.py --dataset "$1" --overwrite
    fi
    step "done"
    echo "moving faces   $generated/*/*.gif"
    [ -d "$own" ] && echo "moving mesh    $own/*/*.glb, .mp4, .gif"
    echo "table          $results/scores.md"
    echo "page           $report"
    echo "generator      $generator"
    echo "own face       .venv/bin/python test.py --checkpoint $generator --actor $5 --label all --dense --export glb,mp4"
}

case "${1:-}" in
demo)
    install
    step "0  make the demo data"
    py -m face4d.datasets.demo --output demo
    step "1  OBJ to PLY"
    py convert_obj_to_ply.py --dataset demo
    step "2  41 frames per sequence"
    py sampling_coma.py --dataset demo
    step "3  68 landmarks per frame"
    py get_landmark_coma.py --dataset demo
    py get_animation_landmark_ply.py --dataset demo
    learn demo demo/ demo/actors/Demo06.ply mouth_open demo/actors/Demo05.ply demo/Dataset_FLAME_Aligned_COMA
    ;;
coma)
    meshes=Dataset_FLAME_Aligned_COMA sampled=sampling landmarks=Landmark_dataset_flame_aligned_coma
    holds $meshes ply || holds $sampled ply || holds $landmarks npy || no_data coma "$meshes/, $sampled/, $landmarks/"
    install
    if holds $meshes ply; then
        step "2  41 frames per sequence"
        py sampling_coma.py --dataset coma
    fi
    if holds $sampled ply; then
        step "3  68 landmarks per frame"
        py get_landmark_coma.py --dataset coma
    fi
    learn coma "" neutral.ply mouth_open my_neutral.ply $meshes
    ;;
florence)
    meshes=Dataset_FLAME_Aligned landmarks=Landmark_dataset_flame_aligned
    holds $meshes obj || holds $meshes ply || holds $landmarks npy || no_data florence "$meshes/, $landmarks/"
    install
    if holds $meshes obj; then
        step "1  OBJ to PLY"
        py convert_obj_to_ply.py --dataset florence
    fi
    if holds $meshes ply; then
        step "3  68 landmarks per frame"
        py get_animation_landmark_ply.py --dataset florence
    fi
    learn florence "" neutral.ply Happy my_neutral.ply $meshes
    ;;
install)
    install
    ;;
check)
    install_development
    .venv/bin/python -m ruff check .
    .venv/bin/python -m ruff format --check .
    .venv/bin/python -m mypy
    ;;
test)
    install_development
    shift
    .venv/bin/python -m pytest -n auto --maxprocesses 4 "$@"
    ;;
*)
    usage
    exit 2
    ;;
esac
