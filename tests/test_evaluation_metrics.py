import numpy as np
import pytest

from face4d.evaluation.metrics import (
    acceleration,
    accuracy,
    best_of,
    confusion_matrix,
    distances_mm,
    jerk,
    l1,
    mm_error,
    mm_percentiles,
    mse,
)


def points(*coordinates) -> np.ndarray:
    """(T, 1, 3): one landmark."""
    return np.array(coordinates, np.float64)[:, None]


# Distances 5 mm and 0 mm in the first sequence, 13 mm in the second.
GENERATED = [points((0.003, 0.004, 0), (0, 0, 0)), points((0.0, 0.005, 0.012))]
REAL = [points((0, 0, 0), (0, 0, 0)), points((0, 0, 0))]


def test_distances_are_euclidean_and_in_millimetres():
    np.testing.assert_allclose(distances_mm(GENERATED[0], REAL[0]), [[5.0], [0.0]])


def test_mm_error_is_mean_over_sequences_and_std_over_distances():
    error = mm_error(GENERATED, REAL)
    assert error.mean == pytest.approx((2.5 + 13) / 2)  # every sequence counts the same, the longer one too
    assert error.std == pytest.approx(np.std([5, 0, 13]))


def test_mse_and_l1_by_hand():
    first = (0.003**2 + 0.004**2) / 6
    second = (0.005**2 + 0.012**2) / 3
    assert mse(GENERATED, REAL) == pytest.approx((first + second) / 2)
    assert l1(GENERATED, REAL) == pytest.approx((0.007 / 6 + 0.017 / 3) / 2)


def test_errors_are_of_differences_wherever_the_points_lie():
    place = np.array([0.3, -0.2, 0.1])
    moved, still = [sequence + place for sequence in GENERATED], [sequence + place for sequence in REAL]
    np.testing.assert_allclose(distances_mm(moved[0], still[0]), [[5.0], [0.0]], atol=1e-12)
    assert mm_error(moved, still) == pytest.approx(mm_error(GENERATED, REAL))
    assert mse(moved, still) == pytest.approx(mse(GENERATED, REAL)) == pytest.approx(mse(still, moved))
    assert l1(moved, still) == pytest.approx(l1(GENERATED, REAL)) == pytest.approx(l1(still, moved))


@pytest.mark.parametrize(
    ("first", "second"), [((2, 68, 3), (1, 68, 3)), ((2, 68, 2), (2, 68, 2)), ((3, 68, 3), (2, 68, 3))]
)
def test_distances_are_of_two_sets_of_points_of_one_shape(first, second):
    with pytest.raises(ValueError, match=r"expected two arrays \(\.\.\., L, 3\) of one shape, found \("):
        distances_mm(np.zeros(first), np.zeros(second))


def test_equal_sequences_have_no_error():
    assert mm_error(REAL, REAL) == (0.0, 0.0) and mse(REAL, REAL) == l1(REAL, REAL) == 0.0


def test_percentiles_of_all_single_distances():
    assert mm_percentiles(GENERATED, REAL) == pytest.approx((5.0, 5 + 0.9 * 8))  # of 0, 5 and 13 mm
    assert mm_percentiles(GENERATED, REAL, (0, 100)) == pytest.approx((0.0, 13.0))


def test_acceleration_by_hand():
    steady = points((0, 0, 0), (0.001, 0, 0), (0.002, 0, 0), (0.003, 0, 0))
    # second differences of 5 mm, there and back
    jump = points((0, 0, 0), (0, 0, 0), (0.003, 0.004, 0), (0.003, 0.004, 0))
    assert acceleration([steady]) == pytest.approx(0.0, abs=1e-12)
    assert acceleration([jump]) == pytest.approx(5.0)
    assert acceleration([steady, jump[:3]]) == pytest.approx(2.5)  # every sequence counts the same
    time = np.arange(6)[:, None, None]
    assert acceleration([0.001 * time**2 * np.array([0, 2.0, 0])]) == pytest.approx(4.0)  # constant acceleration
    for bad in ([], [steady[:2]]):
        with pytest.raises(ValueError, match="three frames"):
            acceleration(bad)


def test_best_of_takes_the_nearest_answer_of_each_sequence():
    real = np.zeros((2, 2, 1, 3))
    samples = np.zeros((3, 2, 2, 1, 3))
    samples[:, 0, :, 0, 0] = [[0.004, 0.004], [0.0, 0.006], [0.003, 0.003]]  # means 4, 3, 3 mm: the first of equals
    samples[:, 1, :, 0, 1] = [[0.001, 0.001], [0.002, 0.002], [0.0, 0.001]]
    np.testing.assert_array_equal(best_of(samples, real), [1, 2])
    with pytest.raises(ValueError, match="K, N, T, L, 3"):
        best_of(samples[0], real)
    with pytest.raises(ValueError, match=r"K, N, T, L, 3.* found \(0, 2, 2, 1, 3\)"):
        best_of(samples[:0], real)


@pytest.mark.parametrize("function", [mm_error, mse, l1, mm_percentiles])
def test_different_shapes_are_refused_never_averaged_over_fewer(function):
    with pytest.raises(ValueError, match="equally many"):
        function(GENERATED[:1], REAL)
    with pytest.raises(ValueError, match="at least one"):
        function([], [])
    with pytest.raises(ValueError, match="sequence|shape"):
        function([GENERATED[0], GENERATED[0]], REAL)


def test_accuracy_and_confusion_matrix_by_hand():
    predicted, true = np.array([0, 1, 1, 2, 0]), np.array([0, 1, 2, 2, 1])
    assert accuracy(predicted, true) == pytest.approx(3 / 5)
    np.testing.assert_array_equal(confusion_matrix(predicted, true, 3), [[1, 0, 0], [1, 1, 0], [0, 1, 1]])
    assert confusion_matrix(predicted, true, 4).sum() == 5
    assert not confusion_matrix(predicted[:0], true[:0], 3).any()


def test_bad_class_indices_are_refused():
    with pytest.raises(ValueError):
        accuracy(np.array([]), np.array([]))
    with pytest.raises(ValueError):
        accuracy(np.array([1, 2]), np.array([1]))
    with pytest.raises(ValueError):
        accuracy(np.zeros((2, 2)), np.zeros((2, 2)))
    for predicted, true in ((np.array([1]), np.array([1, 0])), (np.zeros((2, 2), int), np.zeros((2, 2), int))):
        with pytest.raises(ValueError, match=r"expected two \(N,\) arrays"):
            confusion_matrix(predicted, true, 2)
    with pytest.raises(ValueError, match="0..1"):
        confusion_matrix(np.array([0, 2]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="0..1"):
        confusion_matrix(np.array([0, -1]), np.array([0, 1]), 2)


def test_jerk_by_hand():
    time = np.arange(6.0)[:, None, None]
    cubic = 0.001 * time**3 * np.array([0, 0, 1.0])  # third difference of t^3 is 6
    assert jerk([cubic]) == pytest.approx(6.0)
    assert jerk([0.001 * time**2 * np.ones((1, 1, 3))]) == pytest.approx(0, abs=1e-9)
    jump = np.zeros((4, 1, 3))
    jump[3, 0, 0] = 0.002
    assert jerk([jump]) == pytest.approx(2.0)
    for bad in ([], [np.zeros((3, 1, 3))]):
        with pytest.raises(ValueError, match="four frames"):
            jerk(bad)
