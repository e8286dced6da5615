"""Filling in: the posterior by hand, what is given is kept, without jumps and without leaving the label."""

import numpy as np
import pytest
import torch

from face4d.constants import LANDMARK_GROUPS
from face4d.controls import GivenControls, find_controls, label_directions
from face4d.datasets.landmark_set import load_split, tensors
from face4d.errors import InputError
from face4d.generation.flow.fill import (
    FARTHEST,
    NOISE,
    conditioned,
    fill,
    normal_equations,
    observe,
    remainder,
    sample_without_return,
    shapes_of_coordinates,
)
from face4d.generation.flow.networks import CONTROLS, MotionFlow, times_of
from face4d.generation.flow.registration import time_operators
from tests.test_generation_flow import config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model_and_motions(tmp_path_factory):
    """A flow that knows its labels' motions, untrained: of the timing it knows the spread. Motions of test subjects."""
    from tests.conftest import write_landmarks

    folder = write_landmarks(
        tmp_path_factory.mktemp("fill") / "landmarks", ("Happy", "Rage"), [f"CH0{n}" for n in range(1, 8)], 25
    )
    split = load_split(folder, test_subjects=("CH01", "CH02"))
    torch.manual_seed(0)
    model = MotionFlow(config(components=4, sampling_steps=4), 2)
    model.fit(*tensors(split.train, split.labels, CPU))
    return model, *tensors(split.test, split.labels, CPU)


def masked(frames=None, groups=None):
    mask = torch.zeros(25, 68, dtype=torch.bool)
    rows = range(25) if frames is None else frames
    for group in groups or LANDMARK_GROUPS:
        mask[rows, LANDMARK_GROUPS[group]] = True
    return mask


@pytest.mark.parametrize(
    "mask", [masked([0, 8, 16, 24]), masked(groups=["mouth"]), masked([0, 5, 12], ["jaw", "eyes"])]
)
def test_the_rest_follows_from_what_is_given(model_and_motions, mask):
    """The timing of a test sequence is found, and with it all that was not given."""
    model, real, labels = model_and_motions
    seen = torch.where(mask[..., None], real, torch.nan)
    seen[:, 0] = real[:, 0]
    filled = fill(model, seen, mask, labels, torch.Generator().manual_seed(0)).motions
    assert torch.equal(filled[:, mask], real[:, mask])
    error, largest = (filled - real).norm(dim=3)[:, ~mask], real.norm(dim=3).max()
    assert error.mean() < 0.02 * largest and error.max() < 0.15 * largest
    jumps, real_jumps = ((x[:, 1:] - x[:, :-1]).norm(dim=3).max() for x in (filled, real))
    assert jumps < 1.3 * real_jumps


def test_answers_to_little_differ_and_follow_from_the_seed(model_and_motions, caplog):
    model, real, labels = model_and_motions
    ends = masked([0, 24])
    first, again, other = (
        fill(model, real, ends, labels, torch.Generator().manual_seed(seed)).motions for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and (first - other).norm(dim=3).mean() > 1e-4
    early, late = (
        fill(model, real, ends, labels, torch.Generator().manual_seed(0), GivenControls(apex=apex)).motions
        for apex in (5, 19)
    )
    assert "note" not in caplog.text, "of the candidates nothing is told"
    for made, apex in ((early, 5), (late, 19)):
        found = find_controls(made.numpy(), label_directions(real.numpy(), labels.numpy(), 2)[labels.numpy()])
        assert found.apex == pytest.approx(apex, abs=1)


def test_what_no_motion_of_the_label_does_is_kept_without_following_it(model_and_motions):
    """A key frame of the other label, ten times as strong: kept; the coordinates stay those of the label."""
    model, real, labels = model_and_motions
    strange, key = 10 * real.flip(0), masked([0, 12])
    filled = fill(model, strange, key, labels, torch.Generator().manual_seed(0)).motions
    assert torch.equal(filled[:, 12], strange[:, 12])
    assert filled[:, -1].abs().max() < 0.3 * strange[:, 12].abs().max(), "after it the face returns"


def test_conditioning_by_hand():
    """Of a draw of the prior it makes a draw of the posterior: mean and covariance of both are those of Bayes' rule."""
    random = torch.Generator().manual_seed(0)
    design = torch.randn(3, 5, generator=random).double() * 1e-2
    mean, root = torch.randn(5, generator=random).double(), torch.randn(5, 5, generator=random).double()
    covariance = root @ root.T + torch.eye(5)
    y = design @ mean + 0.003 * torch.randn(3, generator=random).double()
    gain = covariance @ design.T @ torch.linalg.inv(design @ covariance @ design.T + NOISE**2 * torch.eye(3))
    x = mean + torch.linalg.cholesky(covariance) @ torch.ones(5).double()
    product, pulled = design.T @ design, design.T @ (y - design @ x)
    found = conditioned(x, product, pulled, mean, covariance, NOISE)
    torch.testing.assert_close(found, x + gain @ (y - design @ x))
    far = conditioned(x, product, 30 * pulled, mean, covariance, NOISE)
    assert (far - mean) @ torch.linalg.inv(covariance) @ (far - mean) <= FARTHEST**2 * 5


def design_by_hand(shapes, times, mask):
    """A (O, D - 4) and offset (O,) of one timing."""
    curves = (time_operators(times[None], len(mask))[0] @ shapes).unflatten(2, (-1, 3))[:, mask].flatten(1).double()
    return curves[1:].T, curves[0]


@pytest.mark.parametrize("frames", [25, 300])
def test_normal_equations_by_hand(model_and_motions, frames):
    """Also of more frames than there are canonical ones, and of landmarks given in different frames."""
    model, _, labels = model_and_motions
    random = torch.Generator().manual_seed(0)
    given, mask = torch.randn(frames, 68, 3, generator=random), torch.rand(frames, 68, generator=random) < 0.9
    mask[:, 30:] = True
    shapes, times = shapes_of_coordinates(model, labels[0]), torch.tensor([0.1, 0.4, 0.6, 0.9])
    design, offset = design_by_hand(shapes, times, mask)
    design, y = torch.cat([offset[:, None], design], dim=1), given[mask].flatten().double()
    found = normal_equations(shapes, times, given, mask)
    torch.testing.assert_close(found.product, design.T @ design, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(found.pulled, design.T @ y, rtol=1e-4, atol=1e-5)
    assert found.squared.item() == pytest.approx((y @ y).item())


def test_evidence_is_the_normal_density_of_what_is_given(model_and_motions):
    model, real, labels = model_and_motions
    mask, times = masked([4, 9], ["nose"]), torch.tensor([[0.0, 0.4, 0.4, 1.0], [0.1, 0.5, 0.6, 0.9]])
    mean, covariance = torch.zeros(5).double(), torch.diag(torch.arange(1.0, 6)).double()
    shapes, noise = shapes_of_coordinates(model, labels[0]), 1e-3
    found = observe(shapes, times, real[0], mask, mean, covariance, noise)
    y = real[0][mask].flatten().double()
    for number in range(2):
        design, offset = design_by_hand(shapes, times[number], mask)
        density = torch.distributions.MultivariateNormal(
            offset + design @ mean, design @ covariance @ design.T + noise**2 * torch.eye(len(y))
        ).log_prob(y)
        constant = -len(y) / 2 * np.log(2 * np.pi * noise**2) - covariance.logdet() / 2
        assert (found.log_evidence[number] + constant).item() == pytest.approx(density.item(), rel=1e-4)


def test_what_is_seen_is_what_the_model_makes(model_and_motions):
    model, _, labels = model_and_motions
    coordinates = torch.randn(3, CONTROLS + 4, generator=torch.Generator().manual_seed(1))
    controls = model.controls_of(coordinates, 24)
    made = model.motion(coordinates, labels[:1].expand(3), controls, 24)
    times, mask = times_of(controls, 24), masked([3, 24], ["mouth"])
    shapes = shapes_of_coordinates(model, labels[0])
    for number in range(3):
        design, offset = design_by_hand(shapes, times[number], mask)
        seen = offset + design @ coordinates[number, 4:].double()
        torch.testing.assert_close(seen.float(), made[number, mask].flatten(), rtol=0, atol=1e-6)
    assert time_operators(times, 25)[:, 0].abs().max() == 0


def test_remainders_are_linear_between_frames_given_and_fade():
    error, mask = torch.zeros(25, 2, 3), torch.zeros(25, 2, dtype=torch.bool)
    mask[[8, 12], 0] = True
    error[8, 0], error[12, 0], error[20] = 1.0, 3.0, 100.0
    added = remainder(error, mask)[..., 0]
    assert added[8:13, 0].tolist() == [1, 1.5, 2, 2.5, 3] and (added[:, 1] == 0).all()
    assert added[[4, 6, 14, 16, 20], 0].tolist() == [0, 0.5, 1.5, 0, 0]


def test_drawing_without_return():
    logarithms = torch.tensor([0.5, 0.25, 0.25]).log()
    random = torch.Generator().manual_seed(0)
    counts = torch.bincount(torch.cat([sample_without_return(logarithms, 1, random) for _ in range(2000)]), minlength=3)
    assert counts.tolist() == pytest.approx([1000, 500, 500], abs=80)
    assert sorted(sample_without_return(logarithms, 5, random).tolist()) == [0, 1, 2]
    assert sample_without_return(torch.tensor([-1e9, 0.0, -1e8]), 1, random).item() == 1


def test_generators_of_other_kinds_do_not_fill_in(landmark_folder, tmp_path):
    from face4d.generation.config import PRESETS
    from face4d.generation.lstm import build_network
    from face4d.generation.sample import Generator

    network = build_network(PRESETS["default"], 2)
    generator = Generator(tmp_path / "x.pt", network, ("a", "b"), 13, 68, {}, {})
    with pytest.raises(InputError, match="a generator that fills in"):
        generator.fill(np.zeros((1, 13, 68, 3)), np.ones((13, 68)), np.zeros(1))
    with pytest.raises(InputError, match="a generator with guidance"):
        generator.generate(np.zeros((1, 68, 3)), np.zeros(1), guidance=2)
