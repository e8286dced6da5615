"""Landmark sets: reading, splitting, class numbers, bad files."""

import numpy as np
import pytest

from face4d.datasets.landmark_set import hold_out, load_folder, load_split, read_landmarks, stack
from face4d.errors import InputError
from tests.conftest import toy_sequence, write_landmarks

TEST = ("CH01", "CH02")


def test_plain_folder_is_split_by_subject(landmark_folder):
    split = load_split(landmark_folder, test_subjects=TEST)
    assert split.labels == ("Happy", "Rage", "Scream")
    assert {sequence.subject for sequence in split.train} == {"CH03", "CH04", "CH05"}
    assert {sequence.subject for sequence in split.test} == {"CH01", "CH02"}
    first = split.test[0]
    assert (first.label, first.subject) == ("Happy", "CH01")
    np.testing.assert_array_equal(first.landmarks, toy_sequence(0, 0, 13))
    np.testing.assert_array_equal(first.displacement[0], 0)


def test_folder_with_both_halves_is_taken_as_it_is(tmp_path):
    write_landmarks(tmp_path / "x" / "dataset_training", ["Happy"], ["CH01", "CH02"], 5)
    write_landmarks(tmp_path / "x" / "dataset_testing", ["Happy"], ["CH09"], 5)
    split = load_split(tmp_path / "x", test_subjects=TEST)
    assert [sequence.subject for sequence in split.test] == ["CH09"]


def test_class_numbers_come_from_the_training_set_alone(tmp_path):
    """In the original they depended on which files were present."""
    write_landmarks(tmp_path / "x" / "dataset_training", ["Scream", "Happy", "Rage"], ["CH03"], 5)
    write_landmarks(tmp_path / "x" / "dataset_testing", ["Scream"], ["CH01"], 5)
    split = load_split(tmp_path / "x")
    assert split.labels == ("Happy", "Rage", "Scream")
    assert stack(split.test, split.labels)[1].tolist() == [2]
    assert stack(split.train, split.labels)[1].tolist() == [0, 1, 2]


def test_labels_are_chosen_in_either_spelling(tmp_path):
    folder = write_landmarks(tmp_path / "x", ["mouth-open", "eyebrow", "lips-up"], ["A_1", "B_2"], 5)
    split = load_split(folder, labels=["mouth_open", "eyebrow"], test_subjects=["B_2"])
    assert split.labels == ("eyebrow", "mouth-open")
    assert load_split(folder, labels=["all"], test_subjects=["B_2"]).labels == ("eyebrow", "lips-up", "mouth-open")


def test_neutrals_of_actors_replace_frame_zero(landmark_folder):
    neutrals = {f"CH0{k}": np.full((68, 3), 0.5, np.float32) for k in range(1, 6)}
    sequence = load_folder(landmark_folder, neutrals=neutrals)[0]
    np.testing.assert_allclose(sequence.displacement, sequence.landmarks - 0.5)
    del neutrals["CH02"]
    with pytest.raises(InputError, match="neutral mesh of CH02"):
        load_folder(landmark_folder, neutrals=neutrals)


def test_hold_out_takes_training_subjects(landmark_folder):
    split = load_split(landmark_folder, test_subjects=TEST)
    smaller = hold_out(split, ["CH04"])
    assert {sequence.subject for sequence in smaller.train} == {"CH03", "CH05"}
    assert {sequence.subject for sequence in smaller.held_out} == {"CH04"}
    with pytest.raises(InputError, match="training sequences of every label"):
        hold_out(split, ["CH03", "CH04", "CH05"])


def test_digest_changes_with_any_number(landmark_folder):
    split = load_split(landmark_folder, test_subjects=TEST)
    before = split.digest()
    assert split.digest() == before
    split.train[0].landmarks[3, 2, 1] += 1e-6
    assert split.digest() != before


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (np.zeros((5, 67, 3)), r"shape \(5, 67, 3\)"),
        (np.zeros((1, 68, 3)), r"shape \(1, 68, 3\)"),
        (np.full((5, 68, 3), np.nan), r"found nan at \[0, 0, 0\]"),
        (np.array(["a"]), "not numbers"),
    ],
)
def test_bad_arrays_are_refused(tmp_path, content, found):
    np.save(tmp_path / "Happy_CH01.npy", content)
    with pytest.raises(InputError, match=found):
        read_landmarks(tmp_path / "Happy_CH01.npy")


def test_objects_and_truncated_files_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="unreadable"):
        read_landmarks(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.zeros((5, 68, 3)))
    (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes()[:-100])
    with pytest.raises(InputError, match="unreadable"):
        read_landmarks(tmp_path / "b.npy")


def test_missing_empty_and_doubled_input_is_named(tmp_path, landmark_folder):
    with pytest.raises(InputError, match="no such folder"):
        load_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found none"):
        load_folder(tmp_path / "empty")
    with pytest.raises(InputError, match="Zen.*only Happy, Rage, Scream"):
        load_folder(landmark_folder, labels=["Zen"])
    with pytest.raises(InputError, match="training sequences of Zen"):
        load_split(landmark_folder, labels=["Happy", "Zen"], test_subjects=TEST)
    (landmark_folder / "again").mkdir()
    (landmark_folder / "again" / "Happy_CH01.npy").write_bytes((landmark_folder / "Happy_CH01.npy").read_bytes())
    with pytest.raises(InputError, match="one file of Happy, CH01"):
        load_folder(landmark_folder)


def test_label_only_in_the_test_set_is_refused(landmark_folder):
    np.save(landmark_folder / "Zen_CH01.npy", toy_sequence(5, 0, 13))
    with pytest.raises(InputError, match="Zen_CH01.npy: expected a label of the training set"):
        load_split(landmark_folder, test_subjects=TEST)


@pytest.mark.parametrize("subjects", [(), ("nobody",), ("CH01", "CH02", "CH03", "CH04", "CH05")])
def test_split_needs_subjects_on_both_sides(landmark_folder, subjects):
    with pytest.raises(InputError, match="subjects CH01, CH02"):
        load_split(landmark_folder, test_subjects=subjects)


def test_sequence_of_another_length_is_named(landmark_folder):
    np.save(landmark_folder / "Rage_CH04.npy", toy_sequence(1, 3, 9))
    with pytest.raises(InputError, match="Rage_CH04.npy: expected 13 frames.*found 9"):
        load_split(landmark_folder, test_subjects=TEST)


def test_real_landmarks(shared_data):
    split = load_split(shared_data / "landmarks_florence", labels=("Happy", "Rage"))
    assert (len(split.train), len(split.test)) == (20, 4)
    assert split.train[0].landmarks.shape == (61, 68, 3)


def test_suffixes_in_capitals_count_and_what_is_left_out_is_named(tmp_path, caplog):
    folder = write_landmarks(tmp_path / "x", ["Happy", "Rage"], ["CH01", "CH03"], 5)
    (folder / "Rage_CH01.npy").rename(folder / "Rage_CH01.NPY")
    for name in ("._Happy_CH01.npy", ".DS_Store", "Happy_CH01.gif", "evaluate.json", "scores.csv", "sampling.json"):
        (folder / name).write_bytes(b"not landmarks")
    assert len(load_folder(folder)) == 4 and not caplog.records
    for name in ("Zen_CH01.npy.gz", "Zen_CH01.mat"):
        (folder / name).touch()
    load_folder(folder)
    expected = f"note: {folder}: 2 passed over, no landmark files (.npy): Zen_CH01.mat, Zen_CH01.npy.gz"
    assert [record.getMessage() for record in caplog.records] == [expected]


def test_one_spelling_and_one_file_of_each_name(tmp_path):
    folder = write_landmarks(tmp_path / "x", ["Happy", "Rage"], ["CH01", "CH03"], 5)
    for name, message in (
        ("happy_CH01.npy", "expected one spelling of a label, found Happy and happy"),
        ("Zen_ch01.npy", "expected one spelling of a subject, found CH01 and ch01"),
        ("Happy_CH01.NPY", "expected one file of Happy, CH01"),
    ):
        np.save(tmp_path / "a.npy", toy_sequence(0, 0, 5))
        (tmp_path / "a.npy").rename(folder / name)
        with pytest.raises(InputError, match=message):
            load_folder(folder, labels=["Happy"])
        (folder / name).unlink()


def test_metres_for_training_and_millimetres_for_the_test_set(tmp_path):
    write_landmarks(tmp_path / "x" / "dataset_training", ["Happy"], ["CH03", "CH04"], 5)
    write_landmarks(tmp_path / "x" / "dataset_testing", ["Happy"], ["CH01"], 5)
    path = tmp_path / "x" / "dataset_testing" / "Happy_CH01.npy"
    np.save(path, 1000 * np.load(path))
    with pytest.raises(InputError, match=r"Happy_CH01.npy: .*frame 0 .*millimetres \(times 0.001 gives metres\)"):
        load_split(tmp_path / "x")


def test_some_sequences_may_stand_still_but_not_all(tmp_path, caplog):
    folder = write_landmarks(tmp_path / "x", ["Happy", "Rage"], ["CH01", "CH03"], 5)
    still = np.repeat(toy_sequence(0, 1, 5)[:1], 5, axis=0)
    np.save(folder / "Rage_CH03.npy", still)
    load_split(folder, test_subjects=["CH01"])
    assert [record.getMessage() for record in caplog.records] == [
        f"note: {folder}: nothing moves: Rage_CH03.npy (5 frames)"
    ]
    np.save(folder / "Happy_CH03.npy", still)
    with pytest.raises(InputError, match="expected training sequences that move, found 2 in which nothing does"):
        load_split(folder, test_subjects=["CH01"])
