"""Turned windows of photos: places there and back, and pictures equal to samples taken one by one."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from face4d.photos.turned import TurnedSquare

RNG = np.random.default_rng(3)


def test_places_go_there_and_back():
    square = TurnedSquare(40, 25, 30, 0.7)
    places = RNG.uniform(-1, 2, (50, 3))
    np.testing.assert_allclose(square.to_square(square.to_photo(places)), places, atol=1e-12)
    np.testing.assert_allclose(square.to_photo(places)[:, 2], 30 * places[:, 2])  # depth
    np.testing.assert_allclose(square.to_photo([0.5, 0.5]), [40, 25])
    # a quarter turn clockwise: the square's x axis points down in the photo
    np.testing.assert_allclose(TurnedSquare(0, 0, 2, np.pi / 2).to_photo([1, 0.5]), [0, 1], atol=1e-12)


@pytest.mark.parametrize("roll", [0.0, 0.4, np.pi / 2, 4.0])
def test_pictures_are_bilinear_samples_and_black_outside(roll):
    photo, square, size = RNG.random((30, 40, 3)), TurnedSquare(33, 11, 25, roll), 20
    steps = (np.arange(size) + 0.5) / size
    places = square.to_photo(np.stack(np.meshgrid(steps, steps), -1))
    expected = np.stack(
        [
            map_coordinates(photo[..., c], [places[..., 1], places[..., 0]], order=1, mode="grid-constant")
            for c in range(3)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(square.sample(photo, size), expected, atol=1e-5)


def test_large_windows_average_what_small_pictures_would_skip():
    photo = RNG.random((400, 400, 1)).astype(np.float32)  # noise about 0.5
    picture = TurnedSquare(199.5, 199.5, 400, 0).sample(photo, 20)
    np.testing.assert_allclose(picture[..., 0], photo.reshape(20, 20, 20, 20).mean((1, 3)), atol=1e-6)


def test_windows_beside_the_photo_and_photos_of_one_line():
    assert not TurnedSquare(500, 500, 50).sample(np.ones((20, 20, 3)), 8).any()
    line = TurnedSquare(50_000, 0, 100_000).sample(np.ones((1, 100_000, 3), np.float32), 8)
    assert line.shape == (8, 8, 3)
