"""Time warps: known sequences to known sequences."""

import numpy as np
import torch

from face4d.datasets.augmentation import apex_frames, at_positions, move_apex, warped_targets


def ramp(apex: int, last: int) -> torch.Tensor:
    """(last + 1, 68, 3): straight up to the apex and straight down."""
    time = torch.arange(last + 1.0)
    return (
        torch.where(time < apex, time / apex, (last - time) / (last - apex))[:, None, None]
        .expand(-1, 68, 3)
        .contiguous()
    )


def test_apex_is_the_frame_of_the_largest_displacement_and_never_an_end():
    sequences = torch.stack([ramp(3, 10), ramp(8, 10), torch.arange(11.0)[:, None, None].expand(-1, 68, 3)])
    assert apex_frames(sequences).tolist() == [3, 8, 9]


def operator_of(source: float, target: float, frames: int) -> torch.Tensor:
    """(frames, frames), what moving the apex does to the unit sequences."""
    apexes = (torch.tensor([frame], dtype=torch.float64) for frame in (source, target))
    return move_apex(torch.eye(frames, dtype=torch.float64)[None], *apexes)[0]


def test_warp_moves_the_apex_and_keeps_the_ends():
    operator = operator_of(3.0, 6.0, 11).float()
    torch.testing.assert_close(torch.einsum("st,tld->sld", operator, ramp(3, 10)), ramp(6, 10))
    torch.testing.assert_close(operator[0], torch.eye(11)[0])
    torch.testing.assert_close(operator[-1], torch.eye(11)[-1])


def test_operators_interpolate_like_numpy_and_rows_sum_to_one():
    p, q = 4.3, 7.9
    operator = operator_of(p, q, 21)
    time = np.arange(21)
    source = np.where(time <= q, time * p / q, p + (time - q) * (20 - p) / (20 - q))
    values = np.random.default_rng(0).normal(size=21)
    np.testing.assert_allclose(operator.numpy() @ values, np.interp(source, time, values), atol=1e-12)
    np.testing.assert_allclose(operator.sum(1).numpy(), 1, atol=1e-12)


def test_warp_to_its_own_apex_is_the_identity():
    torch.testing.assert_close(operator_of(5.0, 5.0, 13), torch.eye(13, dtype=torch.float64))


def test_warped_targets_share_frame_zero_and_repeat_with_the_generator():
    batch = torch.stack([ramp(3, 10), ramp(7, 10)]) + 0.5
    apexes = apex_frames(batch)

    def draw(seed):
        return warped_targets(batch, apexes, torch.tensor([2.0, 5.0, 8.0]), 6, torch.Generator().manual_seed(seed))

    targets = draw(1)
    assert targets.shape == (6, 2, 11, 68, 3)
    torch.testing.assert_close(targets[:, :, 0], batch[:, 0].expand(6, -1, -1, -1))
    assert set(targets.flatten(3).norm(dim=3).argmax(2).flatten().tolist()) <= {2, 5, 8}
    torch.testing.assert_close(targets, draw(1))
    assert not torch.equal(targets, draw(2))


def test_positions_between_frames():
    sequences = torch.tensor([[0.0, 2, 6], [1.0, 1, 3]])[..., None]
    found = at_positions(sequences, torch.tensor([[0, 0.5, 2], [1.25, 2, 0]]))
    torch.testing.assert_close(found[..., 0], torch.tensor([[0, 1, 6], [1.5, 3, 1]]))
    two = ramp(1, 2)[None, :2]
    assert torch.equal(move_apex(two, torch.tensor([1.0]), torch.tensor([1.0])), two)  # both frames are ends
