"""Resampling in time: the whole duration by default, the thesis' method with its defects on request."""

import numpy as np
import pytest

from face4d.resample import (
    METHODS,
    apply_plan,
    compose,
    fill_plan,
    linear_plan,
    resample_cubic,
    resample_linear,
    resample_thesis,
    stream,
    thesis_plan,
)


@pytest.mark.parametrize("length", [1, 2, 5, 25, 40, 41, 42, 80, 116, 500])
@pytest.mark.parametrize("frames", [1, 2, 41, 61])
def test_linear_covers_the_whole_duration(length, frames):
    motion = np.linspace(3.0, 7.0, length)
    result = resample_linear(motion, frames)
    assert result.shape == (frames,) and result[0] == motion[0]
    if frames > 1:
        assert result[-1] == motion[-1]
        np.testing.assert_allclose(result, np.linspace(motion[0], motion[-1], frames), atol=1e-12)


def test_linear_matches_interp_and_keeps_float32():
    sequence = np.random.default_rng(0).standard_normal((29, 68, 3)).astype(np.float32)
    result = resample_linear(sequence, 41)
    expected = np.stack(
        [np.interp(np.linspace(0, 28, 41), np.arange(29), column) for column in sequence.reshape(29, -1).T], axis=1
    )
    assert result.dtype == np.float32 and result.shape == (41, 68, 3)
    np.testing.assert_allclose(result.reshape(41, -1), expected, atol=1e-6)
    np.testing.assert_array_equal(resample_linear(sequence, 29), sequence)
    np.testing.assert_array_equal(resample_linear(np.arange(3), 5), [0, 0.5, 1, 1.5, 2])


def test_linear_does_not_drop_the_tail_where_the_thesis_does():
    """80 frames: the thesis method sees frames 0..41 only, so a return to neutral at the end is lost."""
    rise_and_return = np.concatenate([np.linspace(0, 1, 40), np.linspace(1, 0, 40)])
    assert resample_linear(rise_and_return, 41)[-1] == 0
    assert resample_linear(rise_and_return, 41).max() > 0.97
    assert resample_thesis(rise_and_return, 41)[-1] > 0.9
    plan = thesis_plan(80, 41)
    assert plan.indices[plan.weights > 0].max() == 41


@pytest.mark.parametrize("length", [41, 60, 81, 82, 116, 123, 200])
def test_thesis_formula_for_long_sequences(length):
    sequence = np.random.default_rng(length).standard_normal((length, 4))
    step = length // 41
    expected = [(sequence[k * step] + sequence[min((k + 1) * step, length - 1)]) / 2 for k in range(41)]
    np.testing.assert_allclose(resample_thesis(sequence, 41), expected, atol=1e-12)


@pytest.mark.parametrize("length", [9, 10, 25, 40])
def test_thesis_formula_for_short_sequences(length):
    sequence = np.random.default_rng(length).standard_normal((length, 4))
    filled = [sequence[i] + (sequence[i + 1] - sequence[i]) * j / 5 for i in range(length - 1) for j in range(5)] + [
        sequence[-1]
    ]
    step = len(filled) // 41
    expected = [(filled[k * step] + filled[min((k + 1) * step, len(filled) - 1)]) / 2 for k in range(41)]
    np.testing.assert_allclose(resample_thesis(sequence, 41), expected, atol=1e-12)


@pytest.mark.parametrize("frames", [2, 6, 7, 40, 41, 42, 46, 61])
def test_the_thesis_method_says_how_many_frames_it_needs(frames):
    """Four more frames in each interval have to make as many as are wanted."""
    shortest = next(length for length in range(1, 100) if 5 * (length - 1) + 1 >= frames)
    assert len(resample_thesis(np.arange(float(shortest)), frames)) == frames
    with pytest.raises(ValueError, match=f"expected {shortest} frames or more .* found {shortest - 1}"):
        resample_thesis(np.arange(float(shortest - 1)), frames)


def test_plans_name_only_frames_that_are_there():
    for length in range(1, 8):
        for frames in range(1, 12):
            plan = linear_plan(length, frames)
            assert plan.indices.min() == 0 and plan.indices.max() <= length - 1
            sequence = np.random.default_rng(length).normal(size=(length, 2))
            np.testing.assert_allclose(apply_plan(sequence, plan), resample_linear(sequence, frames), atol=1e-12)
    assert thesis_plan(1, 1).indices.max() == 0


def test_errors():
    with pytest.raises(ValueError, match="expected 9 frames or more .* found 8"):
        resample_thesis(np.zeros((8, 3)), 41)
    for method in METHODS.values():
        with pytest.raises(ValueError, match="one frame or more"):
            method(0, 41)
        with pytest.raises(ValueError, match="one frame or more"):
            method(41, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("length", [20, 41, 90])
def test_stream_reads_everything_and_holds_two_frames(method, length):
    read = []

    def source():
        for index in range(length):
            read.append(index)
            yield np.full(3, float(index))

    frames = list(stream(source(), METHODS[method](length, 41)))
    assert read == list(range(length)) and len(frames) == 41
    apply = {"linear": resample_linear, "thesis": resample_thesis}[method]
    np.testing.assert_allclose(np.array(frames)[:, 0], apply(np.arange(float(length)), 41), atol=1e-12)


def test_results_do_not_share_memory_with_the_input():
    sequence = np.ones((41, 3))
    resample_linear(sequence, 41)[:] = 0
    for frame in stream(sequence, linear_plan(41, 41)):
        frame[:] = 0
    assert (sequence == 1).all()


def test_holes_in_the_numbers_are_filled_in_time():
    numbers = [3, 4, 7, 8]
    frames = np.array([0.0, 1.0, 4.0, 0.0])
    np.testing.assert_allclose(apply_plan(frames, fill_plan(numbers)), [0, 1, 2, 3, 4, 0])
    assert fill_plan([5]).indices.tolist() == [[0, 0]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("frames", [2, 7, 11, 23])
def test_plans_composed_do_both_at_once(method, frames):
    """Whether a sequence is filled first, or resampled with its numbers as the time, it comes out the same; also when
    it is streamed."""
    rng = np.random.default_rng(5)
    numbers = np.sort(rng.permutation(40)[:29])
    sequence = rng.normal(size=(29, 4))
    filled = apply_plan(sequence, fill_plan(numbers))
    plan = METHODS[method](len(filled), frames)
    both = compose(plan, fill_plan(numbers))
    np.testing.assert_allclose(both.weights.sum(axis=1), 1)
    assert (np.diff(both.indices, axis=0) >= 0).all()
    np.testing.assert_allclose(apply_plan(sequence, both), apply_plan(filled, plan), atol=1e-12)
    np.testing.assert_allclose(list(stream(iter(sequence), both)), apply_plan(filled, plan), atol=1e-12)


def test_cubic_passes_all_frames_and_is_smooth_between():
    frames = np.arange(21.0)[:, None, None]
    motion = np.sin(0.3 * frames) * np.ones((68, 3))
    fine = resample_cubic(motion, 201)
    np.testing.assert_allclose(fine[::10], motion, atol=1e-12)
    np.testing.assert_allclose(fine, np.sin(0.3 * np.linspace(0, 20, 201))[:, None, None] * np.ones((68, 3)), atol=1e-3)
    jumps = [np.abs(np.diff(made[:, 0, 0], 3)).max() for made in (fine, resample_linear(motion, 201))]
    assert jumps[0] < 0.02 * jumps[1]
    np.testing.assert_allclose(resample_cubic(np.arange(4.0) ** 3, 7), np.arange(0, 3.5, 0.5) ** 3, atol=1e-12)
    for length, wanted in ((1, 3), (2, 5), (3, 1), (3, 3)):
        found = resample_cubic(motion[:length].astype(np.float32), wanted)
        assert found.shape == (wanted, 68, 3) and found.dtype == np.float32
        np.testing.assert_allclose(found[[0, -1]], motion[[0, length - 1 if wanted > 1 else 0]], atol=1e-6)
    assert resample_cubic(np.array([0, 1, 4]), 5).tolist() == pytest.approx([0, 0.25, 1, 2.25, 4])
    with pytest.raises(ValueError, match="found 0 in"):
        resample_cubic(motion[:0], 3)
