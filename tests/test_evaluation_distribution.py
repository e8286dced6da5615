import numpy as np
import pytest
import scipy.linalg

from face4d.evaluation.distribution import (
    diversity,
    fid,
    fid_deviation,
    fid_of_halves,
    motion_vectors,
    multimodality,
    precision_recall,
    precision_recall_by_label,
)


def direct_fid(first: np.ndarray, second: np.ndarray) -> float:
    """The formula as printed, with a matrix root."""
    root = scipy.linalg.sqrtm(np.cov(first.T) @ np.cov(second.T))
    traces = np.trace(np.cov(first.T)) + np.trace(np.cov(second.T)) - 2 * np.trace(root.real)
    return np.square(first.mean(axis=0) - second.mean(axis=0)).sum() + traces


def features(count: int, dimensions: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dimensions)) @ rng.normal(size=(dimensions, dimensions)) + rng.normal(
        size=dimensions
    )


@pytest.mark.parametrize(("first", "second"), [(40, 70), (70, 70), (9, 300)])
def test_fid_is_scipys(first, second):
    a, b = features(first, 8, 0), features(second, 8, 1)
    assert fid(a, b) == pytest.approx(direct_fid(a, b), rel=1e-9)


def test_fid_of_fewer_sequences_than_dimensions():
    """Singular covariances: the same cloud turned into a space of more dimensions is as far away as before."""
    a, b = features(6, 4, 2), features(5, 4, 3)
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(128, 128)))[0][:4]
    assert fid(a @ turn, b @ turn) == pytest.approx(direct_fid(a, b), rel=1e-9)


def test_fid_by_hand():
    a, b = np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])  # means 1 and 5, standard deviations sqrt(2) and sqrt(8)
    assert fid(a, b) == pytest.approx(16 + 2)
    first, second = np.array([[-1.0, 0], [1, 0]]), np.array([[0, -1.0], [0, 1]])  # at right angles: nothing is shared
    assert fid(first, second) == pytest.approx(2 + 2)
    assert fid(a, b) == fid(b, a)


def test_fid_of_equal_sets_and_of_a_shift():
    a = features(20, 128, 5)
    assert fid(a, a) == pytest.approx(0.0, abs=1e-8) and fid(a, a[::-1]) >= 0
    assert fid(a, a + np.eye(128)[0] * 3) == pytest.approx(9.0)


def test_fid_refuses_what_has_no_covariance():
    cloud = np.zeros((4, 3))
    for a, b in (
        (cloud[:1], cloud),
        (cloud, cloud[:1]),
        (cloud, cloud[:, :2]),
        (cloud[0], cloud[0]),
        (cloud, np.zeros((4, 3, 3))),
        (np.zeros((4, 3, 3)), cloud),
    ):
        with pytest.raises(ValueError, match="at least 2"):
            fid(a, b)


def test_bootstrap_resamples_pairs():
    real = features(30, 3, 6)
    # every resample is paired with itself
    assert fid_deviation(real, real, np.random.default_rng(0)) == pytest.approx(0.0, abs=1e-8)
    moved = real + np.array([2.0, 0, 0])
    assert fid_deviation(moved, real, np.random.default_rng(0)) == pytest.approx(0.0, abs=1e-8)
    other = features(30, 3, 7)
    first = fid_deviation(other, real, np.random.default_rng(0))
    assert first > 0 and first == fid_deviation(other, real, np.random.default_rng(0)) != fid_deviation(
        other, real, np.random.default_rng(1)
    )
    hundred = fid_deviation(other, real, np.random.default_rng(0), resamples=100)
    assert first == hundred != fid_deviation(other, real, np.random.default_rng(0), resamples=101)
    with pytest.raises(ValueError, match="pairs"):
        fid_deviation(other[:5], real, np.random.default_rng(0))


def test_bootstrap_draws_every_pair_and_estimates_without_bias():
    generated, real = np.array([[0.0], [1.0]]), np.array([[1.0], [5.0]])
    # one of each: half of the resamples; else twice the same pair, whose covariance is zero
    both = fid(generated, real)
    values = [both, both, 1.0, 16.0]  # square distances of the single pairs
    many = fid_deviation(generated, real, np.random.default_rng(0), resamples=4000)
    assert many == pytest.approx(np.std(values), rel=0.03)
    differences = {abs(a - b) / np.sqrt(2) for a in values for b in values}  # of two values, divided by 2 - 1
    assert any(
        fid_deviation(generated, real, np.random.default_rng(1), resamples=2) == pytest.approx(d)
        for d in differences
        if d
    )


def test_bootstrap_agrees_with_fresh_samples():
    """The deviation estimated from one set is that of sets drawn anew."""
    rng = np.random.default_rng(8)
    draw = lambda: (rng.normal(size=(200, 1)), rng.normal(1.0, 2.0, size=(200, 1)))  # noqa: E731
    fresh = np.std([fid(*draw()) for _ in range(300)])
    estimates = [fid_deviation(*draw(), rng, resamples=100) for _ in range(10)]
    assert np.mean(estimates) == pytest.approx(fresh, rel=0.15)


def test_halves_are_of_subjects():
    """Two halves are far apart when subjects are, whatever their number of sequences; equal subjects give nothing."""
    subjects = np.repeat(["a", "b", "c", "d"], 6)
    same = np.tile(features(6, 3, 9), (4, 1))
    assert fid_of_halves(same, subjects, np.random.default_rng(0)) == pytest.approx((0.0, 0.0), abs=1e-8)
    apart = same + 10 * (subjects == "a")[:, None] * np.array([1.0, 0, 0])
    mean, std = fid_of_halves(apart, subjects, np.random.default_rng(0))
    half = subjects <= "b"
    # "a" is always in one of them
    assert mean == pytest.approx(fid(apart[half], apart[~half])) and std == pytest.approx(0.0, abs=1e-8)
    random = fid_of_halves(features(24, 3, 10), subjects, np.random.default_rng(0))
    assert random == fid_of_halves(features(24, 3, 10), subjects, np.random.default_rng(0), draws=20)
    two = np.repeat(["a", "b"], 12)
    assert fid_of_halves(apart, two, np.random.default_rng(0))[0] == pytest.approx(fid(apart[:12], apart[12:]))
    with pytest.raises(ValueError, match="two subjects"):
        fid_of_halves(same, np.repeat("a", 24), np.random.default_rng(0))


def test_mean_and_deviation_over_the_draws_of_halves():
    """Three subjects: which one is alone decides, and its value is one of three."""
    subjects, found = np.repeat([0, 1, 2], 4), features(12, 2, 11)
    alone = [fid(found[subjects == one], found[subjects != one]) for one in range(3)]
    mean, std = fid_of_halves(found, subjects, np.random.default_rng(0), draws=3000)
    assert mean == pytest.approx(np.mean(alone), rel=0.05) and std == pytest.approx(np.std(alone), rel=0.05)
    single, none = fid_of_halves(found, subjects, np.random.default_rng(0), draws=1)
    assert single in alone and none == 0


def test_diversity_by_hand():
    assert diversity(np.array([[0.0, 0], [3, 4], [0, 0]])) == pytest.approx((5 + 0 + 5) / 3)
    with pytest.raises(ValueError, match="two sequences"):
        diversity(np.zeros((1, 2)))


def test_diversity_is_what_random_pairs_estimate():
    found = features(12, 4, 10)
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 12, (2, 40000))
    different = first != second
    assert diversity(found) == pytest.approx(
        np.linalg.norm(found[first] - found[second], axis=1)[different].mean(), rel=0.01
    )


def test_multimodality_by_hand():
    found = np.array([[0.0, 0], [100, 0], [3, 4], [100, 2], [7, 7], [100, 4]])
    labels = np.array([0, 1, 0, 1, 2, 1])  # 5; 2, 2 and 4; one alone does not count
    assert multimodality(found, labels) == pytest.approx((5 + 8 / 3) / 2)
    with pytest.raises(ValueError, match="none"):
        multimodality(found[:2], np.array([0, 1]))


def plain_precision_recall(generated: np.ndarray, real: np.ndarray, k: int) -> tuple[float, float]:
    """As the paper's equations 1 and 2 are printed, one pair after the other."""

    def region(points):
        radii = [sorted(np.linalg.norm(points - point, axis=1))[k] for point in points]  # the first is the point itself
        return lambda x: any(np.linalg.norm(x - point) <= radius + 1e-9 for point, radius in zip(points, radii))

    inside, covered = region(real), region(generated)
    return float(np.mean([inside(x) for x in generated])), float(np.mean([covered(x) for x in real]))


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0, 30.0])
def test_precision_and_recall_are_the_papers(shift):
    rng = np.random.default_rng(6)
    generated, real = rng.normal(size=(30, 3)) * 0.4 + shift * np.eye(3)[0], rng.normal(size=(40, 3))
    assert precision_recall(generated, real) == pytest.approx(plain_precision_recall(generated, real, 3))


def test_precision_and_recall_by_hand():
    real = np.array([[0.0], [1], [2], [10]])
    near = np.array([[0.5], [0.6]])  # inside; their own region is 0.4 to 0.7
    assert precision_recall(near, real, 1) == (1.0, 0.0)
    wild = np.array([[-100.0], [0.0], [100.0]])  # one inside; their region covers everything
    assert precision_recall(wild, real, 1) == pytest.approx((1 / 3, 1.0))
    assert precision_recall(real, real, 3) == (1.0, 1.0) == precision_recall(real, real, 99)
    with pytest.raises(ValueError, match="at least 2"):
        precision_recall(real[:1], real)


def test_within_labels_one_label_does_not_cover_another():
    real = np.array([[0.0], [1], [100], [101]])
    labels = np.array([0, 0, 1, 1])
    means = np.array([[0.5], [0.5], [100.5], [100.5]])
    assert precision_recall(means, real).recall == 1.0  # the third neighbour is of the other label
    assert precision_recall_by_label(means, labels, real, labels) == (1.0, 0.0)
    swapped = means[::-1]
    assert precision_recall_by_label(swapped, labels, real, labels) == (0.0, 0.0)
    assert precision_recall_by_label(means[::2], labels[::2], real, labels) is None


def test_distances_of_motion_are_millimetres():
    still = np.zeros((1, 5, 68, 3), np.float32)
    a, b = motion_vectors(np.concatenate([still, still + np.float32([0, 0.003, 0.004])]))
    assert np.linalg.norm(a - b) == pytest.approx(5.0, rel=1e-5)
