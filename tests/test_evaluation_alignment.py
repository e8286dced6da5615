"""Errors after time alignment: the recursion as printed, and what it sees and does not see."""

import time

import numpy as np
import pytest

from face4d.evaluation.alignment import aligned_error

RNG = np.random.default_rng(0)


def plain(generated: np.ndarray, real: np.ndarray) -> float:
    """The recursion of Sakoe and Chiba, one cell after the other, of (T, L, 3) and (T', L, 3) metres."""
    rows, columns = len(generated), len(real)
    total = np.full((rows + 1, columns + 1), np.inf)
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            d = 1000 * np.linalg.norm(generated[i - 1] - real[j - 1], axis=1).mean()
            before = min(total[i - 1, j] + d, total[i, j - 1] + d, total[i - 1, j - 1] + 2 * d)
            total[i, j] = 2 * d if i == j == 1 else before
    return total[rows, columns] / (rows + columns)


@pytest.mark.parametrize(("frames", "others"), [(7, 7), (1, 5), (9, 4), (1, 1)])
def test_all_sequences_at_once_are_the_recursion_one_by_one(frames, others):
    generated, real = 0.01 * RNG.normal(size=(35, frames, 3, 3)), 0.01 * RNG.normal(size=(35, others, 3, 3))
    np.testing.assert_allclose(aligned_error(generated, real), [plain(a, b) for a, b in zip(generated, real)])


def test_the_plain_error_is_the_bound_and_a_change_of_speed_costs_nothing():
    real = 0.001 * np.cumsum(RNG.normal(size=(4, 20, 68, 3)), axis=1)
    other = 0.001 * np.cumsum(RNG.normal(size=(4, 20, 68, 3)), axis=1)
    bound = 1000 * np.linalg.norm(other - real, axis=3).mean(axis=(1, 2))
    assert np.all(aligned_error(other, real) < bound)
    slow = np.repeat(real, 3, axis=1)
    np.testing.assert_allclose(aligned_error(slow, real), 0, atol=1e-5)
    np.testing.assert_allclose(aligned_error(real + np.array([0, 0.003, 0.004]), real)[0], 5, rtol=0.3)


def test_other_shapes_are_refused():
    for a, b in (((2, 5, 68, 3), (3, 5, 68, 3)), ((2, 5, 68, 3), (2, 5, 67, 3)), ((5, 68, 3), (5, 68, 3))):
        with pytest.raises(ValueError, match="expected"):
            aligned_error(np.zeros(a), np.zeros(b))
    with pytest.raises(ValueError, match="expected"):
        aligned_error(np.zeros((1, 0, 2, 3)), np.zeros((1, 4, 2, 3)))
    assert aligned_error(np.zeros((0, 3, 2, 3)), np.zeros((0, 3, 2, 3))).shape == (0,)


def test_a_hundred_sequences_take_less_than_two_seconds():
    motion = RNG.normal(size=(100, 60, 68, 3)).astype(np.float32)
    begun = time.process_time()
    aligned_error(motion, motion[::-1])
    assert time.process_time() - begun < 2
