"""DECA's camera (weak perspective) and light (spherical harmonics), and what they need of a mesh: its normals.

Feng et al., "Learning an Animatable Detailed 3D Face Model from In-The-Wild Images", SIGGRAPH 2021, section 3.
World: metres, y up, z toward the viewer. Screen: x right and y down in -1..1 over the crop, z away from the viewer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# norms of the real spherical harmonics times pi, 2 pi / 3, pi / 4 (over pi for the first), what a cosine lobe leaves of bands 0, 1, 2:
# Ramamoorthi and Hanrahan, "An Efficient Representation for Irradiance Environment Maps", SIGGRAPH 2001
_BAND_1, _BAND_2 = 2 * math.pi / 3 * math.sqrt(3 / (4 * math.pi)), math.pi / 4 * 3 * math.sqrt(5 / (12 * math.pi))
LIGHT_FACTORS = (
    1 / math.sqrt(4 * math.pi), _BAND_1, _BAND_1, _BAND_1, _BAND_2, _BAND_2, _BAND_2, _BAND_2 / 2, math.pi / 4 * math.sqrt(5 / (4 * math.pi)) / 2,
)  # fmt: skip


def project(points: Tensor, camera: Tensor) -> Tensor:
    """Weak perspective: (s (x + t_x), s (y + t_y), s z), world axes kept.

    Args:
        points: (B, N, 3) metres.
        camera: (B, 3) scale s, t_x, t_y.

    Returns:
        (B, N, 3).
    """
    scale, shift = camera[:, None, :1], camera[:, None, 1:]
    return scale * torch.cat([points[..., :2] + shift, points[..., 2:]], dim=-1)


def to_screen(points: Tensor, camera: Tensor) -> Tensor:
    """World points (B, N, 3) on the screen (B, N, 3): projected by ``camera`` (B, 3), then y and z turned round."""
    return project(points, camera) * points.new_tensor([1.0, -1.0, -1.0])


def to_pixels(screen: Tensor, size: int) -> Tensor:
    """Screen coordinates (..., 2 or 3) as pixels of a crop of ``size``: -1 is 0 and 1 is ``size``, the scale DECA's landmarks have.

    A depth is scaled alike and not shifted. The integer pixel (x, y) is the place of its sample, as in :mod:`face4d.reconstruction.photo`.
    """
    shift = screen.new_tensor([1.0, 1.0, 0.0])[: screen.shape[-1]]
    return (screen + shift) * (size / 2)


def from_pixels(pixels: Tensor, size: int) -> Tensor:
    """The inverse of :func:`to_pixels`."""
    return pixels * (2 / size) - pixels.new_tensor([1.0, 1.0, 0.0])[: pixels.shape[-1]]


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (B, V, 3): the sum of the area-weighted normals of a vertex's faces, over its length or 1e-6.

    Args:
        vertices: (B, V, 3).
        faces: (F, 3) int64.

    A vertex without a face gets zero.
    """
    a, b, c = (vertices[:, corner] for corner in faces.unbind(1))  # (B, F, 3) each
    normals = torch.linalg.cross(b - a, c - a, dim=-1)
    total = torch.zeros_like(vertices)
    for corner in faces.unbind(1):
        total = total.index_add(1, corner, normals)
    return functional.normalize(total, dim=-1, eps=1e-6)


def light_basis(normals: Tensor) -> Tensor:
    """The nine spherical harmonics (..., 9) that light is made of, of normals (..., 3), factors included."""
    x, y, z = normals.unbind(-1)
    basis = torch.stack([torch.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], dim=-1)
    return basis * basis.new_tensor(LIGHT_FACTORS)


def shade(normals: Tensor, light: Tensor) -> Tensor:
    """The light (B, ..., 3) that surfaces of normals (B, ..., 3) get: sum_k light_k f_k b_k(normal).

    Args:
        normals: (B, ..., 3) of length 1, world axes.
        light: (B, 9, 3) coefficients per colour.
    """
    basis = light_basis(normals)  # (B, ..., 9)
    return (basis.flatten(1, -2) @ light).view_as(normals)
