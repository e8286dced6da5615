"""Named protocols: what they select, fold by fold, and what is said where the data is not what they ask for."""

from pathlib import Path

import numpy as np
import pytest

from face4d.constants import COMA_LABELS, COMA_TEST_SUBJECTS, FLORENCE_LABELS, FLORENCE_TEST_SUBJECTS
from face4d.datasets.source import choose_source
from face4d.errors import InputError
from face4d.evaluation.protocols import find_protocol, known_protocols, load_folds, subset_of
from tests.conftest import real_data, write_landmarks

PEOPLE = tuple(f"P{number:02d}" for number in range(12))
MINE = """
title = "mine"
dataset = "coma"
frames = 7
neutral = "frame 0"
test_subjects = ["P00", "P01"]
classifier = "default"
seed = 1
"""


@pytest.fixture
def own(tmp_path):
    """A protocol file of one's own, and what it says once some lines are replaced."""

    def write(*changes: tuple[str, str]):
        text = MINE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "mine.toml").write_text(text)
        return find_protocol(str(tmp_path / "mine.toml"))

    return write


def folds_of(protocol, folder: Path, labels=("anger", "joy", "fear", "awe"), people=PEOPLE, frames=7):
    place = write_landmarks(folder, labels, people, frames)
    return load_folds(protocol, choose_source(dataset=protocol.dataset, landmarks=place))


def test_the_protocols_of_the_thesis_are_its_constants():
    known = known_protocols()
    assert list(known) == ["thesis-coma", "thesis-florence", "florence-70", "s2d-identity", "s2d-expression"]
    coma, florence = known["thesis-coma"], known["thesis-florence"]
    assert coma.labels == COMA_LABELS and coma.test_subjects == COMA_TEST_SUBJECTS and coma.frames == 41
    assert florence.labels == FLORENCE_LABELS and florence.test_subjects == FLORENCE_TEST_SUBJECTS
    assert florence.frames == known["florence-70"].frames == 61 and known["florence-70"].label_count == 70
    assert known["s2d-expression"].classifier == "none" and known["s2d-identity"].folds == "subjects"


def test_folds_are_a_quarter_each_in_the_papers_order(tmp_path):
    """Of 12 names in sorted order fold 1 takes 9-11, ..., fold 4 0-2; every sequence is answered once."""
    people = folds_of(find_protocol("s2d-identity"), tmp_path / "a", frames=41)
    tested = [sorted({s.subject for s in fold.split.test}) for fold in people]
    assert tested == [list(PEOPLE[start : start + 3]) for start in (9, 6, 3, 0)]
    for fold in people:
        assert not {s.subject for s in fold.split.test} & {s.subject for s in fold.split.train}
        assert len(fold.split.train) == 36 and fold.split.labels == fold.labels == ("anger", "awe", "fear", "joy")
    assert len({s.path for fold in people for s in fold.split.test}) == 48

    labels = folds_of(find_protocol("s2d-expression"), tmp_path / "b", frames=41)
    assert [{s.label for s in fold.split.test} for fold in labels] == [{"joy"}, {"fear"}, {"awe"}, {"anger"}]
    assert labels[0].split.labels == ("anger", "awe", "fear") and len(labels[0].labels) == 4


def test_one_split_and_its_halves_on_disk_do_not_matter(own, tmp_path):
    protocol = own()
    (fold,) = folds_of(protocol, tmp_path / "plain")
    halves = tmp_path / "halves"
    for sequence in (*fold.split.train, *fold.split.test):
        half = halves / ("dataset_testing" if sequence.subject == "P05" else "dataset_training")
        half.mkdir(parents=True, exist_ok=True)
        np.save(half / sequence.path.name, sequence.landmarks)
    (again,) = load_folds(protocol, choose_source(dataset="coma", landmarks=halves))
    assert again.split.digest() == fold.split.digest()
    assert {s.subject for s in fold.split.test} == {"P00", "P01"} and len(fold.split.train) == 40


def test_a_subset_is_said(own, tmp_path):
    whole = own(("seed = 1", "seed = 1\nlabel_count = 4\nsubjects = 12"))
    folds = folds_of(whole, tmp_path / "whole")
    assert subset_of(whole, folds) is None
    more = own(("seed = 1", "seed = 1\nlabel_count = 70\nsubjects = 12"))
    assert subset_of(more, folds) == "a subset, 4 of 70 labels: compare it with scores of the same subset"
    few = own(("seed = 1", "seed = 1\nlabel_count = 70\nsubjects = 95"))
    assert "4 of 70 labels and 12 of 95 people" in subset_of(few, folds)


def test_florence_70_takes_what_is_there():
    protocol = find_protocol("florence-70")
    folds = load_folds(protocol, choose_source(dataset="florence", landmarks=real_data("data/landmarks_florence")))
    assert len(folds[0].split.test) == 100 and len(folds[0].labels) == 50
    assert "50 of 70 labels" in subset_of(protocol, folds) and "people" not in subset_of(protocol, folds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("frames = 7", "frames = 1"), "frames to be an integer from 2"),
        (
            ("seed = 1", 'seed = 1\nfolds = "subjects"'),
            "toml: expected test_subjects or folds, one of them, found b",
        ),
        (('test_subjects = ["P00", "P01"]', ""), "test_subjects or folds, one of them, found neither"),
        (('test_subjects = ["P00", "P01"]', 'folds = "labels"'), 'classifier = "none" with folds of labels'),
        (('"frame 0"', '"mean"'), "neutral to be frame 0 or actor"),
        (("title", "tilte"), "title to be there|tilte to be one of the keys"),
        (("seed = 1", 'seed = 1\nlabels = ["a_b", "a-b"]'), "labels to be different, found a-b twice"),
    ],
)
def test_a_file_with_something_wrong_is_one_line(own, change, message):
    with pytest.raises(InputError, match=message):
        own(change)


def test_data_that_is_not_the_protocols_is_one_line(own, tmp_path):
    with pytest.raises(InputError, match="expected 41 frames .s2d-identity., found 7"):
        folds_of(find_protocol("s2d-identity"), tmp_path / "a")
    with pytest.raises(InputError, match="test subjects P01, found only"):
        folds_of(own(), tmp_path / "b", people=("P00", "P02"))
    with pytest.raises(InputError, match="training subjects beside"):
        folds_of(own(), tmp_path / "c", people=("P00", "P01"))
    with pytest.raises(InputError, match="sequences of Rage"):
        folds_of(own(("seed = 1", 'seed = 1\nlabels = ["joy", "Rage"]')), tmp_path / "d")
    with pytest.raises(InputError, match="4 or more subjects for 4 folds, found 3"):
        folds_of(find_protocol("s2d-identity"), tmp_path / "e", people=PEOPLE[:3], frames=41)
    with pytest.raises(InputError, match="--actors: expected the neutral meshes"):
        folds_of(own(('"frame 0"', '"actor"')), tmp_path / "f")
    source = choose_source(dataset="coma", landmarks=tmp_path / "b", actors=tmp_path)
    with pytest.raises(InputError, match="--actors: expected none, mine measures"):
        load_folds(own(), source)


def test_a_protocol_that_does_not_exist_names_those_that_do(tmp_path):
    with pytest.raises(InputError, match="thesis-coma.*found thesis-komma; the nearest is thesis-coma"):
        find_protocol("thesis-komma")
    with pytest.raises(InputError, match=r"none\.toml"):
        find_protocol(str(tmp_path / "none.toml"))
    (tmp_path / "thesis-coma.toml").write_text(MINE)
    with pytest.raises(InputError, match="a name that no protocol has"):
        find_protocol(str(tmp_path / "thesis-coma.toml"))
