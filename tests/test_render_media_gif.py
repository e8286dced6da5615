import numpy as np
import pytest
import torch
from PIL import Image

from face4d.errors import InputError
from face4d.render.landmarks import PALETTE, landmark_frames, landmark_gif
from face4d.render.media import quantise, write_gif
from tests.conftest import toy_sequence


def read_gif(path) -> tuple[np.ndarray, list[int]]:
    """(T, H, W, 3) uint8 and durations in milliseconds, as a viewer shows them."""
    frames, durations = [], []
    with Image.open(path) as picture:
        for number in range(picture.n_frames):
            picture.seek(number)
            frames.append(np.array(picture.convert("RGB")))
            durations.append(picture.info["duration"])
    return np.stack(frames), durations


@pytest.fixture
def moving_square() -> np.ndarray:
    frames = np.full((5, 40, 50, 3), 250, np.uint8)
    for number in range(5):
        frames[number, 5 + 3 * number : 20 + 3 * number, 8:30] = (200, 30 * number, 7)
    return frames


def test_few_colours_come_back_exactly(tmp_path, moving_square):
    write_gif(tmp_path / "a.gif", moving_square, fps=20)
    frames, durations = read_gif(tmp_path / "a.gif")
    np.testing.assert_array_equal(frames, moving_square)
    assert durations == [50] * 5
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.info["loop"] == 0


def test_grey_and_indexed_frames_come_back_exactly(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (3, 30, 20)).astype(np.uint8)  # all 256 levels: no index is free
    write_gif(tmp_path / "a.gif", grey)
    np.testing.assert_array_equal(read_gif(tmp_path / "a.gif")[0][..., 0], grey)
    palette = np.random.default_rng(1).integers(0, 256, (7, 3)).astype(np.uint8)
    indices = grey % 7
    write_gif(tmp_path / "b.gif", indices, palette=palette)
    np.testing.assert_array_equal(read_gif(tmp_path / "b.gif")[0], palette[indices])


def test_one_pixel_pictures_and_single_frames(tmp_path):
    for shape in ((1, 1, 1, 3), (2, 1, 1, 3), (1, 17, 1, 3)):
        frames = np.random.default_rng(2).integers(0, 256, shape).astype(np.uint8)
        write_gif(tmp_path / "a.gif", frames)
        np.testing.assert_array_equal(read_gif(tmp_path / "a.gif")[0], frames)


def test_many_colours_are_reduced_with_little_loss(tmp_path):
    ramp = np.linspace(0, 255, 64)
    shaded = np.stack(
        [np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], k * 100.0), axis=-1) for k in range(3)]
    ).astype(np.uint8)
    indices, palette = quantise(shaded)
    assert len(palette) <= 255
    assert np.abs(palette[indices].astype(int) - shaded).mean() < 8
    write_gif(tmp_path / "a.gif", shaded)
    np.testing.assert_array_equal(read_gif(tmp_path / "a.gif")[0], palette[indices])


def test_up_to_255_colours_are_exact():
    few = np.random.default_rng(0).integers(0, 256, (255, 3)).astype(np.uint8)
    few[1::2] = few[:-1:2] ^ 1  # neighbours
    exact = few[np.arange(3 * 30 * 20).reshape(3, 30, 20) % 255]
    indices, palette = quantise(exact)
    np.testing.assert_array_equal(palette[indices], exact)


def test_a_picture_that_stays_is_stored_once_and_shown_longer(tmp_path, moving_square):
    frames = moving_square[[0, 0, 1, 1, 1]]
    write_gif(tmp_path / "a.gif", frames, fps=30)
    shown, durations = read_gif(tmp_path / "a.gif")
    np.testing.assert_array_equal(shown, moving_square[:2])
    assert sum(durations) == pytest.approx(1000 * 5 / 30, abs=10)  # rounding to hundredths does not accumulate


def test_a_picture_that_stays_for_longer_than_a_gif_can_say(tmp_path, moving_square):
    write_gif(tmp_path / "a.gif", moving_square[[0, 0, 0, 1]], fps=0.005)  # 200 s each
    assert read_gif(tmp_path / "a.gif")[1] == [600_000, 200_000]
    with pytest.raises(InputError, match="no picture stays longer than 655 seconds"):
        write_gif(tmp_path / "b.gif", moving_square[[0, 0, 0, 0, 1]], fps=0.005)
    assert not (tmp_path / "b.gif").exists()


def test_unchanged_parts_cost_no_more_than_a_palette(tmp_path, moving_square):
    noise = np.random.default_rng(3).integers(0, 200, (40, 50, 1)).astype(np.uint8).repeat(3, axis=2)
    still = np.repeat(noise[None], 20, axis=0)
    still[:, 0, 0] = np.arange(20)[:, None]
    write_gif(tmp_path / "one.gif", still[:1])
    write_gif(tmp_path / "all.gif", still)
    assert (tmp_path / "all.gif").stat().st_size < (tmp_path / "one.gif").stat().st_size + 20 * (768 + 40)
    assert (tmp_path / "all.gif").stat().st_size < 20 * (tmp_path / "one.gif").stat().st_size / 3


@pytest.mark.parametrize(
    ("frames", "arguments"),
    [
        (np.zeros((2, 4, 4, 3)), {}),
        (np.zeros((0, 4, 4, 3), np.uint8), {}),
        (np.zeros((2, 4, 4, 4), np.uint8), {}),
        (np.zeros((4, 4), np.uint8), {}),
        (np.zeros((2, 4, 4, 3), np.uint8), {"fps": 0}),
        (np.zeros((2, 4, 4, 3), np.uint8), {"fps": 60}),
        (np.full((2, 4, 4), 9, np.uint8), {"palette": np.zeros((9, 3), np.uint8)}),
    ],
)
def test_bad_frames_are_refused_and_nothing_is_written(tmp_path, frames, arguments):
    with pytest.raises(ValueError, match="expected"):
        write_gif(tmp_path / "a.gif", frames, **arguments)
    assert not list(tmp_path.iterdir())


# Landmark pictures


def test_landmark_gif_shows_the_landmark_frames(tmp_path):
    landmarks, reference = toy_sequence(0, 0, 6), toy_sequence(1, 1, 6)
    for arguments in ({}, {"reference": reference, "title": "Happy, CH01"}):
        frames = landmark_frames(landmarks, size=100, **arguments)
        landmark_gif(tmp_path / "a.gif", landmarks, size=100, **arguments)
        np.testing.assert_array_equal(read_gif(tmp_path / "a.gif")[0], frames)
    assert {tuple(colour) for colour in frames.reshape(-1, 3)} <= {tuple(colour) for colour in PALETTE}


def test_limits_are_those_of_the_whole_sequence_and_of_the_reference():
    landmarks = toy_sequence(0, 0, 6)
    alone = landmark_frames(landmarks, reference=landmarks, size=100)
    half = (alone.shape[2] - 16 * 100 // 240) // 2
    # The same sequence twice looks the same on both sides (titles and captions aside).
    body = slice(35, 100)
    left, right = alone[:, body, :half].astype(int), alone[:, body, -half:].astype(int)
    assert np.abs(left - right).max() <= 17  # one step of coverage, from rounding
    # A sequence that moves far makes the first frame smaller; its picture depends on all frames.
    far = landmarks.copy()
    far[-1] *= 2
    ink = lambda frames: (frames[0, body] < 250).any(axis=(1, 2)).sum()  # noqa: E731
    assert ink(landmark_frames(far, size=100)) <= ink(landmark_frames(landmarks, size=100))


def test_equal_axes_and_nothing_leaves_the_picture():
    # A square in front view stays a square: the extent in pixels is the same both ways.
    landmarks = np.zeros((1, 68, 3), np.float32)
    landmarks[0, :, 0] = np.where(np.arange(68) % 2, 0.05, -0.05)
    landmarks[0, :, 1] = np.where(np.arange(68) // 2 % 2, 0.05, -0.05)
    frame = landmark_frames(landmarks, size=200)[0][:210]
    front = frame[:, : frame.shape[1] // 2]
    marked = (front < 200).any(axis=2)
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    assert abs((rows[-1] - rows[0]) - (columns[-1] - columns[0])) <= 2
    assert columns[0] > 2 and columns[-1] < front.shape[1] - 2


def test_the_error_caption_is_there_and_the_counter_changes():
    landmarks = toy_sequence(0, 0, 4)
    plain, compared = landmark_frames(landmarks, size=120), landmark_frames(landmarks, reference=landmarks, size=120)
    assert (plain[1, -12:] != plain[2, -12:]).any()
    assert (compared[0, -14:, : compared.shape[2] // 2] < 100).sum() > (plain[0, -14:] < 100).sum()


def test_drawing_changes_no_input_and_no_random_state():
    landmarks = toy_sequence(0, 0, 4)
    copy = landmarks.copy()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    landmark_frames(landmarks, reference=landmarks, size=60)
    np.testing.assert_array_equal(landmarks, copy)
    assert torch.equal(torch.get_rng_state(), torch_state) and (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


def test_bad_landmarks_are_refused():
    landmarks = toy_sequence(0, 0, 4)
    with pytest.raises(ValueError, match=r"\(T, 68, 3\)"):
        landmark_frames(landmarks[:, :67])
    with pytest.raises(ValueError, match="4 frames, found 3"):
        landmark_frames(landmarks, reference=landmarks[:3])
    landmarks[2, 5, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        landmark_frames(landmarks)


def test_small_parts_keep_their_colours_and_white_stays_white():
    """Teeth and eyes on a large face of many shades of skin."""
    shades = np.random.default_rng(0).integers(0, 60, (4, 128, 128, 1)) + np.array([150, 110, 90])
    frames = np.concatenate([np.full((4, 128, 128, 3), 255), shades], axis=2).astype(np.uint8)
    frames[:, 60:66, 180:190] = [90, 140, 170]  # an iris
    frames[:, 90:96, 170:200] = [200, 196, 180]  # teeth
    indices, palette = quantise(frames)
    shown = palette[indices].astype(int)
    assert (shown[:, :, :128] == 255).all()
    for part in (np.s_[:, 60:66, 180:190], np.s_[:, 90:96, 170:200]):
        assert np.abs(shown[part] - frames[part]).max() <= 4
