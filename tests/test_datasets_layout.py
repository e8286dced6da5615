"""Names of sequences, labels and choices."""

import pytest

from face4d.constants import COMA_LABELS, FLORENCE_LABELS, LANDMARK_GROUPS
from face4d.datasets.layout import (
    canonical_label,
    choose,
    parse_sequence_name,
    sample_folders,
    sample_name,
    sequence_name,
)
from face4d.errors import InputError


@pytest.mark.parametrize(
    ("name", "label", "subject"),
    [
        ("mouth-open_FaceTalk_170725_00137_TA.npy", "mouth-open", "FaceTalk_170725_00137_TA"),
        ("Cheeky_CH01.npy", "Cheeky", "CH01"),
        ("Sad2_CH11.gif", "Sad2", "CH11"),
    ],
)
def test_names_are_read_back(name, label, subject):
    assert parse_sequence_name("a/b/" + name) == (label, subject)
    assert sequence_name(label.replace("-", "_"), subject) == name.rpartition(".")[0]


@pytest.mark.parametrize("name", ["Cheeky.npy", "_CH01.npy", "Cheeky_.npy"])
def test_other_names_are_refused(name):
    with pytest.raises(InputError, match="<label>_<subject>"):
        parse_sequence_name(name)


def test_labels_of_the_data_sets():
    assert len(COMA_LABELS) == 12 and len(FLORENCE_LABELS) == 10
    assert all(canonical_label(label) == label for label in COMA_LABELS + FLORENCE_LABELS)
    assert sorted(i for group in LANDMARK_GROUPS.values() for i in range(68)[group]) == list(range(68))


def test_choose():
    assert choose(["b", "a"], ["c", "b", "a"], "labels", "x") == ("a", "b")
    assert choose(["all"], ["b", "a"], "labels", "x") == ("a", "b")
    with pytest.raises(InputError, match="x: expected labels z, found only a, b"):
        choose(["a", "z"], ["b", "a"], "labels", "x")


def test_samples_of_a_stochastic_generator_are_found_by_number(tmp_path):
    assert sample_folders(tmp_path) == []
    for number in (0, 2, 10, 100):
        (tmp_path / sample_name(number)).mkdir()
    for other in ("sample_b", "sample_", "more_samples", "CH01_Happy"):
        (tmp_path / other).mkdir()
    (tmp_path / "sample_03").write_text("a file")
    assert [path.name for path in sample_folders(tmp_path)] == ["sample_00", "sample_02", "sample_10", "sample_100"]
