"""Square-root velocity curves in ``.mat`` files, as Sparse2Dense's Motion3DGAN writes them: one file per label, ``x_test`` (samples, 3L, N)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from face4d.constants import NUM_LANDMARKS
from face4d.datasets.landmark_set import LandmarkSequence, LandmarkSplit
from face4d.datasets.layout import canonical_label, choose
from face4d.errors import InputError
from face4d.runtime.mat import read_mat
from face4d.srvf import published_srvf_to_curve

VARIABLE = "x_test"
INTENSITY = 0.2  # published: length of a motion, as a share of the face's size
FACE_SIZE = 0.485  # metres, Frobenius norm of 68 centred landmarks; mean of CoMA's twelve neutral faces (0.459 to 0.514)


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

    The curves are those of normalised faces. Here they become displacements in metres of a face of the size of CoMA's: landmarks are
    0.2 * 0.485 m times the published integral of q |q|, and the neutral face is zero.

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
            sequences.append(LandmarkSequence(files[label], label, f"sample-{number:02d}", landmarks, np.zeros_like(landmarks[0])))
            if len(landmarks) != len(sequences[0].landmarks):
                raise InputError(files[label], f"{len(sequences[0].landmarks)} points as in {sequences[0].path.name}", str(len(landmarks)))
    return LandmarkSplit(tuple(sequences), (), names)
