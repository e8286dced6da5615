"""Motion that a decoder has not learnt from is distinguished from that of people who were not seen."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from face4d.dense.config import DenseConfig
from face4d.dense.decode import load_decoder
from face4d.dense.extrapolation import learn_motion, note_extrapolation
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
    from face4d.deca.face_model import _demo_embedding

    return _demo_embedding()


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
    fold, config = make_fold(frames, "identity", None), DenseConfig(decoder=decoder, strength=1e-6)
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
