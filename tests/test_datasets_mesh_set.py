"""Which folders are sequences of whom, and who is in the test set."""

import numpy as np
import pytest

from face4d.datasets.mesh_set import find_mesh_sequences, split_by_subject
from face4d.errors import InputError
from face4d.mesh.ply import write_ply


def _sequence(root, *parts):
    folder = root.joinpath(*parts)
    folder.mkdir(parents=True)
    for k in range(2):
        write_ply(folder / f"{parts[-1]}.{k:06d}.ply", np.zeros((3, 3)), np.array([[0, 1, 2]]))


@pytest.fixture
def root(tmp_path):
    _sequence(tmp_path, "FaceTalk_170725_00137_TA", "mouth_open")
    _sequence(tmp_path, "download", "trainingdata", "FaceTalk_170912_03278_TA", "mouth_open")
    _sequence(tmp_path, "download", "trainingdata", "FaceTalk_170912_03278_TA", "bareteeth")
    return tmp_path


def test_names_come_from_the_two_folders_above_the_frames(root, monkeypatch):
    names = [
        "bareteeth_FaceTalk_170912_03278_TA",
        "mouth-open_FaceTalk_170725_00137_TA",
        "mouth-open_FaceTalk_170912_03278_TA",
    ]
    assert [sequence.name for sequence in find_mesh_sequences(root)] == names
    assert [sequence.name for sequence in find_mesh_sequences(root, labels=["all"])] == names
    monkeypatch.chdir(root / "FaceTalk_170725_00137_TA")
    assert [sequence.name for sequence in find_mesh_sequences(".")] == names[1:2]
    monkeypatch.chdir("mouth_open")
    assert [sequence.name for sequence in find_mesh_sequences(".")] == names[1:2]


def test_labels_in_any_spelling_and_missing_ones(root, caplog):
    for label in ("mouth_open", "mouth-open"):
        assert len(find_mesh_sequences(root, labels=[label])) == 2
    with pytest.raises(InputError, match="expected sequences of eyebrow, found only bareteeth, mouth-open"):
        find_mesh_sequences(root, labels=["eyebrow", "bareteeth"])
    assert len(find_mesh_sequences(root, labels=["eyebrow", "bareteeth"], strict=False)) == 1
    assert "eyebrow" in caplog.text
    with pytest.raises(InputError, match="only bareteeth"):
        find_mesh_sequences(root, labels=["eyebrow"], strict=False)


def test_the_same_sequence_twice_is_an_error(root):
    _sequence(root, "copy", "FaceTalk_170725_00137_TA", "mouth-open")
    with pytest.raises(InputError, match="one sequence of mouth-open, FaceTalk_170725_00137_TA"):
        find_mesh_sequences(root)


def test_split(root, caplog):
    sequences = find_mesh_sequences(root)
    train, test = split_by_subject(sequences, ["FaceTalk_170912_03278_TA"], root)
    assert (len(train), len(test)) == (1, 2)
    with pytest.raises(
        InputError, match="test subject Nobody, found only FaceTalk_170725_00137_TA, FaceTalk_170912_03278_TA"
    ):
        split_by_subject(sequences, ["FaceTalk_170912_03278_TA", "Nobody"], root)
    assert split_by_subject(sequences, ["FaceTalk_170912_03278_TA", "Nobody"], root, strict=False) == (train, test)
    assert "Nobody" in caplog.text
    with pytest.raises(InputError, match="test subjects A, B"):
        split_by_subject(sequences, ["A", "B"], root, strict=False)
    with pytest.raises(InputError, match="training subjects beside"):
        split_by_subject(sequences, ["FaceTalk_170912_03278_TA", "FaceTalk_170725_00137_TA"], root)


def test_names_that_differ_in_capitals_alone_are_refused(root):
    _sequence(root, "FaceTalk_170725_00137_TA", "Mouth_Open")
    with pytest.raises(InputError, match="one spelling of a label, found Mouth-Open and mouth-open"):
        find_mesh_sequences(root)
