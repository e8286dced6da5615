"""Square windows of a photo that may be turned, larger than the photo, or beside it: what detectors look at.

Pixels of the photo as everywhere: integers are the places of samples. Places in a window are shares of its side, (0, 0)
its upper left corner, (1, 1) its lower right one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from face4d.photos.crops import block_means


@dataclass(frozen=True)
class TurnedSquare:
    """A square of a photo.

    Attributes:
        x, y: its middle, pixels.
        side: pixels.
        roll: radians from the photo's x axis to the square's, clockwise as one looks at the picture.
    """

    x: float
    y: float
    side: float
    roll: float = 0.0

    @property
    def axes(self) -> np.ndarray:
        """(2, 2) its x and y axis in the photo, of length 1, as rows."""
        cosine, sine = np.cos(self.roll), np.sin(self.roll)
        return np.array([[cosine, sine], [-sine, cosine]])

    def to_photo(self, places: np.ndarray) -> np.ndarray:
        """Places (..., 2 or 3) of the square as pixels of the photo; a third number, a depth, is scaled."""
        places = np.asarray(places, float)
        plane = (places[..., :2] - 0.5) * self.side @ self.axes + [self.x, self.y]
        return np.concatenate([plane, places[..., 2:] * self.side], axis=-1)

    def to_square(self, points: np.ndarray) -> np.ndarray:
        """The reverse of :meth:`to_photo`."""
        points = np.asarray(points, float)
        plane = (points[..., :2] - [self.x, self.y]) @ self.axes.T / self.side + 0.5
        return np.concatenate([plane, points[..., 2:] / self.side], axis=-1)

    def sample(self, photo: np.ndarray, size: int) -> np.ndarray:
        """The square as a picture: bilinear, of a photo averaged over blocks first where pixels would be skipped.

        Args:
            photo: (H, W, C) floating.

        Returns:
            (size, size, C) float32; black beyond the photo.
        """
        steps = (np.arange(size) + 0.5) / size
        places = self.to_photo(np.stack(np.meshgrid(steps, steps), axis=-1))  # (size, size, 2)
        # Only the part of the photo that the square covers is touched: photos have up to 64 megapixels.
        block = max(min(int(self.side / size), *photo.shape[:2]), 1)
        low = np.maximum(np.floor(places.min((0, 1))).astype(int) - block, 0)
        high = np.minimum(np.ceil(places.max((0, 1))).astype(int) + block + 1, photo.shape[1::-1])
        if (high <= low).any():
            return np.zeros((size, size, photo.shape[2]), np.float32)
        part, places = photo[low[1] : high[1], low[0] : high[0]], places - low
        if block > 1:
            part, places = block_means(part, block, "zero"), (places - (block - 1) / 2) / block
        return _bilinear(part, places)


def _bilinear(photo: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Samples (..., C) float32 of a photo (H, W, C) at places (..., 2), x and y; black outside."""
    height, width = photo.shape[:2]
    padded = np.zeros((height + 2, width + 2, photo.shape[2]), np.float32)
    padded[1:-1, 1:-1] = photo
    places = np.clip(places + 1, 0, [width + 1, height + 1])
    corner = np.minimum(places.astype(int), [width, height])
    right, down = np.moveaxis((places - corner).astype(np.float32)[..., None], -2, 0)
    x, y = corner[..., 0], corner[..., 1]
    upper = padded[y, x] * (1 - right) + padded[y, x + 1] * right
    lower = padded[y + 1, x] * (1 - right) + padded[y + 1, x + 1] * right
    return upper * (1 - down) + lower * down
