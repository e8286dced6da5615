"""Landmark sequences on disk: reading, checking and splitting them.

Square-root velocity curves in ``.mat`` files, as Sparse2Dense's Motion3DGAN writes them (one file per label,
``x_test`` (samples, 3L, N)), are read as such sequences too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from face4d.constants import NUM_LANDMARKS
from face4d.datasets.layout import (
    TEST_FOLDER,
    TRAIN_FOLDER,
    canonical_label,
    choose,
    parse_sequence_name,
    require_distinct,
    sequence_name,
    visible_paths,
)
from face4d.errors import InputError
from face4d.mesh.plausibility import (
    JUMP,
    Remark,
    face_remarks,
    is_still,
    motion_remarks,
    read_face,
    report,
)
from face4d.runtime.files import has_suffix, report_passed_over
from face4d.runtime.lock import require_finished
from face4d.runtime.mat import read_mat
from face4d.srvf import published_srvf_to_curve

# What steps write beside landmarks: pictures, moving meshes, tables, records.
_BESIDE = (".gif", ".png", ".jpg", ".mp4", ".glb", ".ply", ".obj", ".json", ".npz", ".csv", ".md", ".tex", ".txt")


@dataclass(frozen=True)
class LandmarkSequence:
    """One sequence of one subject.

    Attributes:
        path: file it came from.
        label: canonical label.
        subject: subject name.
        landmarks: (T, 68, 3) float32, metres.
        neutral: (68, 3) float32, metres; the subject's neutral landmarks.
    """

    path: Path
    label: str
    subject: str
    landmarks: np.ndarray
    neutral: np.ndarray

    @property
    def displacement(self) -> np.ndarray:
        """(T, 68, 3) float32, metres: landmarks minus neutral landmarks, what all models see."""
        return self.landmarks - self.neutral


@dataclass(frozen=True)
class LandmarkSplit:
    """What a model is trained and tested on.

    Attributes:
        train, test: the sequences.
        labels: class names, which are the sorted labels of the training set.
        held_out: training sequences that do not train, to choose weights and stopping without the test set.
        source: where all of them came from, for records.
    """

    train: tuple[LandmarkSequence, ...]
    test: tuple[LandmarkSequence, ...]
    labels: tuple[str, ...]
    held_out: tuple[LandmarkSequence, ...] = ()
    source: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> str:
        """Sizes of the sets, for people."""
        extra = f", {len(self.held_out)} validation" if self.held_out else ""
        return f"{len(self.train)} training{extra} and {len(self.test)} test sequences of {len(self.labels)} labels"

    def digest(self) -> str:
        """SHA-256 over names, landmarks and neutrals; says whether two runs saw the same data."""
        sha = hashlib.sha256()
        for sequence in (*self.train, *self.held_out, *self.test):
            sha.update(f"{sequence.label}|{sequence.subject}|{sequence.landmarks.shape}".encode())
            sha.update(np.ascontiguousarray(sequence.landmarks).tobytes())
            sha.update(np.ascontiguousarray(sequence.neutral).tobytes())
        return sha.hexdigest()

    def identity(self, **network: Any) -> dict[str, Any]:
        """What two runs on these data share (:func:`face4d.runtime.session.Task`), with the sizes of their network."""
        return {
            "labels": list(self.labels),
            **network,
            "frames": len(self.train[0].landmarks),
            "data_digest": self.digest(),
        }

    def record(self) -> dict[str, Any]:
        """Where the data came from and the names of the sequences of each set, for the record of a run."""
        sets = {"train": self.train, "held_out": self.held_out, "test": self.test}
        return {
            "source": self.source,
            "sets": {name: [sequence_name(s.label, s.subject) for s in own] for name, own in sets.items()},
        }


def read_landmarks(path: str | Path) -> np.ndarray:
    """Read one landmark file.

    Returns:
        (T, 68, 3) float32, metres, T >= 2.

    Raises:
        InputError: not a finite numeric array of that shape, or no face in metres, in any frame.
    """
    return read_face(path, (3,), least=2)


def sequence_remarks(name: str, landmarks: np.ndarray) -> list[Remark]:
    """What is odd about landmarks (T, 68, 3): no face, lying or looking away; still, or with a jump."""
    return face_remarks(name, landmarks[0]) + motion_remarks(name, landmarks)


def find_landmarks(folder: str | Path) -> list[Path]:
    """The landmark files of :func:`load_folder`; one line names what else is there.

    Raises:
        InputError: missing or empty folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "a folder of <label>_<subject>.npy landmark files", "no such folder")
    visible = visible_paths(folder)
    others = [path for path in visible if not has_suffix(path, (".npy", *_BESIDE)) and path.is_file()]
    report_passed_over(folder, (path.relative_to(folder).as_posix() for path in others), "landmark files (.npy)")
    paths = [path for path in visible if has_suffix(path, (".npy",))]
    if not paths:
        raise InputError(folder, "<label>_<subject>.npy landmark files", "none")
    return paths


def load_folder(
    folder: str | Path,
    *,
    labels: Sequence[str] | None = None,
    neutrals: Mapping[str, np.ndarray] | None = None,
) -> tuple[LandmarkSequence, ...]:
    """All landmark sequences below ``folder``, at any depth, sorted by label and subject.

    Args:
        folder: holds ``<label>_<subject>.npy`` files, in small or capital letters; hidden files are ignored, and one
            line names what else is no landmark file nor written beside one by a step.
        labels: only these; ``None`` = all.
        neutrals: (68, 3) neutral landmarks by subject, metres; without it frame 0 of each sequence is its neutral.

    Raises:
        InputError: missing or empty folder, a bad file, two files of one label and subject (or that differ in capitals
            alone), a subject without neutral.
    """
    named = {path: parse_sequence_name(path) for path in find_landmarks(folder)}
    require_distinct(folder, ((*names, path) for path, names in named.items()), "file")
    wanted = None if labels is None else {canonical_label(label) for label in labels}
    sequences: dict[tuple[str, str], LandmarkSequence] = {}
    remarks: list[Remark] = []
    for path, (label, subject) in named.items():
        if wanted is not None and label not in wanted:
            continue
        landmarks = read_landmarks(path)
        if neutrals is not None and subject not in neutrals:
            raise InputError(
                path, f"a neutral mesh of {subject} among the actors", f"only {', '.join(sorted(neutrals))}"
            )
        neutral = landmarks[0] if neutrals is None else np.asarray(neutrals[subject], np.float32)
        sequences[label, subject] = LandmarkSequence(path, label, subject, landmarks, neutral)
        remarks += sequence_remarks(path.name, landmarks)
        if neutrals is not None and (away := float(np.linalg.norm(neutral - landmarks[0], axis=1).mean())) > JUMP:
            remarks.append(Remark("far from the neutral face of its actor", f"{path.name} ({1e3 * away:.0f} mm)"))
    report(folder, remarks)
    if not sequences:
        found = sorted({label for label, _ in named.values()})
        raise InputError(folder, f"sequences of {', '.join(sorted(wanted or ()))}", f"only {', '.join(found)}")
    return tuple(sequences[key] for key in sorted(sequences))


def load_split(
    root: str | Path,
    *,
    labels: Sequence[str] | None = None,
    test_subjects: Sequence[str] = (),
    neutrals: Mapping[str, np.ndarray] | None = None,
) -> LandmarkSplit:
    """Training and test set of a landmark folder.

    Args:
        root: with ``dataset_training`` and ``dataset_testing``, or a plain folder that is split by subject.
        labels: only these; ``None`` or ``["all"]`` = all found.
        test_subjects: for a plain folder, the subjects of the test set that exist there.
        neutrals: see :func:`load_folder`.

    Raises:
        InputError: also for a wanted label that is missing, a label seen only in the test set, an empty half,
            sequences of different lengths, and training sequences of which none moves.
    """
    root = Path(root)
    require_finished(root)
    wanted = None if labels is None or list(labels) == ["all"] else [canonical_label(label) for label in labels]
    if (root / TRAIN_FOLDER).is_dir():
        train = load_folder(root / TRAIN_FOLDER, labels=wanted, neutrals=neutrals)
        test = load_folder(root / TEST_FOLDER, labels=wanted, neutrals=neutrals)
    else:
        sequences = load_folder(root, labels=wanted, neutrals=neutrals)
        subjects = sorted({sequence.subject for sequence in sequences})
        held_out = set(test_subjects) & set(subjects)
        if not held_out or held_out == set(subjects):
            raise InputError(
                root,
                f"{TRAIN_FOLDER} and {TEST_FOLDER}, or some but not only the test subjects "
                f"{', '.join(test_subjects) or '(none named; --test-subjects names them)'}",
                f"subjects {', '.join(subjects)}",
            )
        train = tuple(sequence for sequence in sequences if sequence.subject not in held_out)
        test = tuple(sequence for sequence in sequences if sequence.subject in held_out)
    names = tuple(sorted({sequence.label for sequence in train}))
    if wanted is not None:
        names = choose(wanted, names, "training sequences of", root)
    for sequence in test:
        if sequence.label not in names:
            raise InputError(
                sequence.path, "a label of the training set", f"{sequence.label}, which is only in the test set"
            )
    require_equal_lengths((*train, *test))
    if all(is_still(sequence.landmarks) for sequence in train):
        raise InputError(root, "training sequences that move", f"{len(train)} in which nothing does")
    return LandmarkSplit(train, test, names)


def hold_out(split: LandmarkSplit, subjects: Sequence[str]) -> LandmarkSplit:
    """Hold training subjects out of the training set; the labels stay.

    Raises:
        InputError: nothing is left to train on, or a label would have no training sequence.
    """
    kept = tuple(sequence for sequence in split.train if sequence.subject not in subjects)
    held_out = tuple(sequence for sequence in split.train if sequence.subject in subjects)
    missing = set(split.labels) - {sequence.label for sequence in kept}
    if missing:
        raise InputError(
            "--validation-subjects",
            "training sequences of every label besides them",
            f"none of {', '.join(sorted(missing))}",
        )
    return replace(split, train=kept, held_out=held_out)


def require_equal_lengths(sequences: Sequence[LandmarkSequence]) -> int:
    """Number of frames of all sequences.

    Raises:
        InputError: one has another length; the message names it.
    """
    frames = len(sequences[0].landmarks)
    for sequence in sequences:
        if len(sequence.landmarks) != frames:
            raise InputError(
                sequence.path, f"{frames} frames as in {sequences[0].path.name}", f"{len(sequence.landmarks)}"
            )
    return frames


def stack(sequences: Sequence[LandmarkSequence], labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (N, T, 68, 3) float32 in metres and class indices (N,) int64 of sequences of equal length.

    Raises:
        InputError: no sequence, or one whose label is not among ``labels``.
    """
    if not sequences:
        raise InputError("landmark set", "at least one sequence (held-out subjects for --select validation)", "none")
    index = {label: i for i, label in enumerate(labels)}
    for sequence in sequences:
        if sequence.label not in index:
            raise InputError(sequence.path, f"a label among {', '.join(labels)}", sequence.label)
    displacement = np.stack([sequence.displacement for sequence in sequences])
    return displacement, np.array([index[sequence.label] for sequence in sequences], dtype=np.int64)


def tensors(
    sequences: Sequence[LandmarkSequence], labels: Sequence[str], device: torch.device
) -> tuple[Tensor, Tensor]:
    """:func:`stack` as tensors on a device."""
    displacements, indices = stack(sequences, labels)
    return torch.from_numpy(displacements).to(device), torch.from_numpy(indices).to(device)


VARIABLE = "x_test"
INTENSITY = 0.2  # published: length of a motion, as a share of the face's size
# metres, Frobenius norm of 68 centred landmarks; mean of CoMA's twelve neutral faces (0.459 to 0.514)
FACE_SIZE = 0.485


def holds_srvf_samples(folder: Path) -> bool:
    """Whether a folder holds ``.mat`` files."""
    return folder.is_dir() and any(folder.glob("*.mat"))


def read_srvf_samples(path: str | Path) -> np.ndarray:
    """Read one file.

    Returns:
        (samples, N, 3L) float64 square-root velocities, N at least 2.

    Raises:
        InputError: another content.
    """
    path = Path(path)
    expected = f"a MATLAB file with {VARIABLE}, (samples, {3 * NUM_LANDMARKS}, points) finite numbers"
    samples = read_mat(path, VARIABLE, expected)
    if samples.ndim != 3 or samples.shape[1] != 3 * NUM_LANDMARKS or not samples.shape[0] or samples.shape[2] < 2:
        raise InputError(path, expected, f"{samples.dtype} of shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise InputError(path, expected, "NaN or infinity")
    return samples.transpose(0, 2, 1).astype(np.float64)


def load_srvf_samples(folder: str | Path, labels: Sequence[str] | None = None) -> LandmarkSplit:
    """All samples of a folder as training sequences; there is no test set, and no face.

    The curves are those of normalised faces. Here they become displacements in metres of a face of the size of CoMA's:
    landmarks are 0.2 * 0.485 m times the published integral of q |q|, and the neutral face is zero.

    Args:
        folder: ``<label>.mat`` files.
        labels: only these; None = all.

    Raises:
        InputError: a bad file, a label that is not there, files of different numbers of points.
    """
    folder = Path(folder)
    files = {canonical_label(path.stem): path for path in sorted(folder.glob("*.mat"))}
    names = choose([canonical_label(label) for label in labels] if labels else ["all"], files, "labels", folder)
    sequences: list[LandmarkSequence] = []
    for label in names:
        curves = published_srvf_to_curve(torch.from_numpy(read_srvf_samples(files[label]))).numpy()  # (samples, N, 3L)
        for number, curve in enumerate(INTENSITY * FACE_SIZE * curves):
            landmarks = curve.reshape(len(curve), -1, 3).astype(np.float32)
            sequences.append(
                LandmarkSequence(files[label], label, f"sample-{number:02d}", landmarks, np.zeros_like(landmarks[0]))
            )
            if len(landmarks) != len(sequences[0].landmarks):
                raise InputError(
                    files[label],
                    f"{len(sequences[0].landmarks)} points as in {sequences[0].path.name}",
                    str(len(landmarks)),
                )
    return LandmarkSplit(tuple(sequences), (), names)
