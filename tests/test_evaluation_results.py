import csv
import json

import numpy as np
import pytest

from face4d.datasets.landmark_set import load_split, stack
from face4d.evaluation.results import write_beside, write_results
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
        for name in ("scores", "realism", "per_label", "per_subject", "per_group")
        for suffix in ("csv", "md", "tex")
    ]
    names = [*tables, "confusion_real.csv", "confusion_generated.csv", "features.npz", "evaluate.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert sorted(paths) == sorted(tmp_path / "out" / name for name in names)

    content = json.loads((tmp_path / "out" / "evaluate.json").read_text())
    keys = [
        "scores",
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
    assert (tmp_path / "realism.csv").read_text().splitlines()[0] == "method,acceleration,acceleration_ratio"
