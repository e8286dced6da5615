import numpy as np
import pytest

from face4d.datasets.landmark_set import load_split, stack
from face4d.errors import InputError
from face4d.evaluation.scores import match_generated, per_label_columns, score
from tests.conftest import toy_sequence


@pytest.fixture
def split(landmark_folder):
    return load_split(landmark_folder, test_subjects=("CH01", "CH02"))


@pytest.fixture
def generated(split, tmp_path):
    """A perfect generator's folder, every landmark 1 mm too high from frame 1 on."""
    folder = tmp_path / "generated"
    for sequence in split.test:
        place = folder / f"{sequence.subject}_{sequence.label}"
        place.mkdir(parents=True)
        moved = sequence.landmarks.copy()
        moved[1:, :, 1] += 0.001
        np.save(place / f"{sequence.label}_{sequence.subject}.npy", moved)
    return folder


def oracle(split):
    """A classifier that knows the directions of the labels."""
    data, labels = stack(split.train, split.labels)
    peaks = np.stack([data[labels == index].mean(axis=0).sum(axis=0) for index in range(len(split.labels))])
    return lambda batch: np.einsum("ntlk,clk->nc", batch - batch.mean(axis=2, keepdims=True), peaks).argmax(axis=1)


def test_scores_of_a_known_answer(split, generated):
    scores = score(split, split.labels, match_generated(generated, split.test), oracle(split))
    rows = {row["method"]: row for row in scores.rows}
    assert list(rows) == ["real", "generated", "static neutral", "class mean", "nearest sequence"]
    assert rows["real"] == {"method": "real", "accuracy": 1.0}
    assert rows["generated"]["mm_mean"] == pytest.approx(1.0, rel=1e-4) and rows["generated"]["mm_std"] < 1e-3
    assert rows["generated"]["mse"] == pytest.approx(1e-6 / 3, rel=1e-3) and rows["generated"]["l1"] == pytest.approx(1e-3 / 3, rel=1e-3)
    assert rows["generated"]["accuracy"] == rows["class mean"]["accuracy"] == 1.0
    assert rows["static neutral"]["accuracy"] == pytest.approx(1 / 3)
    real = np.concatenate([sequence.displacement[1:] for sequence in split.test])
    assert rows["static neutral"]["mm_mean"] == pytest.approx(1000 * np.linalg.norm(real, axis=-1).mean(), rel=1e-5)


def test_per_label_rows_average_to_the_whole(split, generated):
    scores = score(split, split.labels, match_generated(generated, split.test), oracle(split))
    assert [row["label"] for row in scores.per_label] == ["Happy", "Rage", "Scream"]
    assert sum(row["sequences"] for row in scores.per_label) == len(split.test)
    overall = {row["method"]: row for row in scores.rows}
    for method in scores.methods:
        values = [row[f"{method} mm_mean"] for row in scores.per_label]
        assert np.mean(values) == pytest.approx(overall[method]["mm_mean"])
    keys = {column.key for column in per_label_columns(scores.methods)}
    assert keys <= set(scores.per_label[0])
    np.testing.assert_array_equal(scores.confusion["generated"], 2 * np.eye(3))


def test_errors_ignore_the_start_frame(split, generated):
    answer = match_generated(generated, split.test)
    other = answer.copy()
    other[:, 0] += 1.0
    assert score(split, split.labels, answer, oracle(split)).rows == score(split, split.labels, other, oracle(split)).rows


def refusal(generated, split) -> str:
    with pytest.raises(InputError) as error:
        match_generated(generated, split.test)
    return str(error.value)


def test_missing_generated_files_are_counted_and_refused(split, generated):
    (generated / "CH02_Rage" / "Rage_CH02.npy").unlink()
    assert "all 6 test sequences, found 1 missing, first Rage_CH02.npy" in refusal(generated, split)


def test_unknown_label_names_the_file_and_the_known_ones(split, generated):
    np.save(generated / "Sleepy_CH01.npy", toy_sequence(0, 0, 13))
    message = refusal(generated, split)
    assert "Sleepy_CH01.npy" in message and "Happy, Rage, Scream" in message


def test_unknown_subject_names_the_file_and_the_known_ones(split, generated):
    np.save(generated / "Happy_me.npy", toy_sequence(0, 0, 13))
    message = refusal(generated, split)
    assert "Happy_me.npy" in message and "CH01, CH02" in message


def test_another_length_names_both_files(split, generated):
    np.save(generated / "CH01_Happy" / "Happy_CH01.npy", toy_sequence(0, 0, 12))
    message = refusal(generated, split)
    assert "Happy_CH01.npy" in message and "expected 13 frames" in message and message.endswith("found 12")


def test_known_label_and_subject_without_a_test_sequence(split, generated):
    fewer = [sequence for sequence in split.test if (sequence.label, sequence.subject) != ("Rage", "CH02")]
    with pytest.raises(InputError, match="Rage of CH02"):
        match_generated(generated, fewer)


def test_an_empty_folder_is_refused(split, tmp_path):
    (tmp_path / "nothing").mkdir()
    assert "found none" in refusal(tmp_path / "nothing", split)
