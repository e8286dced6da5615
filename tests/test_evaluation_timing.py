"""Apex times and strengths of made motions, and what is said where nothing moves."""

import numpy as np
import pytest

from face4d.evaluation.timing import Timing, timing, timing_errors, timing_spread

DIRECTION = np.random.default_rng(0).normal(0, 0.003, (68, 3))


def motion(apex: int, strength: float = 1.0, last: int = 30) -> np.ndarray:
    """(T+1, 68, 3): up to the apex and back, smoothsteps."""
    time = np.arange(last + 1)
    u = np.where(time < apex, time / apex, (last - time) / (last - apex))
    return strength * (3 * u**2 - 2 * u**3)[:, None, None] * DIRECTION


def found(*motions: np.ndarray) -> Timing:
    return timing(np.stack(motions), np.repeat(DIRECTION[None], len(motions), axis=0))


def test_times_and_strengths_are_those_the_motions_were_made_with():
    result = found(motion(10), motion(20, 0.5), motion(15, 2.0))
    np.testing.assert_allclose(result.apex, [10, 20, 15], atol=0.1)
    np.testing.assert_allclose(result.strength, [1, 0.5, 2], rtol=1e-6)
    errors = timing_errors(result, found(motion(12), motion(20, 1.0), motion(15, 1.5)))
    assert errors["apex_error"] == pytest.approx(2 / 3, abs=0.1) and errors["strength_error"] == pytest.approx(1 / 3)


def test_what_does_not_move_has_no_apex():
    still = found(motion(10), np.zeros((31, 68, 3)), motion(10, 0.01))
    assert np.isnan(still.apex).tolist() == [False, True, True]
    assert timing_errors(still, found(*[motion(10)] * 3))["apex_error"] is None
    assert timing_errors(still, found(*[motion(10)] * 3))["strength_error"] == pytest.approx((0 + 1 + 0.99) / 3)
    spread = timing_spread(still, still)
    assert spread["apex_q05"] == spread["apex_q95"] == pytest.approx(10, abs=0.1) and spread["apex_distance"] == 0
    assert "apex_q50" not in timing_spread(found(np.zeros((31, 68, 3))), still)


def test_the_distance_of_apex_times_is_the_mean_distance_of_quantiles():
    known = Timing(np.array([10.0, 20, 30]), np.ones(3))
    means = Timing(np.full(3, 20.0), np.ones(3))
    assert timing_spread(means, known)["apex_distance"] == pytest.approx(20 / 3)
    assert timing_spread(Timing(known.apex[::-1] + 2, np.ones(3)), known)["apex_distance"] == pytest.approx(2)
    twice = Timing(np.repeat(known.apex, 2), np.ones(6))
    assert timing_spread(twice, known)["apex_distance"] == pytest.approx(0)
