"""Motion that a decoder has not learnt from is distinguished from that of people who were not seen."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from face4d.dense.config import DenseConfig
from face4d.dense.decode import load_decoder
from face4d.dense.extrapolation import _box, _rows, _share, learn_motion, note_extrapolation
from face4d.dense.frames import DenseFrames, make_fold
from face4d.dense.train import fit_closed_form, task_of
from face4d.errors import InputError
from face4d.landmarks import extract
from face4d.runtime.run_folder import Run

LABELS = ("mouth-open", "high-smile", "mouth-side", "eyebrow")
KNOWN = LABELS[:2]


@dataclass
class People:
    """Ten people of the built-in head making four faces; (T, V, 3) by person and label."""

    embedding: object
    sequences: dict

    def frames(self, people, labels) -> DenseFrames:
        keys = [(person, label) for person in people for label in labels]
        moving = [self.sequences[key] for key in keys]
        neutrals = np.stack([vertices[0] for vertices in moving])
        landmarks = np.concatenate(
            [extract(self.embedding, vertices) - extract(self.embedding, vertices[0]) for vertices in moving]
        )
        counts = [len(vertices) for vertices in moving]
        names = tuple(f"P{person}" for person, _ in keys)
        sequence = np.repeat(np.arange(len(keys)), counts)
        return DenseFrames(
            ("",) * sum(counts), sequence, names, tuple(label for _, label in keys), neutrals, landmarks, self.embedding
        )

    def share(self, learnt, person, label) -> float:
        """The largest share outside of a sequence, 1 = the limit."""
        points = extract(self.embedding, self.sequences[person, label])
        return learnt.share_outside(points - points[0], points[0]).max() / learnt.limit


@pytest.fixture(scope="module")
def people():
    from face4d.demo.head import demo_head
    from face4d.demo.write import demo_sequence

    head = demo_head(0)
    sequences = {
        (person, label): demo_sequence(head, 27, person, label, 15) for person in range(10) for label in LABELS
    }
    return People(demo_embedding(), sequences)


def demo_embedding():
    from face4d.demo.flame import demo_embedding as embedding_of_level

    return embedding_of_level()


def test_unseen_people_are_inside_and_unseen_expressions_outside(people):
    learnt = learn_motion(people.frames(range(4), KNOWN))
    assert learnt.labels == tuple(sorted(KNOWN))
    unseen = [people.share(learnt, person, label) for person in range(4, 10) for label in KNOWN]
    others = [people.share(learnt, person, label) for person in range(10) for label in LABELS[2:]]
    assert np.mean(np.array(unseen) > 1) < 0.1 and np.mean(np.array(others) > 1) > 0.9, (unseen, others)
    everything = learn_motion(people.frames(range(4), LABELS))
    assert max(people.share(everything, person, label) for person in range(4, 10) for label in LABELS) < 1.3


def test_weaker_and_combined_motion_is_inside(people):
    learnt = learn_motion(people.frames(range(4), KNOWN))
    opened, smiling = (extract(people.embedding, people.sequences[0, label]) for label in KNOWN)
    shares = [
        learnt.share_outside(weight * (points - points[0]), points[0]).max()
        for points in (opened, smiling)
        for weight in (0.3, 0.7, 1)
    ]
    assert max(shares) < 0.2 * learnt.limit + 0.02
    both = 0.5 * (opened - opened[0]) + 0.5 * (smiling - smiling[0])
    assert learnt.share_outside(both, opened[0]).max() < learnt.limit
    assert learnt.share_outside(np.zeros((2, 68, 3)), opened[0]).max() == 0 and learnt.share_outside(
        np.zeros((0, 68, 3)), opened[0]
    ).shape == (0,)


@pytest.mark.parametrize("decoder", ["regional", "neutral"])
def test_a_checkpoint_says_it_in_one_line(people, decoder, tmp_path, monkeypatch, caplog):
    frames = people.frames(range(4), KNOWN)
    moved = np.concatenate(
        [people.sequences[person, label] - people.sequences[person, label][0] for person in range(4) for label in KNOWN]
    )
    monkeypatch.setattr(DenseFrames, "vertices", lambda self, rows: moved[np.asarray(rows)].astype(np.float32))
    run = Run("d", tmp_path / "models", tmp_path / "runs", torch.device("cpu"), quiet=True)
    config = DenseConfig(decoder=decoder, strength=1e-6)
    fold = make_fold(frames, config)
    fit_closed_form(fold, config, run, task_of(fold, config, {}))
    loaded = load_decoder(run.checkpoint)

    def noted(*asked, of=loaded) -> list[str]:
        caplog.clear()
        sequences = []
        for person, label in asked:
            points = extract(people.embedding, people.sequences[person, label])
            sequences.append((label, points - points[0], people.sequences[person, label][0]))
        with caplog.at_level(logging.WARNING):
            note_extrapolation(of, sequences)
        return [record.getMessage() for record in caplog.records]

    assert noted((2, "mouth-open"), (2, "high-smile")) == []
    lines = noted((2, "mouth-open"), (2, "mouth-side"), (3, "mouth-side"), (3, "eyebrow"))
    if decoder == "neutral":
        assert lines == [] and loaded.learnt is None
        return
    (line,) = lines
    assert (
        line.startswith("note: ")
        and "d.pt has learnt from high-smile, mouth-open only" in line
        and line.count("mouth-side") == 1
    ), line
    assert noted((2, "mouth-side"), of=replace(loaded, learnt=None)) == []  # a checkpoint of an earlier version


def test_what_a_checkpoint_says_is_checked(people):
    from face4d.dense.extrapolation import LEARNT_FIELDS, LearntMotion
    from face4d.runtime.fields import check, record

    content = learn_motion(people.frames(range(2), KNOWN)).as_record()
    again = LearntMotion.from_record(check("x.pt", content, record(LEARNT_FIELDS)), "x.pt")
    assert again.labels == tuple(sorted(KNOWN)) and again.limit == content["limit"]
    wrong = [
        ("limit", -1.0),
        ("limit", np.nan),
        ("directions", content["directions"][:5]),
        ("labels", []),
        ("extent", torch.full((3,), torch.nan)),
    ]
    for key, value in wrong:
        with pytest.raises(InputError, match="x.pt.*" + key):
            check("x.pt", {**content, key: value}, record(LEARNT_FIELDS))
    with pytest.raises(InputError, match="x.pt: expected learnt"):
        LearntMotion.from_record({**content, "low": content["low"][:-1]}, "x.pt")


def test_one_person_is_enough_to_learn_from(people):
    learnt = learn_motion(people.frames((0,), KNOWN))
    assert 0 < learnt.limit < 1 and people.share(learnt, 0, "high-smile") < 0.5


@pytest.mark.parametrize(("count", "more"), [(2, 1.5), (5, 1.4)])
def test_the_limit_is_what_groups_of_people_reach_beside_the_others_and_more_where_they_are_few(people, count, more):
    frames = people.frames(range(count), KNOWN)
    learnt = learn_motion(frames)
    sizes = np.ptp(frames.neutral_landmarks(), axis=1) / learnt.extent
    rows, subjects = _rows(frames.landmarks, sizes[frames.sequence]), frames.frame_subjects()
    groups = [["P0"], ["P1"]] if count == 2 else [["P0", "P1"], ["P2"], ["P3"], ["P4"]]  # four where there are more
    shares = [_share(rows[own], *_box(rows[~own])).max() for own in (np.isin(subjects, group) for group in groups)]
    assert learnt.limit == pytest.approx(max(shares) * more)


def test_the_mean_face_is_that_of_the_people_and_the_limit_grows_where_they_are_few(people):
    one, two = (learn_motion(people.frames(range(count), KNOWN)) for count in (1, 2))
    sizes = [np.ptp(extract(people.embedding, people.sequences[person, KNOWN[0]][0]), axis=0) for person in range(2)]
    np.testing.assert_allclose(one.extent, sizes[0])
    np.testing.assert_allclose(two.extent, np.mean(sizes, axis=0))  # each person once
    assert one.limit == pytest.approx(0.3 * 1.5)  # of a single person nothing is known about others
    assert two.labels == one.labels == tuple(sorted(KNOWN))


def test_coefficients_include_the_face_at_rest(people):
    learnt = learn_motion(people.frames(range(3), KNOWN))
    assert (learnt.low <= 0).all() and (learnt.high >= 0).all() and (learnt.high < 1).any()
    np.testing.assert_allclose(learnt.directions.T @ learnt.directions, np.eye(len(learnt.low)), atol=1e-9)


class Decoder:
    """What a note needs of a decoder: sequences k times their limit outside."""

    path = "d.pt"

    def __init__(self, embedding, labels):
        self.embedding = embedding
        self.learnt = self
        self.limit, self.labels = 0.5, labels

    def share_outside(self, displacements, neutral):
        return displacements[:, 0, 0]


def test_a_note_names_the_worst_first_and_counts_what_it_does_not_name(people, caplog):
    neutral = people.sequences[0, KNOWN[0]][0]
    moving = lambda share: np.full((3, 68, 3), share)  # noqa: E731
    note_extrapolation(Decoder(people.embedding, ["a", "b"]), [("x", moving(0.5), neutral)])
    assert not caplog.messages  # the limit itself is not beyond it
    shares = {"a": 0.6, "c": 1.5, "b": 1.0}
    asked = [(name, moving(share), neutral) for name, share in shares.items()] + [("c", moving(0.75), neutral)]
    note_extrapolation(Decoder(people.embedding, [f"l{k}" for k in range(12)]), asked)
    assert "c (3.0 times), b (2.0 times), a (1.2 times); there" in caplog.text and "l11 only" in caplog.text
    caplog.clear()
    note_extrapolation(Decoder(people.embedding, [f"l{k}" for k in range(14)]), asked)
    assert "l10, l11 and 2 more only" in caplog.text
