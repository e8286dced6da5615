"""Square-root velocities: the published vectors, exact round trips, and the sphere."""

import math

import numpy as np
import pytest
import torch

from face4d import srvf

SAMPLES = ("s0", "s1")


def curve(array):
    """(D, T) as stored to (T, D) float64."""
    return torch.from_numpy(np.asarray(array, np.float64)).T


def close(tensor, stored, columns=slice(None)):
    np.testing.assert_allclose(tensor.T.numpy()[:, columns], stored, rtol=0, atol=1e-9)


@pytest.fixture
def vectors(reference):
    return reference("c07_srvf")


@pytest.fixture
def neutral(reference):
    return srvf.normalise_landmarks(torch.from_numpy(reference("c04_landmarks")["all12_landmarks"][0]))  # (68, 3)


def frames_of(vectors, neutral, sample):
    """(30, 68, 3) normalised landmarks of a published sample with intensity 0.2."""
    moved = srvf.published_srvf_to_curve(curve(vectors[f"{sample}_q"]))
    return neutral + 0.2 * moved.unflatten(1, (68, 3))


@pytest.mark.parametrize("sample", SAMPLES)
def test_published_curves_and_back(vectors, neutral, sample):
    close(srvf.published_srvf_to_curve(curve(vectors[f"{sample}_q"])), vectors[f"{sample}_curve_float64"], [1, 14, 29])
    landmarks = frames_of(vectors, neutral, sample)
    np.testing.assert_allclose(
        landmarks[[0, 9, 19, 29]].numpy(), vectors[f"{sample}_landmarks_intensity02"], rtol=0, atol=1e-8
    )
    normalised = srvf.normalise_landmarks(frames_with_stored_curve(vectors, neutral, sample))
    np.testing.assert_allclose(normalised[[0, 14, 29]].numpy(), vectors[f"{sample}_norm_frames"], rtol=0, atol=1e-9)
    path = srvf.separate_repeats(normalised.flatten(1))
    np.testing.assert_allclose(srvf.arc_length(path).numpy(), vectors[f"{sample}_cumlen"], rtol=0, atol=1e-9)
    resampled = srvf.resample_by_arc_length(path, 30)
    close(resampled, vectors[f"{sample}_resampled_cols"], [0, 1, 14, 29])
    q, length = srvf.published_curve_to_srvf(resampled)
    close(q, vectors[f"{sample}_q2"], [0, 1, 14, 28, 29])
    assert length.item() == pytest.approx({"s0": 0.18016247834980437, "s1": 0.1430769894728537}[sample], abs=1e-9)
    assert srvf.inner(q, q).item() == pytest.approx(1, abs=1e-12)
    close(srvf.published_srvf_to_curve(q), vectors[f"{sample}_curve2_cols"], [1, 14, 29])


def frames_with_stored_curve(vectors, neutral, sample):
    """(30, 68, 3) from the stored curve, whose speeds were taken in float32."""
    return neutral + 0.2 * curve(vectors[f"{sample}_curve"]).unflatten(1, (68, 3))


def published_points(vectors, neutral):
    """The two samples as points of the sphere."""
    for sample in SAMPLES:
        path = srvf.normalise_landmarks(frames_with_stored_curve(vectors, neutral, sample)).flatten(1)
        yield srvf.published_curve_to_srvf(srvf.resample_by_arc_length(srvf.separate_repeats(path), 30))[0]


def test_published_log_exp_and_flow(vectors, neutral):
    first, second = published_points(vectors, neutral)
    for clip in (None, 0.98):
        tangent = srvf.log_map(first, second, clip)
        close(tangent, vectors["log_cols"], [0, 14, 29])
    assert srvf.norm(tangent).item() == pytest.approx(1.5389523515441168, abs=1e-12)
    close(srvf.exp_map(first, 0.3 * srvf.to_sphere(tangent)), vectors["exp_cols"], [0, 14, 29])
    close(srvf.exp_map(first, tangent, step=0.5), vectors["half_cols"], [0, 14, 29])
    near = srvf.exp_map(first, 0.1 * srvf.to_sphere(tangent))
    assert srvf.geodesic_distance(first, near).item() == pytest.approx(0.1, abs=1e-12)
    assert srvf.geodesic_distance(first, near, 0.98).item() == pytest.approx(0.20033484232311968, abs=1e-12)
    assert srvf.norm(srvf.log_map(first, near, 0.98)).item() == pytest.approx(0.20033484232311968, abs=1e-12)


def test_published_treatment_of_a_sequence_of_41_frames(vectors, reference):
    batch, face = reference("c02_training")["batch1"][0], reference("c04_landmarks")["all12_landmarks"][0]
    landmarks = torch.from_numpy(batch.astype(np.float64) + face)
    path = srvf.separate_repeats(srvf.normalise_landmarks(landmarks).flatten(1))
    np.testing.assert_allclose(srvf.arc_length(path).numpy(), vectors["t41_cumlen"], rtol=0, atol=1e-9)
    resampled = srvf.resample_by_arc_length(path, 30)
    close(resampled, vectors["t41_resampled_cols"], [0, 1, 14, 29])
    close(srvf.published_curve_to_srvf(resampled)[0], vectors["t41_q_cols"], [0, 14, 29])


def test_published_repeats_and_standing_still(vectors):
    path = srvf.separate_repeats(curve(vectors["rep_in"]))
    np.testing.assert_allclose(srvf.arc_length(path).numpy(), vectors["rep_cumlen"], rtol=0, atol=1e-9)
    resampled = srvf.resample_by_arc_length(path, 6)
    close(resampled, vectors["rep_out"])
    q, length = srvf.published_curve_to_srvf(resampled)
    close(q, vectors["rep_q"])
    assert length.item() == pytest.approx(9.996983405317119, abs=1e-9)
    q, length = srvf.published_curve_to_srvf(curve(vectors["zero_in"]))
    close(q, vectors["zero_q"])
    assert length.item() == pytest.approx(2.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_way_back_is_exact(dtype):
    path = torch.randn(4, 31, 12, dtype=dtype, generator=torch.Generator().manual_seed(0)).cumsum(1)
    path[0, 5:9] = path[0, 5:6]  # stands still for a while
    path[1] = path[1, :1]  # and for ever
    q, length = srvf.curve_to_srvf(path)
    back = path[:, :1] + srvf.srvf_to_curve(q, length)
    torch.testing.assert_close(back, path, rtol=0, atol=2e-14 if dtype == torch.float64 else 1e-5)
    torch.testing.assert_close(srvf.inner(q, q), torch.tensor([1, 0, 1, 1], dtype=dtype))
    torch.testing.assert_close(length, path.diff(dim=1).norm(dim=2).sum(1))


def test_arc_length_resampling_of_frames_that_repeat():
    path = torch.tensor([[0.0, 0], [0, 0], [3, 4], [3, 4], [3, 9], [3, 9]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 0], [1.5, 2], [3, 4], [3, 6.5], [3, 9]], dtype=torch.float64)
    torch.testing.assert_close(srvf.resample_by_arc_length(path, 5), expected)
    still = torch.ones(4, 2, dtype=torch.float64)
    torch.testing.assert_close(srvf.resample_by_arc_length(still, 3), still[:3])


def test_maps_are_inverse_and_the_mean_is_one():
    points = srvf.to_sphere(
        1 + 0.5 * torch.randn(20, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )
    mean = srvf.mean_on_sphere(points)
    tangents = srvf.log_map(mean, points)
    torch.testing.assert_close(tangents.mean(0), torch.zeros(6, 9, dtype=torch.float64), rtol=0, atol=1e-7)
    torch.testing.assert_close(srvf.inner(tangents, mean), torch.zeros(20, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(srvf.exp_map(mean, tangents), points)
    torch.testing.assert_close(srvf.norm(tangents), srvf.geodesic_distance(mean, points))
    with pytest.raises(ValueError, match="mean direction"):
        srvf.mean_on_sphere(torch.cat([points, -points]))


def test_gradients_stay_finite_where_points_meet():
    base = srvf.to_sphere(torch.ones(5, 3, dtype=torch.float64))
    for point in (base, -base):
        q = point.clone().requires_grad_()
        (
            srvf.geodesic_distance(base, q)
            + srvf.log_map(base, q).sum()
            + srvf.exp_map(base, srvf.log_map(base, q)).sum()
        ).backward()
        assert q.grad.isfinite().all()
    apart = srvf.to_sphere(torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    arguments = (base, apart.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda b, q: srvf.geodesic_distance(b, srvf.to_sphere(q)), arguments)
    assert torch.autograd.gradcheck(lambda b, q: srvf.log_map(b, srvf.to_sphere(q)), arguments)


def test_clipped_distances_are_the_published_ones():
    """acos of the product cut to -0.98..0.98: no distance below 0.2003, none above pi less that."""
    a, b = srvf.to_sphere(torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    least = math.acos(0.98)
    for other, expected in ((a, least), (-a, math.pi - least), (b, math.acos(srvf.inner(a, b).item()))):
        assert srvf.geodesic_distance(a, other, 0.98).item() == pytest.approx(expected, abs=1e-12)


def test_published_curves_of_several_at_once():
    curves = torch.randn(3, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).cumsum(1)
    together, lengths = srvf.published_curve_to_srvf(curves)
    alone = [srvf.published_curve_to_srvf(curve) for curve in curves]
    torch.testing.assert_close(together, torch.stack([q for q, _ in alone]))
    torch.testing.assert_close(lengths, torch.stack([length for _, length in alone]))
    back = torch.stack([srvf.published_srvf_to_curve(q) for q in together])
    torch.testing.assert_close(srvf.published_srvf_to_curve(together), back)
