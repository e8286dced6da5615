"""Steps 1 to 9 and a grid on a data set that nothing in the program knows: made in code, described by one TOML file, of
its own topology."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from face4d.datasets.entry import DATASETS, Dataset, MeshFolder, register
from face4d.mesh.obj import write_obj
from face4d.mesh.ply import write_ply
from tests.conftest import REPOSITORY, toy_head, toy_sequence, write_landmarks

LABELS, SUBJECTS = ("big_smile", "frown", "yawn"), ("Ada", "Ben", "Cem", "Dot")
NAMES = ("coma", "florence")  # of data sets that must not show
SMALL = {
    "main.py": "--epochs 3 --warps 2 --hidden-size 8",
    "Classification/main.py": "--epochs 3 --hidden-size 8",
    "Sparse2Dense/main.py": "--strength 1e-6",
}


def write_scans(folder: Path, suffix: str) -> None:
    """``<subject>/<label>/`` sequences of 7 to 9 frames on a head of 204 vertices."""
    head, faces = toy_head()
    corners = head.reshape(68, 3, 3) - head.reshape(68, 3, 3).mean(axis=1, keepdims=True)
    write = write_obj if suffix == "obj" else write_ply
    for subject_number, subject in enumerate(SUBJECTS):
        for label_number, label in enumerate(LABELS):
            place = folder / subject / label
            place.mkdir(parents=True)
            for number, points in enumerate(
                toy_sequence(label_number, subject_number, 7 + (subject_number + label_number) % 3)
            ):
                write(place / f"{label}_{number + 1:02d}.{suffix}", (points[:, None] + corners).reshape(-1, 3), faces)


def write_topology(path: Path) -> None:
    np.savez(path, face_idx=np.arange(68), bary=np.full((68, 3), 1 / 3), faces=toy_head()[1])


@pytest.fixture
def step(tmp_path, monkeypatch, capsys):
    """Carries out a command, made small, in the working folder; what it says."""
    monkeypatch.chdir(tmp_path)

    def carry_out(command: str) -> str:
        program, *words = command.split()
        words += SMALL.get(program, "").split()
        capsys.readouterr()
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as left:
            patch.setattr(sys, "argv", [str(REPOSITORY / program) if program.endswith(".py") else program, *words])
            if program.endswith(".py"):
                runpy.run_path(sys.argv[0], run_name="__main__")
            else:
                runpy.run_module("face4d", run_name="__main__", alter_sys=True)
        told = capsys.readouterr()
        assert left.value.code == 0, f"{command}: {told.err}"
        return told.out + told.err

    return carry_out


def following(told: str) -> str:
    """The command that a step says comes next."""
    return re.search(r"^next: \S*python (?:\S*?/)??((?:Classification/)?\w+\.py .+)$", told, flags=re.MULTILINE)[1]


@pytest.mark.filterwarnings("ignore:.*found in sys.modules after import:RuntimeWarning")
def test_steps_one_to_nine_and_a_grid(step, tmp_path):
    write_scans(Path("Scans"), "obj")
    write_topology(Path("head.npz"))
    told = step("face4d dataset Scans")
    assert (
        "12 OBJ sequences of 4 subjects and 3 labels, 204 vertices" in told
        and "7 to 9; step 2 brings all sequences to 41" in told
    )
    text = Path("mine.toml").read_text()
    assert (
        'test_subjects = ["Dot"]' in text
        and 'embedding = "head.npz"' in text
        and 'neutral = "Scans/Dot/big_smile/big_smile_01.obj"' in text
    )
    Path("mine.toml").write_text(text.replace("frames = 41", "frames = 8"))

    # Steps 1 to 4, each by the words that the one before tells.
    for script in ("convert_obj_to_ply.py", "sampling_coma.py", "get_landmark_coma.py", "main.py"):
        command = following(told)
        assert command.startswith(f"{script} --dataset mine"), told
        told = step(command)
    sequence = np.load("mine/landmarks/dataset_testing/yawn_Dot.npy")
    assert sequence.shape == (8, 68, 3) and len(list(Path("mine/landmarks/dataset_training").iterdir())) == 9
    np.testing.assert_allclose(sequence[0], toy_sequence(2, 3, 8)[0], atol=1e-6)
    config = json.loads(Path("mine/runs/mine/config.json").read_text())
    assert config["source"]["dataset"] == "mine" and config["labels"] == ["big-smile", "frown", "yawn"]
    assert config["source"]["landmark_embedding"] == "head.npz" and config["source"]["test_subjects"] == ["Dot"]

    # Steps 5 and 6.
    assert following(told).startswith("test.py --checkpoint mine/models/mine.pt")
    told = step(following(told))
    assert following(told) == "Classification/main.py --dataset mine --run mine_classifier"
    told = step(following(told))
    assert (
        following(told) == "Classification/test.py --checkpoint mine/models/mine_classifier.pt --generated "
        "mine/Generated_Animation/mine"
    )
    told = step(following(told))
    assert (tmp_path / "mine/results/mine/scores.md").is_file() and following(told) == "figures.py --dataset mine"

    # Step 7: a decoder of this topology, found by the generator's name.
    step("Sparse2Dense/main.py --dataset mine")
    step(
        "test.py --checkpoint mine/models/mine.pt --actor Scans/Dot/frown/frown_01.obj --label frown --dense "
        "--export ply --no-gif"
    )
    assert len(list(Path("mine/Generated_Animation/mine_own").rglob("*.ply"))) == 8
    Path("test_set").mkdir()
    for subject in ("Dot",):
        (tmp_path / "test_set" / f"{subject}.obj").write_bytes(Path(f"Scans/{subject}/yawn/yawn_01.obj").read_bytes())
    words = "--landmarks mine/landmarks/dataset_testing --actors test_set --output meshes"
    step(f"Sparse2Dense/test.py --checkpoint mine/models/dense_mine_regional.pt {words}")
    assert len(list(Path("meshes").rglob("*.ply"))) == 3 * 8

    # A grid, the thesis' own and one from a file, beside each other.
    Path("grid.json").write_text('{"loss": ["l1", "l2"]}')
    told = step("main.py --grid grid.json --dataset mine --workers 1 --select last --run pair")
    runs = sorted(path.parent.name for path in Path("mine/runs/pair").glob("*/metrics.json"))
    assert len(runs) == 2 and all(name.startswith("mine_default_l") for name in runs), told

    # Step 9: nobody else's data set is beside these runs.
    curves = "run,tag,step,value\nL1_1200_0.001_8_COMA_Florence,Loss/COMA_Florence/validation,50,0.0006\n"
    Path("author_curves.csv").write_text(curves)
    step("figures.py --dataset mine --only tables report --import-curves author_curves.csv")
    tables = {path.stem for path in Path("mine/figures/tables").glob("*.csv")}
    assert {"generator_mine_l1_runs", "generator_mine_l2_runs", "classifier_mine_runs"} <= tables
    assert not any("comparison" in name for name in tables)

    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"Scans", "head.npz", "mine.toml", "mine", "test_set", "meshes", "grid.json", "author_curves.csv"}
    for path in Path("mine").rglob("*.json"):
        assert not any(re.search(rf"\b{name}\b", path.read_text()) for name in NAMES), path


def test_a_registered_data_set_is_taken_as_it_is(step, monkeypatch):
    """PLY sequences that are not resampled, in an entry of the program; the landmarks of step 3 train and nothing is
    asked by name."""
    monkeypatch.setitem(DATASETS, "studio", DATASETS["own"])
    del DATASETS["studio"]  # as before; what is registered goes again at the end of the test
    scans = MeshFolder(Path("Studio"), "ply", Path("marks"))
    register(
        Dataset(
            "studio",
            Path("marks"),
            (scans,),
            labels=("big-smile", "frown"),
            test_subjects=("Dot",),
            output=Path("made"),
            embedding=Path("head.npz"),
        )
    )
    write_scans(Path("Studio"), "ply")
    for path in Path("Studio").rglob("*.ply"):
        if path.stem[-2:] > "07":
            path.unlink()
    write_topology(Path("head.npz"))
    told = step("get_animation_landmark_ply.py --dataset studio")
    assert following(told) == "main.py --dataset studio --run studio"
    step(following(told))
    assert json.loads(Path("made/runs/studio/config.json").read_text())["labels"] == ["big-smile", "frown"]
    with pytest.raises(
        AssertionError,
        match="--dataset studio: expected a data set with meshes that step 2 resamples, found another kind",
    ):
        step("sampling_coma.py --dataset studio")


def test_landmarks_that_a_flag_names_take_nothing_of_florence(step):
    """Not its labels, its test subjects, its name, its decoder, nor the author's runs to be compared with."""
    write_landmarks(Path("marks"), ("Happy", "Odd"), ("CH01", "CH02", "CH03"), 9)
    Path("models").mkdir()
    Path("models/dense_florence_regional.pt").write_bytes(b"a decoder of Florence's heads")
    with pytest.raises(
        AssertionError, match="marks: expected .*--test-subjects names them.*found subjects CH01, CH02, CH03"
    ):
        step("main.py --landmarks marks --run x")
    told = step("main.py --landmarks marks --run x --test-subjects CH03 --loss l1")
    config = json.loads(Path("runs/x/config.json").read_text())
    assert config["source"]["dataset"] == "own" and config["labels"] == ["Happy", "Odd"]
    told = step(following(told))
    assert following(told) == "Classification/main.py --landmarks marks --test-subjects CH03 --run own_classifier"
    step(following(told))
    Path("grid.json").write_text('{"loss": ["l1", "l2"]}')
    told = step("main.py --grid grid.json --landmarks marks --test-subjects CH03 --select last --dry-run")
    assert "2 generators of own" in told and "own_default_l1_" in told
    np.save("face.npy", np.load("marks/Odd_CH03.npy")[0])
    with pytest.raises(AssertionError, match=r"models/dense_own_regional.pt: expected"):
        step("test.py --checkpoint models/x.pt --actor face.npy --label Odd --dense")
    lr = config["config"]["lr"]
    rows = f"run,tag,step,value\nL1_1200_{lr}_8_COMA_Florence,Loss/COMA_Florence/validation,50,0.0006\n"
    Path("author_curves.csv").write_text(rows)
    step("figures.py --only tables --import-curves author_curves.csv")
    tables = {path.stem for path in Path("figures/tables").glob("*.csv")}
    assert {"generator_own_l1_runs", "generator_florence_l1_runs", "classifier_own_runs"} <= tables
    assert not any("comparison" in name for name in tables)


def test_data_that_a_flag_names_have_no_description(run_here, tmp_path):
    result = run_here("face4d/__main__.py", "dataset", "--show", "own", cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.startswith("error: --show: expected a data set that is described")
