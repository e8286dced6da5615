"""Protocols of the benchmark: which sequences are learnt from and which are answered, said once and by name.

Those of the field lie in ``protocols.toml`` beside this module; one of one's own is a TOML file with the same keys.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from face4d.datasets.landmark_set import LandmarkSequence, LandmarkSplit, load_folder
from face4d.datasets.layout import canonical_label, choose
from face4d.datasets.own import read_toml
from face4d.datasets.source import DataSource
from face4d.dense.frames import NUM_FOLDS, fold_names
from face4d.errors import InputError, nearest
from face4d.runtime.fields import (
    FRAMES,
    Check,
    FieldError,
    check,
    integer,
    list_of,
    name,
    one_of,
    optional,
    record,
    text,
)
from face4d.runtime.files import is_name
from face4d.runtime.lock import require_finished

log = logging.getLogger(__name__)

FILE = Path(__file__).with_name("protocols.toml")
NEUTRALS = ("frame 0", "actor")
NO_CLASSIFIER = "none"
_NAMES = optional(list_of(name, 1, 10_000, unique=True))


def _no_key(value: Any, place: str) -> Any:
    raise FieldError(place, f"one of the keys {', '.join(KEYS)}", f"no such key{nearest(place, KEYS)}")


KEYS: dict[str, Check] = {
    "title": text,
    "dataset": name,
    "frames": FRAMES,
    "neutral": one_of(*NEUTRALS),
    "labels": _NAMES,
    "label_count": optional(integer(1, 10_000)),
    "subjects": optional(integer(2, 10**6)),
    "test_subjects": _NAMES,
    "folds": optional(one_of("subjects", "labels")),
    "classifier": one_of("default", "thesis", NO_CLASSIFIER),
    "seed": integer(0, 2**32 - 1),
}
"""The keys of a protocol by name; docs/benchmark.md lists them."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is compared, and how.

    Attributes:
        name: of the table, or of the file.
        title: in a sentence.
        dataset: name of the data set that the sequences are of.
        frames: of every sequence, the neutral one included (T + 1).
        neutral: what displacements are measured from: ``frame 0`` of the sequence, or the ``actor``'s neutral mesh.
        labels: that are compared, canonical; None = all that are there.
        label_count: labels of the whole data set, where ``labels`` are not named; fewer are a subset.
        subjects: people of the whole data set; fewer are a subset.
        test_subjects: whose sequences are answered; none where there are folds.
        folds: what takes turns in being answered, a quarter at a time [S]: ``subjects`` or ``labels``.
        classifier: preset of the classifier that judges, or ``none``.
        seed: of its training, and of the noise and draws in the scores.
    """

    name: str
    title: str
    dataset: str
    frames: int
    neutral: str
    classifier: str
    seed: int
    labels: tuple[str, ...] | None = None
    label_count: int | None = None
    subjects: int | None = None
    test_subjects: tuple[str, ...] = ()
    folds: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain dictionary for records."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Fold:
    """One training and one test set.

    Attributes:
        name: ``fold 1`` ... ``fold 4``; ``all`` of a protocol without folds.
        split: its sequences.
        labels: all class names of the protocol, also those that do not train.
    """

    name: str
    split: LandmarkSplit
    labels: tuple[str, ...]


def known_protocols() -> dict[str, Protocol]:
    """The protocols of the package, by name."""
    return {key: _protocol(FILE, key, table) for key, table in read_toml(FILE).items()}


def find_protocol(wanted: str) -> Protocol:
    """The protocol of a name, or of a TOML file.

    Raises:
        InputError: neither; or a file with something wrong in it, names the key.
    """
    known = known_protocols()
    if wanted in known:
        return known[wanted]
    path = Path(wanted)
    if path.suffix.lower() != ".toml":
        expected = f"{', '.join(known)}, or a TOML file of one's own"
        raise InputError("--protocol", expected, f"{wanted}{nearest(wanted, known)}")
    if path.stem in known or not is_name(path.stem):
        raise InputError(path, f"a name that no protocol has ({', '.join(known)})", ascii(path.stem)[:60])
    return _protocol(path, path.stem, read_toml(path))


def load_folds(protocol: Protocol, source: DataSource) -> tuple[Fold, ...]:
    """Training and test sets of a protocol.

    Args:
        source: the landmarks, however the folder halves them, and the neutral faces.

    Raises:
        InputError: a label, test subject or neutral face that is missing, sequences of another length, labels or people
            too few for folds.
    """
    if protocol.neutral == "actor" and source.actors is None:
        raise InputError("--actors", f"the neutral meshes that {protocol.name} measures displacements from", "none")
    if protocol.neutral != "actor" and source.actors is not None:
        expected = f"none, {protocol.name} measures displacements from {protocol.neutral}"
        raise InputError("--actors", expected, str(source.actors))
    place = source.landmarks
    require_finished(place)
    sequences = load_folder(place, labels=protocol.labels, neutrals=source.neutrals())
    labels = tuple(sorted({sequence.label for sequence in sequences}))
    if protocol.labels is not None:
        labels = choose(protocol.labels, labels, "sequences of", place)
    for sequence in sequences:
        if len(sequence.landmarks) != protocol.frames:
            expected = f"{protocol.frames} frames ({protocol.name})"
            raise InputError(sequence.path, expected, f"{len(sequence.landmarks)}")
    subjects = sorted({sequence.subject for sequence in sequences})
    if protocol.folds is None:
        choose(protocol.test_subjects, subjects, "test subjects", place)
        if not set(subjects) - set(protocol.test_subjects):
            raise InputError(place, "training subjects beside the test subjects", f"only {', '.join(subjects)}")
        return (_fold("all", sequences, labels, protocol.test_subjects, "subject"),)
    names, key = (subjects, "subject") if protocol.folds == "subjects" else (labels, "label")
    if len(names) < NUM_FOLDS:
        raise InputError(place, f"{NUM_FOLDS} or more {protocol.folds} for {NUM_FOLDS} folds", f"{len(names)}")
    tested = [fold_names(names, number) for number in range(1, NUM_FOLDS + 1)]
    return tuple(_fold(f"fold {number}", sequences, labels, own, key) for number, own in enumerate(tested, 1))


def subset_of(protocol: Protocol, folds: Sequence[Fold]) -> str | None:
    """What the sequences at hand lack of the whole data set, in words; None where they are all of it."""
    sequences = [sequence for fold in folds for sequence in (*fold.split.train, *fold.split.test)]
    counts = {
        "labels": (len({sequence.label for sequence in sequences}), protocol.label_count),
        "people": (len({sequence.subject for sequence in sequences}), protocol.subjects),
    }
    lacking = [f"{found} of {whole} {what}" for what, (found, whole) in counts.items() if whole and found < whole]
    return f"a subset, {' and '.join(lacking)}: compare it with scores of the same subset" if lacking else None


def _protocol(path: Path, key: str, content: Mapping[str, Any]) -> Protocol:
    """The protocol of one table.

    Raises:
        InputError: names the file, the key, what it has to be and what it is.
    """
    values = check(path, content, record(KEYS, others=_no_key))
    if ("folds" in values) == ("test_subjects" in values):
        found = "both" if "folds" in values else "neither"
        raise InputError(path, "test_subjects or folds, one of them", found)
    if values.get("folds") == "labels" and values["classifier"] != NO_CLASSIFIER:
        expected = f'classifier = "{NO_CLASSIFIER}" with folds of labels: no classifier knows labels it has not seen'
        raise InputError(path, expected, values["classifier"])
    labels = [canonical_label(label) for label in values.get("labels") or ()]
    if len(set(labels)) < len(labels):
        raise InputError(path, "labels to be different", f"{next(x for x in labels if labels.count(x) > 1)} twice")
    values["labels"] = tuple(sorted(labels)) or None
    values["test_subjects"] = tuple(values.get("test_subjects") or ())
    return Protocol(name=key, **values)


def _fold(
    title: str, sequences: Sequence[LandmarkSequence], labels: tuple[str, ...], tested: Sequence[str], key: str
) -> Fold:
    test = tuple(sequence for sequence in sequences if getattr(sequence, key) in tested)
    train = tuple(sequence for sequence in sequences if getattr(sequence, key) not in tested)
    return Fold(title, LandmarkSplit(train, test, tuple(sorted({s.label for s in train}))), labels)
