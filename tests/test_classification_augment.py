import torch

from face4d.classification.augment import time_warp, vary


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
