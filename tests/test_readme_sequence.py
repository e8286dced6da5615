"""README, then docs/steps.md, followed from top to bottom: their commands as written, on small data in the folders they
name.

What is not there (licensed files) is passed over; what takes long gets more words (``SMALLER``). Nothing is
overwritten.
"""

from __future__ import annotations

import gzip
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from face4d.constants import COMA_TEST_SUBJECTS, FLORENCE_LABELS
from face4d.demo.write import write_demo
from face4d.landmarks import extract, load_flame_embedding
from face4d.mesh.ply import read_ply
from face4d.photos import face_networks
from tests.conftest import REPOSITORY
from tests.test_docs import command_lines
from tests.test_scripts_photo_fit import picture as picture_of_head

BOX = "--box 80 70 176 185"
# More words for a command that begins so: sizes, and where the face is in pictures of noise.
SMALLER = {
    "main.py --dataset coma --preset thesis": "--epochs 1 --hidden-size 8",
    "main.py --model motion3dgan": "--epochs 1 --steps-per-epoch 2",
    "main.py --model flow": "--epochs 1 --steps-per-epoch 2",
    "main.py --grid": "--grid grid.json --workers 1 --epochs 1 --dataset florence --run grid",
    "main.py --dataset demo --controls": "--epochs 2",
    "main.py": "--epochs 2 --warps 2",
    "Classification/main.py --grid": "--grid grid.json --workers 1 --epochs 1 --dataset florence --run grid",
    "Classification/main.py": "--epochs 2",
    "Reconstruction/deca_train.py": "--faces 4 --held-out 2 --image-size 32 --hidden 8 --batch-size 2 --epochs 1 "
    "--photometric-faces 0",
    "Reconstruction/vrn_train.py": "--data vrn_set --width 0.03 --epochs 1 --batch-size 2",
    "Reconstruction/vrn_demo.py": BOX,
    "Reconstruction/deca.py": f"{BOX} --texture-size 32",
    "test.py --checkpoint models/florence.pt --photo": f"{BOX} --frames 8",
    "Reconstruction/register.py": "--landmarks scan_landmarks.npy",
    "figures.py": "--only curves tables report",
    "test.py --checkpoint demo/models/demo_controls.pt": "--size 96 --frames 30",
    "test.py": "--size 96 --frames 8",
}
# The test set is scored at its own length.
WHOLE = ("test.py --checkpoint models/florence.pt",)
CURVES = "run,tag,step,value\nL1_1200_0.0001_128_COMA_Florence,Loss/COMA_Florence/validation,50,0.0006\n"
# What needs a licensed file, or the networks that see faces.
LEFT_OUT = (
    "Reconstruction/deca.py photos/ --checkpoint models/deca_model.tar",
    *(() if face_networks.installed() else ("Reconstruction/fit.py",)),
)


def readme_commands() -> Iterator[str]:
    """All ``python <script> ...`` of code blocks, in order."""
    for page in ("README.md", "docs/steps.md"):
        for line in command_lines((REPOSITORY / page).read_text()):
            found = line.split(" #")[0].split("&&")
            yield from (
                command.strip().removeprefix("python ") for command in found if re.match(r"\s*python \S+\.py", command)
            )


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working folder with the demo, and with Florence and CoMA of a few people in the shape of the real ones."""
    monkeypatch.chdir(tmp_path)
    write_demo(Path("demo"), coma_labels=("high_smile", "mouth_open"), florence_labels=(), florence_subjects=())
    people = {"Demo01": "CH01", "Demo02": "CH11", "Demo03": "CH12"}
    write_demo(
        Path("source"),
        coma_labels=("high_smile", "mouth_open"),
        florence_labels=FLORENCE_LABELS,
        florence_subjects=tuple(people),
        subjects=3,
    )
    for path in Path("source").rglob("*.obj"):
        if path.stem[-2:].isdecimal() and int(path.stem[-2:]) > 12:
            path.unlink()
    shutil.move("source/models", "models")
    shutil.copy("source/actors/Demo03.ply", "neutral.ply")
    Path("Dataset_FLAME_Aligned").mkdir()
    for name, new in people.items():
        shutil.move(f"source/Dataset_FLAME_Aligned/{name}", f"Dataset_FLAME_Aligned/{new}")
    for name, new in zip(people, ("FaceTalk_170725_00137_TA", "FaceTalk_170728_03272_TA", *COMA_TEST_SUBJECTS[:1])):
        shutil.move(f"source/Dataset_FLAME_Aligned_COMA/{name}", f"Dataset_FLAME_Aligned_COMA/{new}")
    shutil.rmtree("source")
    embedding = load_flame_embedding("models/flame")
    shutil.copy("neutral.ply", "scan.ply")
    np.save("scan_landmarks.npy", extract(embedding, read_ply("scan.ply")[0][None])[0].astype(np.float32))
    np.savez("mine.npz", face_idx=embedding.face_idx, bary=embedding.bary, faces=embedding.faces)
    for name in ("photo.jpg", "face.jpg"):
        Image.fromarray(picture_of_head(0)).save(name)
    Path("author_curves.csv.gz").write_bytes(gzip.compress(CURVES.encode()))
    Path("grid.json").write_text('{"hidden-size": [4, 8]}')
    return tmp_path


def smaller(command: str) -> str:
    """The command with the words that make it small."""
    if command in WHOLE:
        return command
    more = next((words for begin, words in SMALLER.items() if command.startswith(begin)), "")
    return f"{command} {more}".strip()


def carry_out(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a script in this process; what it says."""
    script, *words = shlex.split(command)
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr(sys, "argv", [str(REPOSITORY / script), *words])
        runpy.run_path(sys.argv[0], run_name="__main__")
    told = capsys.readouterr()
    assert left.value.code == 0, f"{command}: {told.err}"
    return told.out + told.err


def test_readme_from_top_to_bottom(workplace, capsys):
    torch.set_num_threads(1)
    # bash run.sh demo, as far as the next commands need it
    done = [
        "sampling_coma.py --dataset demo",
        "get_landmark_coma.py --dataset demo",
        "main.py --dataset demo --run demo",
        "main.py --dataset demo --controls --run demo_controls",
        "Sparse2Dense/main.py --dataset demo",
    ]
    for command in done:
        carry_out(smaller(command), capsys)
    carry_out("Reconstruction/vrn_dataset.py --rendered 2 --held-out 1 --output vrn_set", capsys)
    written = []
    for command in readme_commands():
        if command.startswith(LEFT_OUT) or command in done:
            continue
        told = carry_out(smaller(command), capsys)
        done.append(command)
        assert re.search(r"^(wrote|kept) ", told, flags=re.MULTILINE), f"{command}: {told}"
        written += re.findall(r"^wrote (.+)$", told, flags=re.MULTILINE)
        for following in re.findall(r"^next: \S*python (?:\S*/)?((?:\w+/)?\w+\.py .+)$", told, flags=re.MULTILINE):
            assert following.split()[0] in "".join(readme_commands()), following
    assert len(done) > 25
    promised = [
        "models/florence.pt",
        "Generated_Animation/florence",
        "models/florence_classifier.pt",
        "results/florence",
        "models/dense_florence_regional.pt",
    ]
    promised += ["Reconstruction_DECA/photo", "figures/report.html", "moving", "meshes"]
    assert [path for path in promised if not Path(path).exists()] == []


def test_every_command_of_the_steps_is_read():
    found = list(readme_commands())
    assert found[0].startswith("test.py --checkpoint demo/models/demo_controls.pt")
    assert "figures.py" in found and len(found) > 25
    assert not any("--overwrite" in command for command in found)
