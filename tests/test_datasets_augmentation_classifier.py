import pytest
import torch

from face4d.datasets.augmentation import time_warp, vary


def ramp(frames: int) -> torch.Tensor:
    """(1, T, 1, 1): the time itself, 0..1."""
    return torch.linspace(0, 1, frames)[None, :, None, None]


def test_time_warp_moves_the_source_to_the_target_and_keeps_the_ends():
    warped = time_warp(ramp(11), torch.tensor([0.2]), torch.tensor([0.5])).flatten()
    torch.testing.assert_close(warped[[0, 5, 10]], torch.tensor([0.0, 0.2, 1.0]))
    assert (warped.diff() > 0).all()


def test_equal_pivots_change_nothing():
    sequences = torch.randn(3, 9, 68, 3, generator=torch.Generator().manual_seed(0))
    pivots = torch.tensor([0.3, 0.5, 0.7])
    torch.testing.assert_close(time_warp(sequences, pivots, pivots), sequences)


def test_variants_stay_within_their_label():
    # Label c moves only along coordinate c, so a mixture over labels would show in the others.
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    sequences = torch.zeros(6, 9, 68, 3)
    for number, label in enumerate(labels):
        sequences[number, :, :, label] = 0.1 * (number + 1) * torch.linspace(0, 1, 9)[:, None]
    varied = vary(sequences, labels, torch.arange(6), torch.Generator().manual_seed(0))
    for number, label in enumerate(labels):
        others = [axis for axis in range(3) if axis != label]
        assert varied[number, -1, :, label].mean() > 0.04
        assert varied[number, :, :, others].abs().max() < 2e-3  # the constant shift only


def test_variants_depend_on_the_generator_alone():
    sequences, labels = torch.randn(4, 9, 68, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 1])
    chosen = torch.tensor([3, 1])
    state = torch.get_rng_state()
    first = vary(sequences, labels, chosen, torch.Generator().manual_seed(5))
    torch.rand(3)
    torch.testing.assert_close(first, vary(sequences, labels, chosen, torch.Generator().manual_seed(5)), rtol=0, atol=0)
    torch.set_rng_state(state)
    assert not torch.equal(first, vary(sequences, labels, chosen, torch.Generator().manual_seed(6)))
    assert torch.equal(torch.get_rng_state(), state)


def test_variants_are_scaled_by_half_to_one_and_a_half_and_shifted_by_a_third_of_a_millimetre():
    still = torch.ones(1, 5, 68, 3)  # neither mixing nor warping changes it
    varied = vary(still, torch.zeros(1), torch.zeros(4000, dtype=torch.long), torch.Generator().manual_seed(0))
    scale = varied.mean((1, 2, 3))  # the shifts' mean over 204 coordinates is 2e-5
    assert scale.min() == pytest.approx(0.5, abs=2e-3) and scale.max() == pytest.approx(1.5, abs=2e-3)
    assert scale.mean() == pytest.approx(1, abs=0.02) and scale.std() == pytest.approx(12**-0.5, abs=0.01)  # uniform
    shift = varied - scale[:, None, None, None]
    assert shift.std() == pytest.approx(3e-4, rel=0.02)
    torch.testing.assert_close(shift, shift[:, :1].expand(-1, 5, -1, -1), rtol=0, atol=1e-6)  # constant over the frames


def test_half_of_the_variants_are_mixed_with_another_sequence_of_the_label_in_any_share():
    sequences = torch.zeros(3, 5, 68, 3)  # constant in time, each along its own coordinate; the third of another label
    for number in range(3):
        sequences[number, :, :, number] = 1
    labels, chosen = torch.tensor([7, 7, 8]), torch.zeros(4000, dtype=torch.long)
    varied = vary(sequences, labels, chosen, torch.Generator().manual_seed(0))
    own, other, foreign = varied.mean((1, 2)).unbind(-1)
    assert foreign.abs().max() < 3e-4
    share = other / (own + other)
    mixed = share > 1e-3
    assert mixed.float().mean() == pytest.approx(1 / 4, abs=0.03)  # half of the partners are the sequence itself
    assert share[mixed].mean() == pytest.approx(0.5, abs=0.03)
    assert share[mixed].std() == pytest.approx(12**-0.5, abs=0.02)  # uniform


def test_variants_are_warped_at_a_pivot_between_a_quarter_and_three_quarters_and_half_of_them_smoothed():
    frames = 401
    sequence = torch.linspace(0, 1, frames)[None, :, None, None].expand(1, frames, 1, 3)
    chosen = torch.zeros(300, dtype=torch.long)
    varied = vary(sequence, torch.zeros(1), chosen, torch.Generator().manual_seed(0)).mean((2, 3))
    bend = varied.diff(n=2).abs() * frames  # a warped ramp is straight but for the pivot; the mean of two has two bends
    bends = [torch.nonzero(row > 0.02)[:, 0].tolist() for row in bend]
    # A bend between two frames shows at both: the first counts.
    apart = [[place for place, before in zip(row, [-9, *row]) if place - before > 1] for row in bends]
    places = torch.tensor([place for row in apart for place in row]) / (frames - 1)
    assert places.min() == pytest.approx(0.25, abs=0.01) and places.max() == pytest.approx(0.75, abs=0.01)
    assert sum(len(row) > 1 for row in apart) / len(apart) == pytest.approx(1 / 2, abs=0.1)
    assert max(map(len, apart)) == 2
