"""Controls drawn from the distribution of a label's training sequences."""

from __future__ import annotations

import itertools

import numpy as np

# What the likelihood chooses among: how much of the other labels' sequences counts, and how wide a kernel is, in
# standard deviations.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
WIDTHS = (0.03, 0.06, 0.12, 0.25, 0.5)
NARROWEST = 1e-3  # of a kernel, in ratios


def draw_bank(
    ratios: np.ndarray, labels: np.ndarray, num_labels: int, draws: int, random: np.random.Generator
) -> np.ndarray:
    """Controls for every label, from a kernel density of training sequences.

    The density of a label is a mixture: a share w of the kernels lies on the sequences of all labels, the rest on its
    own. Few sequences of a label say little about its timing, and where labels do not differ, all of them say it
    together. Share and kernel width are those with the largest likelihood of each sequence under the density of all
    others (:func:`chosen_density`). Draws are spread evenly over the sequences and shrunk towards their mean so that
    the kernels add no variance (Silverman, Density estimation for statistics and data analysis, 1986, section 6.4.1).

    Args:
        ratios: (N, 5), see :func:`face4d.controls.as_ratios`.
        labels: (N,) class indices, each of the C at least once.
        draws: M, for each label.
        random: source of the draws.

    Returns:
        (C, M, 5) ratios.
    """
    share, width = chosen_density(ratios, labels)
    bank = np.empty((num_labels, draws, ratios.shape[1]))
    for label in range(num_labels):
        pooled = round(share * draws)
        sources = (np.arange(len(ratios)), pooled), (np.flatnonzero(labels == label), draws - pooled)
        centres = ratios[np.concatenate([np.resize(random.permutation(rows), count) for rows, count in sources])]
        kernel = width * np.maximum(centres.std(axis=0), NARROWEST) * random.standard_normal(centres.shape)
        mean = centres.mean(axis=0)
        bank[label] = mean + (centres - mean + kernel) / np.sqrt(1 + width**2)
    times = np.abs(bank[..., :4])  # reflected at 0 and 1
    bank[..., :4] = np.where(times > 1, 2 - times, times).clip(0, 1)
    return bank


def chosen_density(ratios: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Share of the other labels' sequences and kernel width with the largest likelihood of each sequence under all
    others.

    Args:
        ratios, labels: as in :func:`draw_bank`.

    Returns:
        One of SHARES, one of WIDTHS.
    """
    count = len(ratios)
    if count < 3:
        return 1.0, WIDTHS[-1]
    scale = np.maximum(ratios.std(axis=0), NARROWEST)
    squared = sum(np.square((column[:, None] - column[None]) / s) for column, s in zip(ratios.T, scale))  # (N, N)
    own = labels[:, None] == labels[None]
    np.fill_diagonal(own, False)
    best = {}
    for width in WIDTHS:
        logs = -squared / (2 * width**2) - ratios.shape[1] * np.log(width)
        np.fill_diagonal(logs, -np.inf)
        of_all = np.logaddexp.reduce(logs, axis=1) - np.log(count - 1)
        with np.errstate(divide="ignore"):
            of_own = np.logaddexp.reduce(np.where(own, logs, -np.inf), axis=1) - np.log(np.maximum(own.sum(axis=1), 1))
            of_own = np.where(own.any(axis=1), of_own, of_all)
            for share in SHARES:
                mixed = np.logaddexp(np.log(share) + of_all, np.log(1 - share) + of_own)
                best[share, width] = np.maximum(mixed, -1e4).mean()
    return max(itertools.product(SHARES, WIDTHS), key=best.__getitem__)
