"""Linear blend skinning and rotations as free functions on tensors.

Loper et al., "SMPL", SIGGRAPH Asia 2015, equations 2 to 4, as FLAME uses them. Points are kept as planes (B, 3, V): x,
y and z each in one piece, so that skinning is a few products of whole rows.

Rotations as axis-angle, matrices, unit quaternions (w, x, y, z) and Euler angles, the last two as DECA combines them;
any number of leading dimensions, radians, differentiable away from angles where the result is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from face4d.landmarks import MAX_CONTOUR_ANGLE

_CACHE_BYTES = 2 << 20  # blended transforms of so many samples at a time that they stay in one core's cache
_SHARED_BYTES = 32 << 20  # with several threads, which wait for each other after every product: fewer and larger
_SMALL_ANGLE = 1e-4  # squared radians below which the series is exact to float64: the next term is below 1e-16


def rodrigues(axis_angle: Tensor) -> Tensor:
    """Rotation matrices: R = I + sin(a)/a K + (1 - cos(a))/a^2 K^2, a = |axis_angle|, K its cross-product matrix.

    Args:
        axis_angle: (..., 3) radians.

    Returns:
        (..., 3, 3). Smooth at zero, derivatives included.

    Example:
        >>> rodrigues(torch.tensor([0.0, math.pi / 2, 0.0])) @ torch.tensor([0.0, 0.0, 1.0])  # the face turns to +x
        tensor([ 1.0000e+00,  0.0000e+00, -4.3711e-08])
    """
    square = (axis_angle * axis_angle).sum(-1)  # (...)
    small = square < _SMALL_ANGLE
    angle = torch.where(small, torch.ones_like(square), square).sqrt()  # no root at zero, whose derivative is infinite
    sine = torch.where(small, 1 - square / 6 * (1 - square / 20 * (1 - square / 42)), angle.sin() / angle)
    versine = torch.where(
        small,
        0.5 - square / 24 * (1 - square / 30 * (1 - square / 56)),
        0.5 * (torch.sin(angle / 2) / (angle / 2)) ** 2,
    )
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))  # (..., 3, 3)
    outer = axis_angle[..., :, None] * axis_angle[..., None, :]  # K^2 = outer - square I
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return (
        (1 - versine * square)[..., None, None] * identity
        + sine[..., None, None] * cross
        + versine[..., None, None] * outer
    )


def joint_transforms(rotations: Tensor, joints: Tensor, parents: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Where a kinematic tree puts its joints, and the motion of the points fixed to each of them.

    G_0 = [R_0, j_0], G_k = G_parent(k) [R_k, j_k - j_parent(k)]; the motion of joint k is x -> G_k (x - j_k).

    Args:
        rotations: (B, J, 3, 3), each relative to the parent.
        joints: (B, J, 3) of the unposed face.
        parents: J numbers, a joint's parent before the joint; the first is ignored.

    Returns:
        transforms (B, J, 3, 4), posed joints (B, J, 3).
    """
    world, posed = [rotations[:, 0]], [joints[:, 0]]
    for joint, parent in enumerate(parents[1:], 1):
        offset = joints[:, joint] - joints[:, parent]  # (B, 3)
        posed.append(posed[parent] + _product(world[parent], offset[:, :, None]).squeeze(2))
        world.append(_product(world[parent], rotations[:, joint]))
    turned, moved = torch.stack(world, dim=1), torch.stack(posed, dim=1)  # (B, J, 3, 3), (B, J, 3)
    shift = moved - _product(turned, joints[..., None]).squeeze(-1)  # (B, J, 3)
    return torch.cat([turned, shift[..., None]], dim=-1), moved


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Products of many tiny matrices, for which element-wise work is faster than batched matrix products (and waits for
    no thread).
    """
    return (left[..., :, :, None] * right[..., None, :, :]).sum(-2)


def blend_skinning(points: Tensor, transforms: Tensor, weights: Tensor) -> Tensor:
    """Linear blend skinning: v' = sum_k w_k A_k [v, 1].

    The blended transforms (12 numbers per point and sample) are the largest arrays of the whole model; on a CPU they
    are made and used for a few samples at a time.

    Args:
        points: (B, 3, V) planes of the unposed points.
        transforms: (B, J, 3, 4).
        weights: (J, V).

    Returns:
        (B, V, 3).
    """
    batch, _, count = points.shape
    rows = transforms.permute(0, 3, 2, 1).reshape(batch, 12, -1)  # (B, 4 columns x 3 rows, J)
    size = batch
    if points.device.type == "cpu":
        room = _CACHE_BYTES if torch.get_num_threads() == 1 else _SHARED_BYTES
        size = max(1, room // (12 * count * points.element_size()))
    parts = []
    whole = None if torch.is_grad_enabled() or size >= batch else points.new_empty(batch, count, 3)
    for start, some_rows, some_points in zip(range(0, batch, size), rows.split(size), points.split(size)):
        x, y, z, skinned = torch.matmul(some_rows, weights).unflatten(1, (4, 3)).unbind(1)  # (b, 3, V) each
        for axis, column in enumerate((x, y, z)):
            skinned = torch.addcmul(skinned, column, some_points[:, axis, None])
        if whole is None:
            parts.append(skinned.transpose(1, 2).contiguous())
        else:
            whole[start : start + size] = skinned.transpose(1, 2)
    if whole is not None:
        return whole
    return torch.cat(parts) if len(parts) > 1 else parts[0].contiguous()


def contour_rows(rotations: Tensor, convention: str, sign: int = 1) -> Tensor:
    """Rows of the contour table (0..39 = 0..+39 degrees, 40..78 = -1..-39) for turned heads.

    Args:
        rotations: (B, 5, 3, 3) of the joints.
        convention: ``geometry``: the direction to the camera (+z) seen from the head, neck included, as an angle about
            the head's own vertical axis; beyond the table its last row. ``deca``: the angle about y of Euler angles of
            root and neck. ``smplx``: minus that angle, of the root only. The two fold beyond 90 degrees. ``fixed``: row
            0, the frontal contour.
        sign: of the table for ``geometry``: 1 if its positive rows are for a face turned to +x, else -1.

    Returns:
        (B,) int64.
    """
    root = rotations[:, 0]
    if convention == "fixed":
        return torch.zeros(len(root), dtype=torch.int64, device=root.device)
    head = root if convention == "smplx" else root @ rotations[:, 1]
    toward_x = -head[:, 2, 0]
    if convention == "geometry":
        degrees = torch.atan2(toward_x, head[:, 2, 2]) * (sign * 180 / math.pi)
        degrees = degrees.clamp(min=-MAX_CONTOUR_ANGLE)
    else:
        degrees = torch.atan2(toward_x, torch.hypot(head[:, 0, 0], head[:, 1, 0])) * (180 / math.pi)
        degrees = -degrees if convention == "smplx" else degrees
    angle = degrees.detach().clamp(max=MAX_CONTOUR_ANGLE).round().long()
    return torch.where(angle >= 0, angle, (MAX_CONTOUR_ANGLE - angle).clamp(max=2 * MAX_CONTOUR_ANGLE))


def euler_to_quaternion(angles: Tensor) -> Tensor:
    """Quaternions (..., 4) of R_x R_y R_z for angles (..., 3) about x, y and z."""
    half = angles / 2
    (cx, cy, cz), (sx, sy, sz) = half.cos().unbind(-1), half.sin().unbind(-1)
    return torch.stack(
        [
            cx * cy * cz - sx * sy * sz,
            sx * cy * cz + cx * sy * sz,
            cx * sy * cz - sx * cy * sz,
            cx * cy * sz + sx * sy * cz,
        ],
        dim=-1,
    )


def quaternion_to_axis_angle(quaternion: Tensor) -> Tensor:
    """Axis-angle (..., 3) of unit quaternions (..., 4), with an angle in (-pi, pi]: 2 atan2(|v|, w) / |v| v, of -q if w
    < 0.
    """
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    real, vector = quaternion[..., :1], quaternion[..., 1:]
    square = (vector * vector).sum(-1, keepdim=True)
    small = square < torch.finfo(quaternion.dtype).tiny * 1e8
    length = torch.where(small, torch.ones_like(square), square).sqrt()
    factor = torch.where(small, 2 / real.clamp_min(0.5), 2 * torch.atan2(length, real) / length)
    return factor * vector


def euler_to_axis_angle(angles: Tensor) -> Tensor:
    """Axis-angle (..., 3) of R_x R_y R_z, angles (..., 3)."""
    return quaternion_to_axis_angle(euler_to_quaternion(angles))
