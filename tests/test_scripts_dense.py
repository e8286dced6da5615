"""Sparse2Dense/main.py and test.py as a user runs them, on a small demo."""

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from face4d.demo.write import write_demo
from face4d.dense.decode import load_decoder
from face4d.errors import InputError
from face4d.landmarks import extract, load_flame_embedding
from face4d.mesh.ply import read_ply, read_ply_vertices, write_ply
from face4d.mesh.sequence import frame_paths
from tests.conftest import REPOSITORY, read_sequence

TRAIN = ["--dataset", "demo", "--frame-step", "8", "--strength", "1e-6"]
ONE_FOLD = [*TRAIN, "--split", "identity", "--fold", "1"]
LEARNED = [word for word in ONE_FOLD if word not in ("--strength", "1e-6")]  # which a closed form alone takes


def script(name: str):
    """The script as a module, to call its main without a new process."""
    spec = importlib.util.spec_from_file_location(f"sparse2dense_{name}", REPOSITORY / "Sparse2Dense" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working folder with a demo of four people and three expressions, landmarks of one person, and decoders of fold
    1."""
    folder = tmp_path_factory.mktemp("dense")
    write_demo(
        folder / "demo",
        subjects=4,
        coma_labels=["mouth_open", "high_smile", "mouth_side"],
        florence_labels=[],
        florence_subjects=[],
    )
    embedding = load_flame_embedding(folder / "demo" / "models" / "flame")
    (folder / "landmarks").mkdir()
    for label in ("mouth_open", "high_smile"):
        vertices, _ = read_sequence(frame_paths(folder / "demo" / "Dataset_FLAME_Aligned_COMA" / "Demo04" / label))
        np.save(folder / "landmarks" / f"{label.replace('_', '-')}_Demo04.npy", extract(embedding, vertices))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        script("main")([*ONE_FOLD, "--decoder", "neutral", "ridge", "regional", "--run", "d", "--quiet"])
    return folder


@pytest.fixture
def workplace(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


REGIONAL = ["--checkpoint", "demo/models/d_regional.pt"]
DECODE = [*REGIONAL, "--landmarks", "landmarks", "--actors", "demo/actors"]
MESHES = "demo/Dataset_FLAME_Aligned_COMA"


def test_comparison_from_the_shell(workplace, run_script):
    result = run_script(
        "Sparse2Dense/main.py", *ONE_FOLD, "--decoder", "neutral", "ridge", "--run", "again", "--quiet", cwd=workplace
    )
    assert "wrote demo/results/again/decoders.md" in result.stdout.splitlines() and result.stderr == ""
    assert "identity1" in result.stdout
    result = run_script("Sparse2Dense/test.py", *DECODE, "--real", MESHES, "--output", "out", "--quiet", cwd=workplace)
    assert result.stdout.splitlines()[-1] == "wrote out" and "error per vertex: 0.0" in result.stdout


def test_table_and_checkpoints(workplace):
    rows = {row["decoder"]: row for row in csv.DictReader((workplace / "demo/results/d/decoders.csv").open())}
    assert list(rows) == ["neutral", "ridge", "regional"]
    assert float(rows["regional"]["mm"]) < 0.1 < 0.5 < float(rows["neutral"]["mm"])
    frames = sum(len(list(folder.iterdir())) for folder in (workplace / MESHES / "Demo04").iterdir())
    assert {row["frames"] for row in rows.values()} == {str(frames)}  # all frames of the unseen person
    record = json.loads((workplace / "demo/runs/d_ridge/config.json").read_text())
    assert all(name.endswith("Demo04") for name in record["sets"]["test"]) and len(record["sets"]["train"]) == 9
    decoder = load_decoder("demo/models/d_regional.pt")
    assert decoder.kind == "regional" and decoder.metrics["test/mm"] == float(rows["regional"]["mm"])


def test_errors_of_the_table_are_those_of_decoded_meshes(workplace, capsys):
    np.save("landmarks/mouth-side_Demo04.npy", landmarks_of(workplace, "Demo04", "mouth_side"))
    script("test")([*DECODE, "--real", MESHES, "--output", "out", "--quiet"])
    metrics = json.loads((workplace / "demo/runs/d_regional/metrics.json").read_text())
    error, spread, frames = (metrics[f"test/{key}"] for key in ("mm", "mm_std", "frames"))
    line = f"error per vertex: {error:.4f} mm (std {spread:.4f}) over {frames} frames"
    assert line in capsys.readouterr().out
    first, faces = read_ply(workplace / "out/Demo04/mouth-side/mouth-side.000001.ply")
    neutral, wanted = read_ply(workplace / "demo/actors/Demo04.ply")
    np.testing.assert_allclose(first, neutral, atol=1e-7)
    np.testing.assert_array_equal(faces, wanted)


def landmarks_of(workplace, subject, label):
    vertices, _ = read_sequence(frame_paths(workplace / MESHES / subject / label))
    return extract(load_flame_embedding(workplace / "demo/models/flame"), vertices)


def test_one_file_on_another_face(workplace):
    shutil.copy("landmarks/mouth-open_Demo04.npy", "motion.npy")
    script("test")(
        [*REGIONAL, "--landmarks", "motion.npy", "--actor", "demo/actors/Demo01.ply", "--output", "out", "--quiet"]
    )
    frames = frame_paths("out/Demo01/motion")
    assert len(frames) == len(np.load("motion.npy"))
    np.testing.assert_allclose(read_ply_vertices(frames[0]), read_ply_vertices("demo/actors/Demo01.ply"), atol=1e-7)


def test_decoding_in_parts_is_decoding_each_frame(workplace):
    decoder = load_decoder("demo/models/d_regional.pt")
    neutral = read_ply_vertices("demo/actors/Demo02.ply")
    moved = np.random.default_rng(0).normal(0, 0.002, (130, 68, 3))
    whole = decoder.decode(moved, neutral)
    assert whole.shape == (130, len(neutral), 3) and whole.dtype == np.float32
    np.testing.assert_allclose(
        whole[[0, 64, 129]], [decoder.decode(moved[[k]], neutral)[0] for k in (0, 64, 129)], atol=1e-6
    )
    assert decoder.decode(moved[:0], neutral).shape == (0, len(neutral), 3)
    # twice the size, twice the effect of twice the displacement: the same map
    double = decoder.decode(moved, neutral * np.float32(2))
    np.testing.assert_allclose(double - neutral * 2, whole - neutral, atol=1e-6)


def test_spiral_decoder_stops_and_goes_on(workplace, monkeypatch):
    def once(run, *more):
        script("main")(
            [*LEARNED, "--decoder", "s2d", "--run", run, "--epochs", "3", "--checkpoint-seconds", "0", "--quiet", *more]
        )

    once("whole")
    from face4d.runtime.run_folder import RunFolder

    scalars = RunFolder.scalars

    def stop(self, values, step):
        scalars(self, values, step)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "scalars", stop)
        with pytest.raises(KeyboardInterrupt):
            once("parts")
    once("parts", "--resume")
    whole, parts = (torch.load(f"demo/models/{run}.pt", weights_only=True) for run in ("whole", "parts"))
    assert all(torch.equal(whole["model"][name], parts["model"][name]) for name in whole["model"])
    assert whole["metrics"]["test/mm"] == parts["metrics"]["test/mm"]
    decoder = load_decoder("demo/models/parts.pt")
    neutral = read_ply_vertices("demo/actors/Demo02.ply")
    assert decoder.kind == "s2d" and np.isfinite(decoder.decode(np.zeros((3, 68, 3)), neutral)).all()


def test_finished_decoders_are_kept_on_resume_and_other_runs_refused(workplace, capsys):
    before = (workplace / "demo/models/d_ridge.pt").read_bytes()
    again = ["--decoder", "neutral", "ridge", "regional", "--run", "d", "--quiet"]
    with pytest.raises(InputError, match="d_neutral.pt"):
        script("main")([*ONE_FOLD, *again])
    Path("demo/models/d_neutral.pt").unlink()  # as if never finished
    script("main")([*ONE_FOLD, *again, "--resume"])
    assert (workplace / "demo/models/d_ridge.pt").read_bytes() == before
    told = capsys.readouterr().out.splitlines()
    assert told[-9:-5] == [
        "wrote demo/models/d_neutral.pt",
        "wrote demo/runs/d_neutral",
        "kept demo/models/d_ridge.pt",
        "kept demo/runs/d_ridge",
    ]
    assert told[-1] == "wrote demo/results/d/decoders.tex"
    with pytest.raises(InputError, match="fold = 2"):
        script("main")([*TRAIN, "--split", "identity", "--fold", "2", *again, "--resume"])


def test_all_folds_are_averaged(workplace):
    script("main")(
        [*TRAIN, "--split", "identity", "--fold", "all", "--decoder", "neutral", "ridge", "--run", "f", "--quiet"]
    )
    rows = list(csv.DictReader((workplace / "demo/results/f/decoders.csv").open()))
    ridge = [float(row["mm"]) for row in rows if row["decoder"] == "ridge"]
    assert len(rows) == 10 and ridge[-1] == pytest.approx(np.mean(ridge[:4])) and rows[-1]["fold"] == "mean of 4"
    assert {path.stem for path in (workplace / "demo/models").glob("f_*.pt")} == {
        f"f_{d}_identity{k}" for d in ("neutral", "ridge") for k in (1, 2, 3, 4)
    }


def test_strength_is_chosen_from_training_data(workplace, monkeypatch):
    monkeypatch.setattr("face4d.dense.fit.CHOOSING_VERTICES", 24)
    run = ["--dataset", "demo", "--frame-step", "6", "--split", "identity", "--fold", "1", "--quiet"]
    script("main")(
        [
            *run,
            "--decoder",
            "ridge",
            "regional",
            "--noise-landmarks-mm",
            "0.5",
            "--noise-vertices-mm",
            "0.3",
            "--run",
            "n",
        ]
    )
    rows = {row["decoder"]: row for row in csv.DictReader((workplace / "demo/results/n/decoders.csv").open())}
    assert float(rows["regional"]["mm"]) < 0.9 * float(rows["ridge"]["mm"]) < float(rows["regional"]["mm_noisy"])
    decoder = load_decoder("demo/models/n_regional.pt")
    assert decoder.metrics["strength"] > 1e-3  # without noise 1e-7


def test_dry_runs_write_nothing(workplace, capsys):
    before = sorted(workplace.rglob("*"))
    script("main")([*ONE_FOLD, "--decoder", "all", "--run", "other", "--dry-run"])
    script("test")([*DECODE, "--output", "other", "--dry-run"])
    assert sorted(workplace.rglob("*")) == before
    out = capsys.readouterr().out
    assert "would train s2d, fold 1 of identity, as demo/models/other_s2d.pt" in out and "would decode" in out


def test_bad_input_is_told(workplace):
    decoder = load_decoder("demo/models/d_regional.pt")
    vertices, faces = read_ply("demo/actors/Demo01.ply")
    with pytest.raises(InputError, match=f"{len(vertices)} vertices"):
        decoder.decode(np.zeros((2, 68, 3)), vertices[:-1])
    with pytest.raises(InputError, match="68, 3"):
        decoder.decode(np.zeros((2, 67, 3)), vertices)
    with pytest.raises(InputError, match="finite"):
        decoder.decode(np.full((2, 68, 3), np.nan), vertices)
    write_ply("flipped.ply", vertices, faces[:, [0, 2, 1]])
    with pytest.raises(InputError, match="flipped.ply.*triangles"):
        script("test")([*REGIONAL, "--landmarks", "landmarks", "--actor", "flipped.ply", "--output", "out"])
    write_ply("small.ply", vertices[:3], np.array([[0, 1, 2]]))
    with pytest.raises(InputError, match="small.ply.*vertices"):
        script("test")([*REGIONAL, "--landmarks", "landmarks", "--actor", "small.ply", "--output", "out"])
    np.save("landmarks/high-smile_Demo04.npy", np.load("landmarks/high-smile_Demo04.npy")[:-1])
    with pytest.raises(InputError, match="frames as in the landmarks"):
        script("test")([*DECODE, "--real", MESHES, "--output", "out"])
    torch.save({"format": "face4d", "format_version": 1, "kind": "generator"}, "other.pt")
    with pytest.raises(InputError, match="a dense decoder checkpoint, found a generator"):
        script("test")(["--checkpoint", "other.pt", *DECODE[2:], "--output", "out"])
    with pytest.raises(InputError, match="--downsampling"):
        script("test")(["--checkpoint", "checkpoint.pth.tar", *DECODE[2:], "--output", "out"])
    assert not (workplace / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--landmarks", "landmarks", "--actors", "odd"], r"odd/Demo04.ply: .*millimetres"),
        (
            ["--landmarks", "landmarks", "--actors", "demo/actors", "--real", "real"],
            r"real/Demo04/.*000001.ply: .*millimetres",
        ),
        (
            ["--landmarks", "odd/mouth-open_Demo04.npy", "--actor", "demo/actors/Demo04.ply"],
            r"odd/mouth-open_Demo04.npy: .*millimetres",
        ),
        (["--landmarks", "landmarks", "--actor", "odd/shuffled.ply"], "odd/shuffled.ply: .*other triangles"),
    ],
)
def test_what_is_not_in_metres_or_order_is_refused_before_anything_is_written(workplace, arguments, words):
    (workplace / "odd").mkdir()
    vertices, faces = read_ply(workplace / "demo/actors/Demo04.ply")
    write_ply("odd/Demo04.ply", 1000 * vertices, faces)
    order = np.random.default_rng(0).permutation(len(vertices))
    write_ply("odd/shuffled.ply", vertices[order], np.argsort(order)[faces])
    np.save("odd/mouth-open_Demo04.npy", 1000 * np.load("landmarks/mouth-open_Demo04.npy"))
    shutil.copytree(f"{MESHES}/Demo04", "real/Demo04")
    for path in Path("real").rglob("*.ply"):
        write_ply(path, 1000 * read_ply_vertices(path), faces)
    with pytest.raises(InputError, match=words):
        script("test")([*REGIONAL, *arguments, "--output", "out", "--quiet"])
    assert not Path("out").exists()


def test_training_takes_triangles_in_any_order_and_refuses_one_subject_in_another(workplace):
    expected = load_decoder("demo/models/d_ridge.pt").metrics["test/mm"]
    for path in Path(MESHES).rglob("*.ply"):
        vertices, faces = read_ply(path)
        write_ply(path, vertices, np.roll(faces[::-1], 1, axis=1))
    script("main")([*ONE_FOLD, "--decoder", "ridge", "--run", "rows", "--quiet"])
    assert load_decoder("demo/models/rows.pt").metrics["test/mm"] == expected
    order = np.random.default_rng(0).permutation(len(vertices))
    for path in Path(MESHES, "Demo03").rglob("*.ply"):
        vertices, faces = read_ply(path)
        write_ply(path, vertices[order], np.argsort(order)[faces])
    with pytest.raises(
        InputError,
        match="Demo03/high_smile/.*000001.ply: expected the topology of the landmarks .* found other triangles",
    ):
        script("main")([*ONE_FOLD, "--decoder", "ridge", "--run", "order", "--quiet"])
