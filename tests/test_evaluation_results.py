import csv
import json

import numpy as np
import pytest

from face4d.datasets.landmark_set import load_split, stack
from face4d.errors import InputError
from face4d.evaluation.results import (
    Scored,
    find_scored,
    read_features,
    read_scored,
    require_truth,
    truth_files,
    write_beside,
    write_results,
)
from face4d.evaluation.results import test_set as comparable
from face4d.evaluation.scores import score


def predict(batch: np.ndarray) -> np.ndarray:
    return np.zeros(len(batch), np.int64)


def features(batch: np.ndarray) -> np.ndarray:
    return batch.mean(axis=1).reshape(len(batch), -1)


@pytest.fixture
def split(landmark_folder):
    return load_split(landmark_folder, test_subjects=("CH01", "CH02"))


@pytest.fixture
def scores(split):
    real, _ = stack(split.test, split.labels)
    return score(split, split.labels, np.stack([real * 0.9, real * 0.8]), predict, features)


def test_everything_is_written_and_read_back(split, scores, tmp_path):
    record = {"generated": "g", "sequences": 6}
    paths = write_results(tmp_path / "out", scores, split.labels, record)
    tables = [
        f"{name}.{suffix}"
        for name in ("scores", "realism", "timing", "per_label", "per_subject", "per_group")
        for suffix in ("csv", "md", "tex")
    ]
    names = [*tables, "confusion_real.csv", "confusion_generated.csv", "features.npz", "evaluate.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert sorted(paths) == sorted(tmp_path / "out" / name for name in names)

    content = json.loads((tmp_path / "out" / "evaluate.json").read_text())
    keys = [
        "scores",
        "training",
        "fid_real_halves",
        "samples",
        "per_label",
        "per_subject",
        "per_group",
        "over_time",
        "per_landmark",
        "confusion",
    ]
    assert list(content) == ["generated", "sequences", "labels", *keys]
    assert (
        content["scores"] == scores.rows
        and content["per_subject"] == scores.per_subject
        and content["samples"] == scores.samples
    )
    assert set(content["over_time"]) == set(scores.methods) and len(content["over_time"]["generated"]) == 12
    np.testing.assert_array_equal(content["per_landmark"]["class mean"], scores.per_landmark["class mean"])
    np.testing.assert_array_equal(content["confusion"]["generated"], [[2, 0, 0], [2, 0, 0], [2, 0, 0]])

    with np.load(tmp_path / "out" / "features.npz", allow_pickle=False) as arrays:
        methods = ["real", *scores.methods]
        assert sorted(arrays) == sorted(["labels", *(method.replace(" ", "_") for method in methods)])
        np.testing.assert_array_equal(arrays["noisy_class_mean"], scores.features["noisy class mean"])
        np.testing.assert_array_equal(arrays["labels"], [0, 0, 1, 1, 2, 2])


def test_best_of_several_is_shown_and_not_compared(split, scores, tmp_path):
    write_results(tmp_path, scores, split.labels, {})
    rows = {row["method"]: row for row in csv.DictReader((tmp_path / "scores.csv").open())}
    assert (
        float(rows["best of 2"]["mm_mean"]) == pytest.approx(float(rows["generated"]["mm_mean"]))
        and rows["best of 2"]["accuracy"] == ""
    )
    lines = {line.split(" | ")[0].strip("| "): line for line in (tmp_path / "scores.md").read_text().splitlines()}
    assert "**" in lines["generated"] and "**" not in lines["best of 2"] and "**" not in lines["real"]
    for table in ("per_label", "per_subject", "per_group"):  # the methods compete in every row
        rows = (tmp_path / f"{table}.md").read_text().splitlines()[2:]
        assert all("**" in row for row in rows) and r"\textbf{" in (tmp_path / f"{table}.tex").read_text()
    assert "of one face" in (tmp_path / "realism.md").read_text()


def test_the_truth_does_not_compete_in_realism(split, scores, tmp_path):
    for number, row in enumerate(scores.rows):
        row["fid"] = float(number)  # that of real against real is the smallest
    write_results(tmp_path, scores, split.labels, {})
    lines = (tmp_path / "realism.md").read_text().splitlines()
    assert [line.split(" | ")[:2] for line in lines if "**" in line] == [["| generated", "**1.000**"]]


def test_the_record_beside_the_generated_sequences_is_replaced_only_on_request(tmp_path, caplog):
    for folder in ("generated", "first", "second"):
        (tmp_path / folder).mkdir()
    (tmp_path / "first" / "evaluate.json").write_text('{"a": 1}')
    (tmp_path / "second" / "evaluate.json").write_text('{"a": 2}')
    place = tmp_path / "generated" / "evaluate.json"
    assert write_beside(tmp_path / "generated", tmp_path / "first", overwrite=False) == [place]
    assert place.read_text() == '{"a": 1}' and not caplog.messages
    # it is there already
    assert write_beside(tmp_path / "generated", tmp_path / "first", overwrite=False) == [] and not caplog.messages
    assert write_beside(tmp_path / "generated", tmp_path / "second", overwrite=False) == []
    assert (
        place.read_text() == '{"a": 1}' and "is of another scoring and stays (--overwrite replaces it)" in caplog.text
    )
    assert write_beside(tmp_path / "generated", tmp_path / "second", overwrite=True) == [place]
    assert place.read_text() == '{"a": 2}'


def test_without_features_there_is_no_file_of_them(split, tmp_path):
    real, _ = stack(split.test, split.labels)
    write_results(tmp_path, score(split, split.labels, real, predict), split.labels, {})
    assert not (tmp_path / "features.npz").exists()
    header = "method,motion_precision,motion_recall,new_mm,acceleration,acceleration_ratio,jerk,jerk_ratio"
    assert (tmp_path / "realism.csv").read_text().splitlines()[0] == header


def test_a_scoring_is_read_back_with_its_features_and_generated_sequences(split, scores, tmp_path):
    generated = tmp_path / "generated"
    for sample in ("sample_00", "sample_01"):
        for sequence in split.test:
            folder = generated / sample / sequence.subject
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{sequence.label}_{sequence.subject}.npy", sequence.landmarks)
    write_results(tmp_path / "out", scores, split.labels, {"generated": str(generated), "sequences": 6})
    scored = read_scored(tmp_path / "out" / "evaluate.json")
    assert (scored.name, scored.folder, scored.labels) == ("out", tmp_path / "out", ["Happy", "Rage", "Scream"])
    assert scored.rows("scores") == scores.rows and scored.rows("nothing") == [] and scored.by_method("nothing") == {}
    np.testing.assert_array_equal(scored.by_method("confusion")["real"], scores.confusion["real"])
    keys = {(sequence.label, sequence.subject) for sequence in split.test}
    assert set(scored.generated) == keys
    assert all(path.relative_to(generated).parts[0] == "sample_00" for path in scored.generated.values())  # the first
    np.testing.assert_array_equal(scored.features["labels"], [0, 0, 1, 1, 2, 2])
    assert [one.name for one in find_scored(tmp_path, tmp_path / "none")] == ["out"]
    # the truth: of the first folder that has a sequence
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "Sad_CH09.npy", split.test[0].landmarks)
    truth = truth_files(scored, [tmp_path / "missing", tmp_path / "other", generated / "sample_01"])
    assert set(truth) == keys and "sample_01" in truth[next(iter(keys))].parts
    assert truth_files(scored, [tmp_path / "other"]) == {}
    require_truth([scored], [generated])
    with pytest.raises(InputError, match="other: expected landmarks of sequences that were scored, found none of them"):
        require_truth([scored], [generated, tmp_path / "other"])


def test_scorings_of_one_test_set_are_told_by_the_error_of_the_static_neutral(tmp_path):
    def scored(**content):
        return Scored("a", tmp_path, {"labels": ["a"], **content})

    neutral = [{"method": "real", "mm_mean": 1.0}, {"method": "static neutral", "mm_mean": 2.00001, "mse": 3e-6}]
    first = scored(classifier="c", sequences=6, frames=40, scores=neutral, landmarks="x")
    assert comparable(first) == ("c", 6, 40, "2", "3e-06")
    assert comparable(scored(landmarks="x")) == (None, None, None, "x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"confusion": {"real": [[1, 0, 0], [0, 1, 0]]}}, "confusion.real to be 3 rows of 3 numbers"),
        ({"confusion": {"real": [[1, 0, 0], [0, 1, 0], [0, 1]]}}, "confusion.real to be 3 rows of 3 numbers"),
    ],
)
def test_a_confusion_that_does_not_fit_its_labels_is_refused(split, scores, tmp_path, change, words):
    write_results(tmp_path, scores, split.labels, {})
    content = json.loads((tmp_path / "evaluate.json").read_text())
    (tmp_path / "evaluate.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(InputError, match=words):
        read_scored(tmp_path / "evaluate.json")


@pytest.mark.parametrize(
    "arrays",
    [
        {"real": np.zeros((3, 2)), "labels": np.zeros((2, 1))},
        {"real": np.zeros((3, 2)), "generated": np.zeros((2, 2)), "labels": np.zeros(2)},
        {"real": np.zeros(2), "labels": np.zeros(2)},
        {"real": np.array([["a"], ["b"]]), "labels": np.zeros(2)},
        {"real": np.full((2, 2), np.nan), "labels": np.zeros(2)},
    ],
)
def test_features_are_vectors_of_the_labels(tmp_path, arrays):
    np.savez(tmp_path / "features.npz", **arrays)
    with pytest.raises(InputError, match=r"features.npz: expected finite arrays \(N, D\) and labels \(N,\), found"):
        read_features(tmp_path / "features.npz")
    assert read_features(tmp_path / "none.npz") == {}
