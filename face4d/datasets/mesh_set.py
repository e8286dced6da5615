"""Mesh sequences of CoMA, CoMA_Florence and alike on disk: which expression, which subject, which half of the split."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from face4d.datasets.layout import canonical_label, choose, require_one_spelling, sequence_name
from face4d.errors import InputError
from face4d.mesh.sequence import find_sequences
from face4d.runtime.lock import require_finished

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeshSequence:
    """One expression of one subject: ``.../<subject>/<label>/`` with numbered frames.

    Attributes:
        folder: holds the frames; absolute.
        label: canonical label, from the folder's name.
        subject: name of the folder above.
    """

    folder: Path
    label: str
    subject: str

    @property
    def name(self) -> str:
        """``<label>_<subject>``, the stem of the landmark file."""
        return sequence_name(self.label, self.subject)


def find_mesh_sequences(
    root: str | Path, *, suffix: str = ".ply", labels: Sequence[str] | None = None, strict: bool = True
) -> list[MeshSequence]:
    """All mesh sequences below ``root``, at any depth, sorted by label and subject.

    Args:
        suffix: of the frames.
        labels: only these, any spelling; ``None`` or ``["all"]`` = all found.
        strict: False takes those of ``labels`` that are there and logs a warning about the others (for a data set's default labels).

    Raises:
        InputError: no such folder, one that is not finished, no sequences, two of one label and subject, a wanted label that is missing.
    """
    return choose_labels(find_all(root, suffix=suffix), labels, root, strict=strict)


def find_all(root: str | Path, *, suffix: str = ".ply") -> list[MeshSequence]:
    """:func:`find_mesh_sequences` of all labels."""
    require_finished(root)
    found: dict[tuple[str, str], MeshSequence] = {}
    for folder in find_sequences(root, suffix):
        place = Path(os.path.abspath(folder))  # names also of "." and of what lies above it
        sequence = MeshSequence(place, canonical_label(place.name), place.parent.name)
        key = (sequence.label, sequence.subject)
        if key in found:
            raise InputError(folder, f"one sequence of {sequence.label}, {sequence.subject}", f"also {found[key].folder}")
        found[key] = sequence
    require_one_spelling(root, (label for label, _ in found), "a label")
    require_one_spelling(root, (subject for _, subject in found), "a subject")
    return [found[key] for key in sorted(found)]


def choose_labels(
    sequences: Sequence[MeshSequence], labels: Sequence[str] | None, root: str | Path, *, strict: bool = True
) -> list[MeshSequence]:
    """Those of some labels, see :func:`find_mesh_sequences`."""
    wanted = ["all"] if labels is None else [label if label == "all" else canonical_label(label) for label in labels]
    known = {sequence.label for sequence in sequences}
    if not strict and wanted != ["all"] and known & set(wanted):
        absent = [label for label in wanted if label not in known]
        if absent:
            logger.warning("note: no sequences of %s in %s", ", ".join(absent), root)
        wanted = [label for label in wanted if label in known]
    chosen = set(choose(wanted, known, "sequences of", root))
    return [sequence for sequence in sequences if sequence.label in chosen]


def split_by_subject(
    sequences: Sequence[MeshSequence], test_subjects: Sequence[str], root: str | Path, *, strict: bool = True
) -> tuple[list[MeshSequence], list[MeshSequence]]:
    """Training and test sequences.

    Args:
        test_subjects: subjects of the test set.
        root: folder named in errors.
        strict: every test subject has to be there; False (for a data set's default split) only logs a warning about absent ones.

    Raises:
        InputError: an absent test subject, or no test subject or no training subject at all; lists the subjects found.
    """
    subjects = sorted({sequence.subject for sequence in sequences})
    found = f"only {', '.join(subjects)} (--test-subjects names others)"
    absent = [subject for subject in test_subjects if subject not in subjects]
    if absent and (strict or len(absent) == len(test_subjects)):
        raise InputError(root, f"test subject{'s' * (len(absent) > 1)} {', '.join(absent)}", found)
    if absent:
        logger.warning("note: no sequences of test subjects %s in %s", ", ".join(absent), root)
    if not set(subjects) - set(test_subjects):
        raise InputError(root, f"training subjects beside the test subjects {', '.join(test_subjects)}", found)
    train = [sequence for sequence in sequences if sequence.subject not in test_subjects]
    test = [sequence for sequence in sequences if sequence.subject in test_subjects]
    return train, test
