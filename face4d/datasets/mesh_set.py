"""Meshes of a data set on disk: its sequences, and the neutral meshes of its subjects.

Which expression, which subject, which half of the split a sequence is; landmark displacements are measured from the
neutral meshes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from face4d.datasets.layout import canonical_label, choose, require_distinct, require_one_spelling, sequence_name
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, read_head
from face4d.mesh.plausibility import Remark, face_remarks, read_face, report
from face4d.mesh.sequence import find_sequences
from face4d.runtime.files import is_hidden, matching, report_passed_over
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
        strict: False takes those of ``labels`` that are there and logs a warning about the others (for a data set's
            default labels).

    Raises:
        InputError: no such folder, one that is not finished, no sequences, two of one label and subject, a wanted label
            that is missing.
    """
    return choose_labels(find_all(root, suffix=suffix), labels, root, strict=strict)


def find_all(root: str | Path, *, suffix: str = ".ply") -> list[MeshSequence]:
    """:func:`find_mesh_sequences` of all labels."""
    return name_sequences(root, find_sequences(root, suffix))


def name_sequences(root: str | Path, folders: Sequence[Path]) -> list[MeshSequence]:
    """The sequences in folders below ``root``, sorted by label and subject.

    Raises:
        InputError: see :func:`find_mesh_sequences`.
    """
    require_finished(root)
    places = [Path(os.path.abspath(folder)) for folder in folders]  # names also of "." and of what lies above it
    found = [MeshSequence(place, canonical_label(place.name), place.parent.name) for place in places]
    require_distinct(root, ((one.label, one.subject, folder) for one, folder in zip(found, folders)), "sequence")
    return sorted(found, key=lambda one: (one.label, one.subject))


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
        strict: every test subject has to be there; False (for a data set's default split) only logs a warning about
            absent ones.

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


_MESHES = (".ply", ".obj")  # the first is taken where there are both, as after step 1
# what lies beside meshes: textures, landmarks, notes
_BESIDE = (".mtl", ".png", ".jpg", ".jpeg", ".npy", ".npz", ".json", ".txt", ".md")


def neutral_landmarks(path: str | Path, embedding: LandmarkEmbedding) -> np.ndarray:
    """Landmarks of one neutral face.

    Args:
        path: a PLY or OBJ mesh of the embedding's topology, metres.

    Returns:
        (68, 3) float32, metres.

    Raises:
        InputError: unreadable, or see :func:`face4d.landmarks.check_mesh`.
    """
    return read_head(path, embedding)[1]


def load_actors(folder: str | Path, embedding: LandmarkEmbedding) -> dict[str, np.ndarray]:
    """Neutral landmarks of every ``<subject>.ply`` or ``<subject>.obj`` in ``folder``, in small or capital letters.

    Returns:
        (68, 3) float32, metres, by subject.

    Raises:
        InputError: missing or empty folder, or a bad mesh.
    """
    paths = actor_paths(folder)
    names = sorted(path.name for path in Path(folder).iterdir() if path.is_file() and not is_hidden(path.name))
    report_passed_over(folder, set(names) - set(matching(names, (*_MESHES, *_BESIDE))), "neutral meshes (.ply, .obj)")
    remarks: list[Remark] = []
    found = {subject: read_head(path, embedding, remarks)[1] for subject, path in paths.items()}
    report(folder, remarks)
    return found


def actor_paths(folder: str | Path) -> dict[str, Path]:
    """The neutral meshes of a folder by subject, sorted.

    Raises:
        InputError: missing or empty folder, or two meshes of one kind and subject (``S1.ply``, ``S1.PLY``).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "a folder of <subject>.ply neutral meshes", "no such folder")
    names = sorted(matching((path.name for path in folder.iterdir()), _MESHES))
    found: dict[str, Path] = {}
    for suffix in _MESHES[::-1]:
        of_kind: dict[str, Path] = {}
        for name in matching(names, (suffix,)):
            path = folder / name
            if path.stem in of_kind:
                raise InputError(folder, f"one {suffix} of {path.stem}", f"{of_kind[path.stem].name} and {name}")
            of_kind[path.stem] = path
        found |= of_kind
    if not found:
        raise InputError(folder, "<subject>.ply neutral meshes", "none")
    require_one_spelling(folder, found, "a subject")
    return dict(sorted(found.items()))


def actor_path(folder: str | Path, subject: str) -> Path:
    """The neutral mesh ``<subject>.ply`` or ``<subject>.obj`` in ``folder``.

    Raises:
        InputError: neither is there, or see :func:`actor_paths`.
    """
    found = actor_paths(folder)
    if subject not in found:
        raise InputError(
            folder,
            f"the neutral mesh {subject}.ply (or .obj)",
            f"only {', '.join(path.name for path in found.values())}",
        )
    return found[subject]


def read_points(path: str | Path) -> np.ndarray:
    """Landmarks of one neutral face from a (68, 3) ``.npy`` file, metres.

    Raises:
        InputError: not a finite numeric array of that shape, or no face in metres.
    """
    points = read_face(path, (2,))
    report(path, face_remarks(str(path), points))
    return points
