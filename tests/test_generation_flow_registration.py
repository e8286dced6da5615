"""Shapes and timings: there and back, by hand, without jumps."""

import pytest
import torch

from face4d.generation.flow.registration import (
    CANONICAL_FRAMES,
    EDGES,
    SEGMENTS,
    at,
    canonical_position,
    join,
    to_canonical,
)


def expression(times, frames):
    """(B, frames, 1) smoothsteps from onset to apex and from release to offset, (B, 4) shares of the duration."""
    time = torch.linspace(0, 1, frames)[None]
    onset, apex, release, offset = (column[:, None] for column in times.unbind(1))
    rise, fall = ((time - onset) / (apex - onset)).clamp(0, 1), ((time - release) / (offset - release)).clamp(0, 1)
    return (rise**2 * (3 - 2 * rise) * (1 - fall**2 * (3 - 2 * fall)))[..., None]


TIMES = torch.tensor([[0.0, 0.3, 0.3, 1.0], [0.1, 0.25, 0.6, 0.9], [0.05, 0.7, 0.75, 1.0], [0.0, 0.5, 0.5, 0.5001]])


def test_edges_are_where_the_segments_end():
    assert torch.tensor((0, *SEGMENTS)).cumsum(0).tolist() == list(EDGES) and EDGES[-1] + 1 == CANONICAL_FRAMES


def test_expressions_of_any_timing_have_one_shape():
    shapes = to_canonical(expression(TIMES[:3], 401), TIMES[:3])
    assert shapes.shape == (3, CANONICAL_FRAMES, 1)
    rise = torch.linspace(0, 1, SEGMENTS[1] + 1)
    expected = torch.cat([torch.zeros(3), rise**2 * (3 - 2 * rise), torch.ones(15), (rise**2 * (3 - 2 * rise)).flip(0)])
    for shape in shapes:
        torch.testing.assert_close(shape[:-3, 0], expected, rtol=0, atol=2e-3)


def test_back_in_time_they_are_what_they_were():
    curves = torch.cat([expression(TIMES[:3], 61), expression(TIMES[:3].flip(0), 61)], dim=2)
    shapes = to_canonical(curves[..., :1], TIMES[:3])
    again = at(shapes, canonical_position(TIMES[:3], 61))
    torch.testing.assert_close(again, curves[..., :1], rtol=0, atol=0.02)
    other = at(shapes, canonical_position(TIMES[:3].roll(1, 0), 81))
    torch.testing.assert_close(other, expression(TIMES[:3].roll(1, 0), 81), rtol=0, atol=0.02)


def test_positions_by_hand():
    position = canonical_position(torch.tensor([[0.25, 0.5, 0.5, 1.0]]), 5)[0]
    assert position.tolist() == [0, EDGES[1], EDGES[2], (EDGES[3] + EDGES[4]) / 2, EDGES[4]]
    for times in TIMES:
        assert (canonical_position(times[None], 200).diff() >= 0).all()


def test_a_shape_with_a_long_hold_has_no_jump_in_a_short_one():
    """The face moves on in its hold; given no time for that, it does not leap."""
    shapes = torch.zeros(2, CANONICAL_FRAMES, 1)
    shapes[:, EDGES[1] : EDGES[2] + 1, 0] = torch.linspace(0, 1, SEGMENTS[1] + 1)
    shapes[:, EDGES[2] : EDGES[3] + 1, 0] = torch.linspace(1, 2, SEGMENTS[2] + 1)
    shapes[:, EDGES[3] : EDGES[4] + 1, 0] = torch.linspace(2, 0, SEGMENTS[3] + 1)
    times = torch.tensor([[0.1, 0.5, 0.5, 0.9], [0.1, 0.3, 0.7, 0.9]])
    joined = join(shapes, times)
    assert joined[0, EDGES[2]].item() == joined[0, EDGES[3]].item() == pytest.approx(1.5)
    torch.testing.assert_close(joined[1], shapes[1])
    leap, smooth = (at(x, canonical_position(times, 201))[0].diff(dim=0).abs().max().item() for x in (shapes, joined))
    assert leap > 0.9 and smooth < 0.05


def test_what_begins_at_once_begins_neutral():
    shapes = torch.ones(1, CANONICAL_FRAMES, 1)
    shapes[:, 0] = 0
    joined = join(shapes, torch.tensor([[0.0, 0.4, 0.6, 0.9]]))
    assert joined[0, EDGES[1], 0] == 0 and joined[0, EDGES[2], 0] == 1


def test_a_motion_that_does_not_come_back_ends_at_its_apex():
    times = torch.tensor([[0.0, 1.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0]])
    position = canonical_position(times, 11)
    assert position[0, -1] == EDGES[2] and position[1, 5] == EDGES[2] and position[1, -1] == EDGES[4]
