"""``python -m face4d benchmark`` as a user runs it: landmarks, several answers, meshes, folds, and refusals."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from face4d.commands.benchmark import main
from face4d.datasets.landmark_set import load_folder
from face4d.errors import InputError
from face4d.evaluation import scores
from face4d.evaluation.benchmark import mean_rows
from face4d.landmarks import save_embedding
from face4d.mesh.ply import write_ply
from tests.conftest import load_script, toy_head, write_landmarks
from tests.test_evaluation_surfaces import embedding, vertices_of, write_meshes  # noqa: F401

LABELS, PEOPLE, FRAMES = ("Cheeky", "Happy", "Rage", "Scream"), ("CH01", "CH02", "CH03", "CH04", "CH05"), 13
PROTOCOL = """
title = "toy faces"
dataset = "florence"
frames = 13
neutral = "frame 0"
label_count = 70
{split}
classifier = "{classifier}"
seed = 27
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A classifier of the toy set's labels."""
    from face4d.classification.config import ClassifierConfig
    from face4d.datasets.landmark_set import load_split
    from face4d.runtime.run_folder import Run

    folder = tmp_path_factory.mktemp("checkpoint")
    write_landmarks(folder / "landmarks", LABELS, PEOPLE, FRAMES)
    split = load_split(folder / "landmarks", test_subjects=("CH01", "CH02"))
    config = ClassifierConfig(hidden_size=8, epochs=20)
    load_script("Classification/main.py").train(split, config, Run("c", folder, folder, quiet=True))
    return folder / "c.pt"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working folder: ``landmarks``, and protocols ``mine`` and ``people`` and ``labels`` with folds."""
    monkeypatch.chdir(tmp_path)
    write_landmarks(tmp_path / "landmarks", LABELS, PEOPLE, FRAMES)
    for name, split, classifier in (
        ("mine", 'test_subjects = ["CH01", "CH02"]', "default"),
        ("people", 'folds = "subjects"', "none"),
        ("labels", 'folds = "labels"', "none"),
    ):
        Path(f"{name}.toml").write_text(PROTOCOL.format(split=split, classifier=classifier))
    return tmp_path


def answers(folder: str, people=("CH01", "CH02"), moved: float = 0.001) -> None:
    """Real sequences, ``moved`` metres along x from frame 1 on, as generated ones."""
    Path(folder).mkdir(parents=True)
    for path in sorted(Path("landmarks").glob("*.npy")):
        if path.stem.partition("_")[2] in people:
            landmarks = np.load(path)
            landmarks[1:, :, 0] += moved
            np.save(Path(folder) / path.name, landmarks)


def run(folder: str, protocol: str, *words) -> dict:
    """What benchmark.json says."""
    main([folder, "--protocol", protocol, "--landmarks", "landmarks", "--quiet", *map(str, words)])
    name = Path(protocol).stem
    return json.loads(Path("results", folder, f"benchmark_{name}", "benchmark.json").read_text())


def by_method(record: dict) -> dict:
    return {row["method"]: row for row in record["scores"]}


def test_landmarks_of_one_split(place, trained, capsys):
    answers("theirs")
    record = run("theirs", "mine.toml", "--classifier", trained)
    assert capsys.readouterr().out == "wrote results/theirs/benchmark_mine\n"
    rows = by_method(record)
    assert rows["generated"]["mm_mean"] == pytest.approx(1, rel=1e-4) and rows["real"]["accuracy"] > 0.5
    assert rows["generated"]["aligned_mm"] <= rows["generated"]["mm_mean"] and rows["static neutral"]["fid"] > 0
    assert record["subset"].startswith("a subset, 4 of 70 labels") and record["sequences"] == 8
    assert record["protocol"]["name"] == "mine" and record["folds"][0]["test_subjects"] == ["CH01", "CH02"]
    written = {path.name for path in Path("results/theirs/benchmark_mine").iterdir()}
    tables = {f"{name}.{end}" for name in ("scores", "realism", "timing", "per_label") for end in ("csv", "md", "tex")}
    assert tables < written and {"benchmark.json", "evaluate.json", "features.npz", "made.json"} < written
    table = list(csv.DictReader(Path("results/theirs/benchmark_mine/timing.csv").open()))
    assert [row["method"] for row in table][:3] == ["real", "real training", "generated"]

    main(["theirs", "--protocol", "mine.toml", "--landmarks", "landmarks", "--classifier", str(trained)])
    said = capsys.readouterr().out
    assert "a subset, 4 of 70 labels" in said and "apex error (frames)" in said and "FC-4DFS" in said
    assert said.endswith("kept results/theirs/benchmark_mine\n")


def test_derived_data_is_said_and_stands_beside_no_published_score(place, trained, capsys):
    answers("theirs")
    words = ["theirs", "--protocol", "mine.toml", "--landmarks", "landmarks", "--classifier", str(trained), "--derived"]
    main(words)
    said = capsys.readouterr().out
    assert "derived data, not florence" in said and "published" not in said
    with pytest.raises(InputError, match="derived = true, not false"):
        main(words[:-1])


def test_scores_of_another_version_are_replaced_only_when_asked(place, monkeypatch, capsys):
    answers("theirs", PEOPLE)
    run("theirs", "people.toml")
    monkeypatch.setattr(scores, "SCORES_VERSION", scores.SCORES_VERSION + 1)
    with pytest.raises(InputError, match="one made with version of the scores = .*"):
        run("theirs", "people.toml")
    run("theirs", "people.toml", "--overwrite")
    run("theirs", "people.toml")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["wrote", "wrote", "kept"]


def test_several_answers_are_one_and_the_best(place, trained, capsys):
    for number, moved in enumerate((0.001, 0.003)):
        answers(f"theirs/sample_{number:02d}", moved=moved)
    rows = by_method(run("theirs", "mine.toml", "--classifier", trained))
    assert rows["generated"]["mm_mean"] == rows["best of 2"]["mm_mean"] == pytest.approx(1, rel=1e-4)
    assert "best of 2 random sequences" in rows and "mesh_mm" not in rows["generated"]
    main(["theirs", "--protocol", "mine.toml", "--landmarks", "landmarks", "--classifier", str(trained)])
    assert "one answer: 2.000 mm (1.000 to 3.000); best of 2: 1.000 mm" in capsys.readouterr().out


def test_folds_are_averaged_and_every_sequence_is_answered_once(place):
    answers("theirs", PEOPLE)
    for path in Path("theirs").glob("*_CH05.npy"):  # the first of four folds is worse
        landmarks = np.load(path)
        landmarks[1:, :, 0] += 0.004
        np.save(path, landmarks)
    record = run("theirs", "people.toml")
    means = [{row["method"]: row for row in fold["scores"]}["generated"]["mm_mean"] for fold in record["folds"]]
    assert means == pytest.approx([5, 1, 1, 1], rel=1e-4)
    rows = by_method(record)
    assert rows["generated"]["mm_mean"] == pytest.approx(2, rel=1e-4) and "accuracy" not in rows["real"]
    assert sum(fold["test"] for fold in record["folds"]) == 20
    assert {"fold_1", "fold_4", "scores.csv"} < {
        path.name for path in Path("results/theirs/benchmark_people").iterdir()
    }

    record = run("theirs", "labels.toml")
    assert [row["method"] for row in record["scores"]] == ["real", "generated", "static neutral"]
    assert [fold["test_labels"] for fold in record["folds"]] == [["Scream"], ["Rage"], ["Happy"], ["Cheeky"]]


def test_means_over_folds_leave_out_what_a_fold_lacks():
    folds = [
        [{"method": "real", "a": 1.0, "b": 2.0}, {"method": "x", "a": 1}],
        [{"method": "real", "a": 3.0, "b": None}, {"method": "x"}],
    ]
    assert mean_rows(folds) == [{"method": "real", "a": 2.0}, {"method": "x"}]


def test_meshes_and_decoded_landmarks(place, embedding, capsys):  # noqa: F811
    save_embedding("own.npz", embedding)
    sequences = load_folder("landmarks")
    write_meshes(place / "meshes", sequences)
    for number in (0, 1):
        write_meshes(place / "theirs" / f"sample_{number:02d}", sequences, moved=0.001 * (number + 1))
    words = ("--meshes", "meshes", "--landmark-embedding", "own.npz")
    rows = by_method(run("theirs", "people.toml", *words))
    for key in ("mm_mean", "mesh_mm"):
        assert rows["generated"][key] == rows["best of 2"][key] == pytest.approx(1, rel=1e-2)
    assert 0 < rows["class mean"]["mesh_mm"] < rows["static neutral"]["mesh_mm"] and "mesh_mm" not in rows["real"]

    train = load_script("Sparse2Dense/main.py").main
    flags = ["--dataset", "florence", "--meshes", "meshes", *words[2:], "--decoder", "ridge", "--run", "d", "--quiet"]
    train([*flags, "--split", "identity", "--fold", "all"])
    answers("marks", PEOPLE, moved=0.002)
    rows = by_method(run("marks", "people.toml", *words, "--dense", "models/d_identity{fold}.pt"))
    assert rows["real"]["mesh_mm"] < 0.2 * rows["class mean"]["mesh_mm"]
    assert rows["real"]["mesh_mm"] < rows["generated"]["mesh_mm"] and rows["static neutral"]["mesh_mm"] > 0
    capsys.readouterr()
    run("marks", "people.toml", *words, "--dense", "models/d_identity1.pt", "--overwrite")
    said = capsys.readouterr().err
    assert "one decoder for all folds" in said and "has learnt from all sequences" not in said
    train([*flags, "--fold", "none"])
    run("marks", "people.toml", *words, "--dense", "models/d.pt", "--overwrite")
    assert "models/d.pt has learnt from all sequences, those of the test set too" in capsys.readouterr().err


def test_displacements_from_the_actors(place, embedding):  # noqa: F811
    save_embedding("own.npz", embedding)
    sequences = load_folder("landmarks")
    Path("actors").mkdir()
    for person in PEOPLE:
        (first, *_) = (s for s in sequences if s.subject == person)
        write_ply(f"actors/{person}.ply", vertices_of(first.landmarks[:1] + 0.001)[0], toy_head()[1])
    mine = Path("people.toml").read_text()
    Path("acted.toml").write_text(mine.replace("frame 0", "actor"))
    answers("theirs", PEOPLE)
    words = ("--actors", "actors", "--landmark-embedding", "own.npz")
    rows = by_method(run("theirs", "acted.toml", *words))
    assert rows["generated"]["mm_mean"] == pytest.approx(1, rel=1e-4)
    frame0 = by_method(run("theirs", "people.toml"))
    apart = rows["static neutral"]["mm_mean"] - frame0["static neutral"]["mm_mean"]
    assert 0 < apart <= 3**0.5  # a still face is the actor's, 1 mm away along each axis
    assert rows["class mean"]["mm_mean"] == pytest.approx(frame0["class mean"]["mm_mean"], rel=1e-3)


def test_the_classifier_is_trained_once_and_kept(place, monkeypatch, capsys):
    """With Classification/main.py, on the protocol's training subjects alone, whatever is scored."""
    answers("theirs")
    answers("others", moved=0.002)
    first = run("theirs", "mine.toml")
    (checkpoint,) = Path("results/benchmark_classifiers").glob("mine_all_*[!t].pt")
    written = checkpoint.stat().st_mtime_ns
    config = json.loads((checkpoint.parent / "runs" / checkpoint.stem / "config.json").read_text())
    assert config["sets"]["train"] == [f"{label}_{name}" for label in LABELS for name in PEOPLE[2:]]
    second = run("others", "mine.toml")
    assert (
        checkpoint.stat().st_mtime_ns == written and first["scores"][0]["accuracy"] == second["scores"][0]["accuracy"]
    )


def test_what_cannot_be_scored_is_one_line_and_writes_nothing(place, trained):
    answers("theirs")
    Path("unjudged.toml").write_text(PROTOCOL.format(split='test_subjects = ["CH01", "CH02"]', classifier="none"))
    cases = [
        (("theirs", "unjudged.toml", "--classifier", trained), "--classifier: expected none, since unjudged is scored"),
        (("nowhere", "mine.toml"), "a folder of landmarks"),
        (("theirs", "people.toml"), "all 20 test sequences, found 12 missing"),
        (("theirs", "people.toml", "--classifier", trained), "--classifier: expected none"),
        (("theirs", "mine.toml", "--dense", "d.pt"), "--dense: expected --meshes"),
        (("theirs", "mine.toml", "--classifier", "landmarks/Rage_CH01.npy"), "Rage_CH01.npy"),
    ]
    for (folder, protocol, *words), message in cases:
        with pytest.raises(InputError, match=message):
            run(folder, protocol, *words)
    assert not Path("results").exists() or not list(Path("results").rglob("*.json"))
    with pytest.raises(SystemExit) as left:
        main(["theirs"])
    assert left.value.code == 2


def test_the_list_and_a_dry_run(place, capsys):
    main(["--list"])
    said = capsys.readouterr().out
    assert "thesis-florence" in said and "tested: CH01, CH02" in said and "four folds of labels" in said
    main(["--list", "--protocol", "people.toml", "--landmarks", "landmarks"])
    assert capsys.readouterr().out.startswith("fold 1: 4 sequences of CH05, of 4 labels\nfold 2: 4 sequences of CH04")
    main(["--list", "--protocol", "labels.toml", "--landmarks", "landmarks"])
    assert "fold 1: 5 sequences of CH01 CH02 CH03 CH04 CH05, labels Scream\n" in capsys.readouterr().out
    answers("theirs")
    main(["theirs", "--protocol", "mine.toml", "--landmarks", "landmarks", "--dry-run"])
    assert "would score theirs under mine: toy faces; 8 sequences" in capsys.readouterr().out
    assert not Path("results").exists()
