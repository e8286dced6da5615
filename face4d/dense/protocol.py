"""How dense decoders are compared: four folds of unseen subjects or of unseen expressions [S]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from face4d.dense.frames import DenseFrames
from face4d.errors import InputError

NUM_FOLDS = 4
SPLITS = ("identity", "expression")


@dataclass(frozen=True)
class Fold:
    """One half to learn from and one to be scored on.

    Attributes:
        name: ``identity1`` ... ``expression4``, or ``all`` where nothing is kept back.
        train, test: their frames; ``test`` is None for ``all``.
        groups: (len(train),) int64; parts of the training frames that take turns in being held out when a strength is chosen, made
            like the fold itself: of whole subjects or of whole expressions.
    """

    name: str
    train: DenseFrames
    test: DenseFrames | None
    groups: np.ndarray


def fold_names(names: Sequence[str], fold: int) -> tuple[str, ...]:
    """The subjects or labels that fold 1..4 is tested on.

    Of 12 names in sorted order fold 1 takes 9-11, fold 2 6-8, fold 3 3-5, fold 4 0-2 [S]; other numbers are split as evenly.

    Raises:
        InputError: fewer than four names.
    """
    ordered = sorted(set(names))
    if len(ordered) < NUM_FOLDS:
        raise InputError("--split", f"{NUM_FOLDS} or more subjects or labels for {NUM_FOLDS} folds", f"{len(ordered)}: {', '.join(ordered)}")
    return tuple(np.array_split(ordered, NUM_FOLDS)[NUM_FOLDS - fold].tolist())


def make_fold(
    frames: DenseFrames,
    split: str,
    fold: int | None,
    *,
    frame_step: int = 1,
    test_frame_step: int = 1,
    subjects_fraction: float = 1.0,
    seed: int = 0,
) -> Fold:
    """Training and test frames of a fold.

    Args:
        split: ``identity`` (test subjects are not in the training set) or ``expression`` (test labels are not).
        fold: 1..4; None = all frames for training, no test.
        frame_step: every n-th frame of each training sequence.
        test_frame_step: every n-th frame of each test sequence; 1 = the protocol.
        subjects_fraction: part of the training subjects to learn from, rounded, one at least; drawn with ``seed``.
    """
    keys = frames.frame_subjects() if split == "identity" else frames.frame_labels()
    held_out = () if fold is None else fold_names(np.unique(keys).tolist(), fold)
    is_test = np.isin(keys, held_out)
    train = frames.select(~is_test).every(frame_step)
    subjects = np.unique(train.frame_subjects())
    if subjects_fraction < 1:
        chosen = np.random.default_rng(seed).permutation(subjects)[: max(1, round(subjects_fraction * len(subjects)))]
        train = train.select(np.isin(train.frame_subjects(), chosen))
    name = "all" if fold is None else f"{split}{fold}"
    test = None if fold is None else frames.select(is_test).every(test_frame_step)
    return Fold(name, train, test, inner_groups(train, split))


def inner_groups(train: DenseFrames, split: str) -> np.ndarray:
    """(N,) number of the group of each training frame: up to four groups of whole subjects (or labels, for the expression split).

    Where there is one subject (label) only, labels (subjects) are grouped, and frames where there is one of both.
    """
    subjects, labels = train.frame_subjects(), train.frame_labels()
    for keys in (subjects, labels) if split == "identity" else (labels, subjects):
        names, number = np.unique(keys, return_inverse=True)
        if len(names) > 1:
            return number % NUM_FOLDS
    return np.arange(len(train)) * NUM_FOLDS // len(train)
