"""Errors after time alignment: how far two motions are apart when one may run faster and slower than the other."""

from __future__ import annotations

import numpy as np

from face4d.constants import MM_PER_METRE

_PAIRS = 120_000  # of frames, of all sequences whose distances are in memory at a time


def aligned_error(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Time-normalised distance of sequences by dynamic time warping (Sakoe and Chiba, Dynamic programming algorithm
    optimization for spoken word recognition, IEEE ASSP 1978; symmetric form, no slope constraint, no window).

    With d(i, j) the mean distance of the landmarks of generated frame i and real frame j,

        g(1, 1) = 2 d(1, 1),  g(i, j) = min(g(i-1, j) + d(i, j), g(i-1, j-1) + 2 d(i, j), g(i, j-1) + d(i, j)),

    and the error is g(T, T') / (T + T'): the mean distance along the best path that begins and ends with both and never
    goes back, each of its steps weighted by the frames it advances. Without any warping it is the plain error, which is
    therefore an upper bound. It does not see when the motion happens, nor how fast.

    Args:
        generated: (N, T, L, 3) metres; real: (N, T', L, 3) metres.

    Returns:
        (N,) millimetres.

    Raises:
        ValueError: other shapes.
    """
    fits = generated.ndim == real.ndim == 4 and len(generated) == len(real) and generated.shape[2:] == real.shape[2:]
    if not fits or not generated.shape[1] or not real.shape[1]:
        raise ValueError(f"expected (N, T, L, 3) and (N, T', L, 3), found {generated.shape} and {real.shape}")
    at_once = max(1, _PAIRS // (generated.shape[1] * real.shape[1]))
    parts = [slice(start, start + at_once) for start in range(0, len(real), at_once)]
    return np.concatenate([np.zeros(0), *(_best_paths(_distances(generated[part], real[part])) for part in parts)])


def _distances(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(T, T', N) mean distances in millimetres of all pairs of frames, by the cosine theorem."""
    found = np.zeros((generated.shape[1], real.shape[1], len(real)))
    for number, (first, second) in enumerate(zip(generated, real)):
        for a, b in zip(first.swapaxes(0, 1).astype(np.float64), second.swapaxes(0, 1).astype(np.float64)):
            squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T  # (T, T')
            found[..., number] += np.sqrt(np.maximum(squares, 0, out=squares), out=squares)
    return found * (MM_PER_METRE / real.shape[2])


def _best_paths(distances: np.ndarray) -> np.ndarray:
    """(N,) time-normalised distances of (T, T', N) distances of frames: all sequences at once, one diagonal after the
    other.
    """
    rows, columns, count = distances.shape
    total = np.full((rows + 1, columns + 1, count), np.inf)
    total[0, 0] = 0
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        step = distances[i - 1, j - 1]
        straight = np.minimum(total[i - 1, j], total[i, j - 1]) + step
        total[i, j] = np.minimum(straight, total[i - 1, j - 1] + 2 * step)
    return total[rows, columns] / (rows + columns)
