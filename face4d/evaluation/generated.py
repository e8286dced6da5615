"""Folders of generated sequences, matched with the real ones that they are answers to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from face4d.datasets.landmark_set import LandmarkSequence, load_folder
from face4d.datasets.layout import landmark_paths, sample_folders
from face4d.errors import InputError


def match_generated(folder: str | Path, test: Sequence[LandmarkSequence]) -> np.ndarray:
    """Generated sequences in the order of the test set.

    Args:
        folder: ``<label>_<subject>.npy`` files at any depth, (T+1, 68, 3) metres, frame 0 the start frame.
        test: sequences of equal length; each needs its generated file, and every file its sequence.

    Returns:
        (N, T+1, 68, 3) displacements in metres, from the neutral landmarks of the real sequence.

    Raises:
        InputError: a file of an unknown label or subject, a missing file, another number of frames.
    """
    generated = {(sequence.label, sequence.subject): sequence for sequence in load_folder(folder)}
    wanted = {(sequence.label, sequence.subject): sequence for sequence in test}
    labels, subjects = sorted({label for label, _ in wanted}), sorted({subject for _, subject in wanted})
    for (label, subject), sequence in generated.items():
        if label not in labels:
            raise InputError(sequence.path, f"a label of the test set ({', '.join(labels)})", label)
        if subject not in subjects:
            raise InputError(sequence.path, f"a subject of the test set ({', '.join(subjects)})", subject)
        if (label, subject) not in wanted:
            raise InputError(sequence.path, "a sequence of the test set", f"{label} of {subject}, which is not in it")
    missing = [f"{label}_{subject}.npy" for label, subject in wanted if (label, subject) not in generated]
    if missing:
        raise InputError(folder, f"all {len(wanted)} test sequences", f"{len(missing)} missing, first {missing[0]}")
    for key, sequence in generated.items():
        if len(sequence.landmarks) != len(wanted[key].landmarks):
            expected = f"{len(wanted[key].landmarks)} frames as in {wanted[key].path}"
            raise InputError(sequence.path, expected, f"{len(sequence.landmarks)}")
    return np.stack([generated[key].landmarks - sequence.neutral for key, sequence in wanted.items()])


def match_samples(folder: str | Path, test: Sequence[LandmarkSequence]) -> np.ndarray:
    """Generated sequences of a generator that answered once, or several times.

    Args:
        folder: as in :func:`match_generated`, or with one such folder in each of ``sample_00``, ``sample_01``, ... and
            nothing beside them.
        test: as in :func:`match_generated`.

    Returns:
        (K, N, T+1, 68, 3) displacements in metres; K = 1 without ``sample_*`` folders.

    Raises:
        InputError: as in :func:`match_generated`; also for a sequence that lies beside the samples.
    """
    samples = sample_folders(folder)
    if not samples:
        return match_generated(folder, test)[None]
    for path in landmark_paths(folder):
        if not any(sample in path.parents for sample in samples):
            raise InputError(path, f"every sequence inside {samples[0].name} to {samples[-1].name}", "one beside them")
    return np.stack([match_generated(sample, test) for sample in samples])
