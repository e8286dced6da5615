"""Classification/main.py and Classification/test.py as a user runs them."""

import csv
import importlib.util
import json
import re
import shutil

import numpy as np
import pytest
import torch

from face4d.classification.classifier import load_classifier
from face4d.errors import InputError
from face4d.evaluation import scores
from tests.conftest import REPOSITORY, toy_sequence, write_landmarks

LABELS, SUBJECTS = ("Happy", "Rage", "Scream"), ("CH01", "CH03", "CH04", "CH05")
TRAIN = [
    "--dataset",
    "florence",
    "--landmarks",
    "landmarks",
    "--labels",
    "all",
    "--hidden-size",
    "16",
    "--epochs",
    "25",
    "--run",
    "c",
    "--models",
    "models",
    "--runs",
    "runs",
]


def script(name: str):
    """The script as a module, to call its main without a new process."""
    spec = importlib.util.spec_from_file_location(
        f"classification_{name}", REPOSITORY / "Classification" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working folder with landmarks, generated sequences and a classifier made by the script."""
    folder = tmp_path_factory.mktemp("classification")
    write_landmarks(folder / "landmarks", LABELS, SUBJECTS, 13)
    for number, label in enumerate(LABELS):
        place = folder / "generated" / "run" / f"CH01_{label}"
        place.mkdir(parents=True)
        np.save(
            place / f"{label}_CH01.npy",
            toy_sequence(number, 0, 13) + np.float32(0.001) * (np.arange(13) > 0)[:, None, None],
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        script("main")([*TRAIN, "--quiet"])
    return folder


@pytest.fixture
def workplace(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


SCORE = ["--checkpoint", "models/c.pt", "--generated", "generated/run"]


def test_training_and_scoring_from_the_shell(workplace, run_script):
    result = run_script("Classification/main.py", *TRAIN[:-6], "--run", "again", "--epochs", "2", cwd=workplace)
    assert result.stdout.splitlines()[-2:] == ["wrote models/again.pt", "wrote runs/again"]
    assert "9 training and 3 test sequences of 3 labels" in result.stdout
    result = run_script("Classification/test.py", *SCORE, cwd=workplace)
    assert result.stdout.splitlines()[-2:] == ["wrote generated/run/evaluate.json", "wrote results/run"]
    # a busy machine also tells how far it is
    assert "nearest sequence" in result.stdout and re.search(
        r"^next: \S*python \S*figures.py$", result.stderr, re.MULTILINE
    )


def test_scoring_writes_every_table_and_figure(workplace):
    script("test")([*SCORE, "--output", "out"])
    tables = ("scores", "realism", "timing", "per_label", "per_subject", "per_group")
    names = {f"{table}.{suffix}" for table in tables for suffix in ("csv", "md", "tex")} | {
        "evaluate.json",
        "features.npz",
        "made.json",
    }
    names |= {f"confusion_{method}.{suffix}" for method in ("real", "generated") for suffix in ("csv", "png", "pdf")}
    assert {path.name for path in (workplace / "out").iterdir()} == names
    record = json.loads((workplace / "out" / "evaluate.json").read_text())
    rows = {row["method"]: row for row in record["scores"]}
    assert rows["real"]["accuracy"] == rows["generated"]["accuracy"] == 1.0
    assert rows["generated"]["mm_mean"] == pytest.approx(3**0.5, rel=1e-4)  # 1 mm along each axis
    assert record["sequences"] == 3 and record["labels"] == list(LABELS)
    table = list(csv.DictReader((workplace / "out" / "scores.csv").open()))
    assert [row["method"] for row in table] == [
        "real",
        "generated",
        "static neutral",
        "class mean",
        "noisy class mean",
        "nearest sequence",
        "random sequence",
    ]
    assert float(table[1]["mm_mean"]) == rows["generated"]["mm_mean"]
    confusion = list(csv.reader((workplace / "out" / "confusion_generated.csv").open()))
    assert confusion == [
        ["label", *LABELS],
        ["Happy", "1", "0", "0"],
        ["Rage", "0", "1", "0"],
        ["Scream", "0", "0", "1"],
    ]


def test_the_record_lies_beside_what_was_generated_and_another_scoring_replaces_it_only_when_asked(workplace, caplog):
    beside = workplace / "generated" / "run" / "evaluate.json"
    for seed in (1, 2):
        script("test")([*SCORE, "--output", f"out{seed}", "--seed", str(seed), "--no-figures", "--quiet"])
        assert beside.read_bytes() == (workplace / "out1" / "evaluate.json").read_bytes()
    assert "of another scoring and stays" in caplog.text
    script("test")([*SCORE, "--output", "out2", "--seed", "2", "--no-figures", "--quiet", "--overwrite"])
    assert beside.read_bytes() == (workplace / "out2" / "evaluate.json").read_bytes()
    first, second = (json.loads((workplace / f"out{seed}" / "evaluate.json").read_text()) for seed in (1, 2))
    # drawn are only the noise, the resamples and the halves
    assert first["scores"][1]["fid"] == second["scores"][1]["fid"]
    assert first["scores"][4]["fid"] != second["scores"][4]["fid"] and second["seed"] == 2


def test_several_answers_of_a_stochastic_generator(workplace, capsys):
    for number in range(3):
        shutil.copytree(workplace / "generated" / "run", workplace / "generated" / "several" / f"sample_{number:02d}")
    path = workplace / "generated/several/sample_02/CH01_Rage/Rage_CH01.npy"
    np.save(path, toy_sequence(1, 0, 13))  # the third answer is right
    script("test")(["--checkpoint", "models/c.pt", "--generated", "generated/several", "--no-figures"])
    record = json.loads((workplace / "results" / "several" / "evaluate.json").read_text())
    rows = {row["method"]: row for row in record["scores"]}
    assert rows["generated"]["mm_mean"] == pytest.approx(3**0.5, rel=1e-4)
    assert rows["best of 3"]["mm_mean"] == pytest.approx(3**0.5 * 2 / 3, rel=1e-4) and record["samples"]["count"] == 3
    assert rows["generated"]["sample_multimodality"] > 0
    assert "3 times 3 test sequences" in (out := capsys.readouterr().out) and "best of 3" in out


def test_a_subset_of_labels_keeps_the_classifiers_numbers(workplace):
    shutil.rmtree(workplace / "generated" / "run" / "CH01_Happy")
    script("test")([*SCORE, "--labels", "Rage", "Scream", "--no-figures"])
    record = json.loads((workplace / "results" / "run" / "evaluate.json").read_text())
    assert record["scores"][1]["accuracy"] == 1.0 and np.trace(record["confusion"]["generated"]) == 2
    assert not list((workplace / "results" / "run").glob("*.png"))


def test_dry_runs_write_nothing(workplace, capsys):
    before = sorted(workplace.rglob("*"))
    script("test")([*SCORE, "--dry-run"])
    script("main")([*TRAIN, "--run", "other", "--dry-run"])
    assert sorted(workplace.rglob("*")) == before
    assert "would score 3 sequences" in (out := capsys.readouterr().out) and "would train other" in out


def test_existing_outputs_are_refused_without_overwrite(workplace, capsys):
    with pytest.raises(InputError, match="c.pt"):
        script("main")(TRAIN)
    script("test")([*SCORE, "--no-figures", "--quiet"])
    with pytest.raises(InputError, match="results/run"):
        script("test")(SCORE)
    script("test")([*SCORE, "--no-figures", "--quiet"])
    assert capsys.readouterr().out.splitlines()[-1] == "kept results/run"
    (workplace / "results" / "run" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="outside the input generated/run"):
        script("test")([*SCORE, "--output", "generated/run/scores"])
    script("test")([*SCORE, "--overwrite", "--no-figures", "--quiet"])
    assert (workplace / "results" / "run" / "mine.txt").read_text() == "keep"


def test_scores_of_another_version_are_replaced_only_when_asked(workplace, monkeypatch, capsys):
    words = [*SCORE, "--no-figures", "--quiet"]
    script("test")(words)
    monkeypatch.setattr(scores, "SCORES_VERSION", scores.SCORES_VERSION + 1)
    with pytest.raises(InputError, match="--overwrite.*version of the scores = "):
        script("test")(words)
    script("test")([*words, "--overwrite"])
    script("test")(words)
    said = [line for line in capsys.readouterr().out.splitlines() if line.endswith("results/run")]
    assert said == ["wrote results/run", "wrote results/run", "kept results/run"]


def test_resume_of_a_finished_run_changes_nothing(workplace, capsys):
    before = load_classifier(workplace / "models" / "c.pt")
    script("main")([*TRAIN, "--resume", "--quiet"])
    assert capsys.readouterr().out.splitlines()[-2:] == ["kept models/c.pt", "kept runs/c"]
    after = load_classifier(workplace / "models" / "c.pt")
    assert after.metrics == before.metrics
    assert all(torch.equal(value, after.model.state_dict()[name]) for name, value in before.model.state_dict().items())


def test_validation_subjects_choose_the_weights(workplace, capsys):
    script("main")([*TRAIN, "--run", "v", "--validation-subjects", "CH05", "--epochs", "3", "--quiet"])
    metrics = json.loads((workplace / "runs" / "v" / "metrics.json").read_text())
    assert metrics["selected_by"] == "validation" and "validation/accuracy" in metrics
    script("main")([*TRAIN, "--run", "t", "--preset", "thesis", "--epochs", "2", "--quiet"])
    assert "chosen on the test set" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (lambda w: None, ["--labels", "Sleepy"], "Happy, Rage, Scream"),
        (lambda w: shutil.rmtree(w / "generated" / "run"), [], "generated/run"),
        (
            lambda w: np.save(w / "generated/run/CH01_Rage/Rage_CH01.npy", toy_sequence(1, 0, 9)),
            [],
            "expected 13 frames",
        ),
        (lambda w: np.save(w / "generated/run/Rage_CH09.npy", toy_sequence(1, 0, 13)), [], "Rage_CH09.npy"),
        (lambda w: (w / "generated/run/CH01_Rage/Rage_CH01.npy").unlink(), [], "1 missing"),
        (lambda w: (w / "generated/run/CH01_Rage/Rage_CH01.npy").write_bytes(b"\x93NUMPY"), [], "unreadable"),
        (lambda w: (w / "models/c.pt").write_bytes(b"no"), [], "classifier checkpoint"),
        (lambda w: (w / "models/c.pt").unlink(), [], "no such file"),
        (lambda w: None, ["--landmarks", "nowhere"], "nowhere"),
        (lambda w: None, ["--actors", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_of_the_scoring_names_the_culprit_and_writes_nothing(workplace, spoil, arguments, message):
    spoil(workplace)
    (workplace / "models" / "flame").mkdir(exist_ok=True)
    with pytest.raises(InputError) as error:
        script("test")([*SCORE, *arguments])
    assert message in str(error.value) or (arguments[:1] == ["--actors"] and "flame" in str(error.value))
    assert not (workplace / "results").exists()


def test_bad_input_is_one_line_and_code_2(workplace, run_script):
    result = run_script("Classification/main.py", "--landmarks", "nowhere", cwd=workplace, check=False)
    assert result.returncode == 2 and result.stdout == ""
    assert (
        result.stderr
        == "error: nowhere: expected a folder of <label>_<subject>.npy landmark files, found no such folder\n"
    )


def test_labels_and_subjects_only_in_the_test_set_are_refused(workplace):
    np.save(workplace / "landmarks" / "Sleepy_CH01.npy", toy_sequence(4, 0, 13))
    with pytest.raises(InputError, match="Sleepy"):
        script("main")([*TRAIN, "--run", "s"])


def test_neutral_meshes_replace_frame_0(workplace):
    """With --actors displacements are measured from the subject's own neutral mesh."""
    from face4d.mesh.ply import write_ply

    # A topology of 68 triangles whose first corners are the landmarks.
    faces = np.arange(204).reshape(68, 3).astype(np.int32)
    barycentric = np.tile([1.0, 0.0, 0.0], (68, 1))
    np.savez(workplace / "own.npz", face_idx=np.arange(68), bary=barycentric, faces=faces)
    (workplace / "actors").mkdir()
    for number, subject in enumerate(SUBJECTS):
        neutral = toy_sequence(0, number, 13)[0]  # the same face for all labels of a subject
        write_ply(workplace / "actors" / f"{subject}.ply", np.repeat(neutral, 3, axis=0), faces)
    own = ["--actors", "actors", "--landmark-embedding", "own.npz"]
    script("main")([*TRAIN, *own, "--run", "a", "--quiet"])
    script("test")(
        ["--checkpoint", "models/a.pt", "--generated", "generated/run", "--no-figures", "--output", "with", "--quiet"]
    )
    script("test")([*SCORE, "--no-figures", "--output", "without", "--quiet"])
    read = lambda name: json.loads((workplace / name / "evaluate.json").read_text())["scores"][1]  # noqa: E731
    assert (
        read("with")["mm_mean"] == pytest.approx(read("without")["mm_mean"], rel=1e-4)
        and read("with")["accuracy"] == 1.0
    )
