"""Rotations as axis-angle, unit quaternions (w, x, y, z), matrices and Euler angles, as DECA combines them.

All functions take any number of leading dimensions, in radians, and are differentiable away from angles where the result is not.
For axis-angle to matrices without DECA's rounding of small angles see :func:`face4d.flame.skinning.rodrigues`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def euler_to_quaternion(angles: Tensor) -> Tensor:
    """Quaternions (..., 4) of R_x R_y R_z for angles (..., 3) about x, y and z."""
    half = angles / 2
    (cx, cy, cz), (sx, sy, sz) = half.cos().unbind(-1), half.sin().unbind(-1)
    return torch.stack(
        [cx * cy * cz - sx * sy * sz, sx * cy * cz + cx * sy * sz, cx * sy * cz - sx * cy * sz, cx * cy * sz + sx * sy * cz], dim=-1
    )


def quaternion_to_axis_angle(quaternion: Tensor) -> Tensor:
    """Axis-angle (..., 3) of unit quaternions (..., 4), with an angle in (-pi, pi]: 2 atan2(|v|, w) / |v| v, of -q if w < 0."""
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    real, vector = quaternion[..., :1], quaternion[..., 1:]
    square = (vector * vector).sum(-1, keepdim=True)
    small = square < torch.finfo(quaternion.dtype).tiny * 1e8
    length = torch.where(small, torch.ones_like(square), square).sqrt()
    factor = torch.where(small, 2 / real.clamp_min(0.5), 2 * torch.atan2(length, real) / length)
    return factor * vector


def axis_angle_to_quaternion(axis_angle: Tensor) -> Tensor:
    """Unit quaternions (..., 4) of axis-angles (..., 3); the angle is |r + 1e-8|, as in DECA, so that it has a derivative at zero."""
    angle = (axis_angle + 1e-8).norm(dim=-1, keepdim=True)
    return torch.cat([(angle / 2).cos(), (angle / 2).sin() * axis_angle / angle], dim=-1)


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4), which are brought to unit length."""
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    return torch.stack(
        [
            w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (w * y + x * z),
            2 * (w * z + x * y), w * w - x * x + y * y - z * z, 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (w * x + y * z), w * w - x * x - y * y + z * z,
        ],
        dim=-1,
    ).unflatten(-1, (3, 3))  # fmt: skip


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (..., 4) of rotation matrices (..., 3, 3), by the largest of the four components (Shepperd, 1978).

    The sign is that of a largest component above zero.
    """
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    squares = torch.stack([trace, *(2 * m[..., i, i] - trace for i in range(3))], dim=-1) + 1  # (..., 4): 4 w^2, 4 x^2, 4 y^2, 4 z^2
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    products = torch.stack(
        [squares[..., 0], wx, wy, wz, wx, squares[..., 1], xy, xz, wy, xy, squares[..., 2], yz, wz, xz, yz, squares[..., 3]], dim=-1
    ).unflatten(-1, (4, 4))  # row i: 4 q_i q
    largest = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    row = products.gather(-2, largest).squeeze(-2)
    return row / row.norm(dim=-1, keepdim=True)


def euler_to_axis_angle(angles: Tensor) -> Tensor:
    """Axis-angle (..., 3) of R_x R_y R_z, angles (..., 3)."""
    return quaternion_to_axis_angle(euler_to_quaternion(angles))


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of axis-angles (..., 3), through quaternions."""
    return quaternion_to_matrix(axis_angle_to_quaternion(axis_angle))


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Axis-angle (..., 3) of rotation matrices (..., 3, 3), with an angle of at most pi."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def yaw_angle(matrix: Tensor) -> Tensor:
    """The angle about y (...,) of rotation matrices (..., 3, 3): atan2(-R20, sqrt(R00^2 + R10^2)); it folds beyond +-90 degrees."""
    return torch.atan2(-matrix[..., 2, 0], torch.sqrt(matrix[..., 0, 0] ** 2 + matrix[..., 1, 0] ** 2))
