"""The FLAME layer: coefficients and poses in, vertices and 68 landmarks out, differentiable.

Li et al., "Learning a model of facial shape and expression from 4D scans", SIGGRAPH Asia 2017:
v_s = template + S shape + E expression, joints = J v_s, v_p = v_s + P (R - I), vertices = linear blend skinning of v_p.
Since joints and v_p are linear, S, E and P are one matrix and J is folded into it once, when the layer is made.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from face4d.constants import NUM_CONTOUR
from face4d.errors import InputError
from face4d.flame.model import NUM_JOINTS, PARENTS, FlameModel, find_model, load_flame_model
from face4d.flame.skinning import blend_skinning, contour_rows, joint_transforms, rodrigues
from face4d.landmarks import MAX_CONTOUR_ANGLE, LandmarkEmbedding, load_flame_embedding

CONTOURS = ("geometry", "deca", "smplx", "fixed")


class FlameOutput(NamedTuple):
    """What a forward pass gives, all in metres."""

    vertices: Tensor  # (B, V, 3)
    landmarks: Tensor | None  # (B, 68, 3), contour first; None without an embedding
    joints: Tensor  # (B, 5, 3): root, neck, jaw, left eye, right eye


class FlameLayer(nn.Module):
    """Vertices and landmarks of FLAME parameters, any number of faces per call.

    All parameters of :meth:`forward` are optional (zero) and have one row or B rows; one row holds for all B.
    Everything is a buffer, so ``.to("cuda")`` and ``.double()`` work as usual and the layer has no trainable
    parameters.

    Args:
        model: the arrays, see :func:`~face4d.flame.model.load_flame_model`.
        embedding: of the 68 landmarks; None for a layer without landmarks.
        num_shape, num_expression: coefficients to use, at most what the model has.
        contour: which of the table's rows give the 17 contour points of a turned head, see
            :func:`~face4d.flame.skinning.contour_rows`. ``geometry`` keeps them on the visible outline; ``deca`` and
            ``smplx`` repeat what those programs do; ``fixed`` keeps the frontal ones, which is what the landmark files
            of step 3 hold.
        dtype: torch.float32 or torch.float64.

    Raises:
        InputError: an embedding of another topology, or one without a contour table where ``contour`` needs one.

    Example:
        >>> layer = load_flame_layer("models/flame")
        >>> out = layer(shape=torch.randn(8, 100), jaw_pose=torch.tensor([[0.2, 0, 0]]))
        >>> out.vertices.shape, out.landmarks.shape
        (torch.Size([8, 5023, 3]), torch.Size([8, 68, 3]))
    """

    faces: Tensor
    joint_template: Tensor
    joint_directions: Tensor

    def __init__(
        self,
        model: FlameModel,
        embedding: LandmarkEmbedding | None = None,
        *,
        num_shape: int = 100,
        num_expression: int = 50,
        contour: str = "geometry",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if contour not in CONTOURS:
            raise InputError("contour", f"one of {', '.join(CONTOURS)}", contour)
        self.num_shape = min(num_shape, model.shape_directions.shape[2])
        self.num_expression = min(num_expression, model.expression_directions.shape[2])
        self.contour = contour
        shape = np.concatenate(
            [model.shape_directions[:, :, : self.num_shape], model.expression_directions[:, :, : self.num_expression]],
            axis=2,
        )  # (V, 3, S + E)
        regressor = model.joint_regressor.astype(np.float64)
        self.register_buffer("faces", torch.as_tensor(model.faces.astype(np.int64)))  # (F, 3)
        self.register_buffer("joint_template", torch.as_tensor(regressor @ model.template, dtype=dtype))  # (5, 3)
        joint_directions = np.tensordot(regressor, shape, axes=1).reshape(3 * NUM_JOINTS, -1).T  # (S + E, 15)
        self.register_buffer("joint_directions", torch.as_tensor(np.ascontiguousarray(joint_directions), dtype=dtype))
        directions = np.concatenate([shape, model.pose_directions], axis=2)  # (V, 3, S + E + 36)
        self.surface = SkinnedPoints.of_vertices(model.template, directions, model.skin_weights, dtype)
        self.marks: _Landmarks | None = None
        if embedding is not None:
            if embedding.num_vertices != model.num_vertices:
                raise InputError(
                    "landmark embedding",
                    f"one of the model's {model.num_vertices} vertices",
                    f"{embedding.num_vertices}",
                )
            self.marks = _Landmarks(embedding, model, contour, dtype)
            used = self.marks.used
            self.mark_points = SkinnedPoints.of_vertices(
                model.template[used], directions[used], model.skin_weights[used], dtype
            )

    @property
    def num_vertices(self) -> int:
        """V."""
        return self.surface.weights.shape[1]

    def forward(
        self,
        shape: Tensor | None = None,
        expression: Tensor | None = None,
        global_pose: Tensor | None = None,
        neck_pose: Tensor | None = None,
        jaw_pose: Tensor | None = None,
        eye_pose: Tensor | None = None,
        translation: Tensor | None = None,
    ) -> FlameOutput:
        """Vertices, landmarks and joints.

        Args:
            shape: (B, up to num_shape) identity coefficients, standard deviations.
            expression: (B, up to num_expression).
            global_pose, neck_pose, jaw_pose: (B, 3) axis-angle, radians, each relative to the joint before.
            eye_pose: (B, 6) axis-angle of the left, then the right eye.
            translation: (B, 3) metres.

        Raises:
            InputError: a parameter of another shape; names it.
        """
        coefficients, rotations, transforms, joints = self._pose(
            shape, expression, global_pose, neck_pose, jaw_pose, eye_pose, translation
        )
        vertices = self.surface(coefficients, transforms)  # (B, V, 3)
        landmarks = None if self.marks is None else self.marks(vertices, rotations, all_vertices=True)
        return FlameOutput(vertices, landmarks, joints)

    def landmarks(
        self,
        shape: Tensor | None = None,
        expression: Tensor | None = None,
        global_pose: Tensor | None = None,
        neck_pose: Tensor | None = None,
        jaw_pose: Tensor | None = None,
        eye_pose: Tensor | None = None,
        translation: Tensor | None = None,
    ) -> Tensor:
        """The landmarks (B, 68, 3) of :meth:`forward` alone; only the vertices they lie on are computed.

        Raises:
            InputError: see :meth:`forward`; or a layer without an embedding.
        """
        if self.marks is None:
            raise InputError("FlameLayer", "a landmark embedding, to have landmarks", "none")
        coefficients, rotations, transforms, _ = self._pose(
            shape, expression, global_pose, neck_pose, jaw_pose, eye_pose, translation
        )
        return self.marks(self.mark_points(coefficients, transforms), rotations, all_vertices=False)

    def skinned_points(self, corners: np.ndarray, weights: np.ndarray) -> SkinnedPoints:
        """Points between vertices as points of the model, for :meth:`points`: template, directions and skinning weights
        of each are means of its vertices' (exact but for the change of skinning weights within a triangle).

        Args:
            corners: (N, K) vertices.
            weights: (N, K), rows sum to 1.
        """
        like, (number, count) = self.surface.directions, corners.shape
        places = (weights.ravel(), (np.repeat(np.arange(number), count), corners.ravel()))
        mean = sparse.csr_matrix(places, shape=(number, self.num_vertices), dtype=weights.dtype)
        planes = like.cpu().numpy().reshape(-1, self.num_vertices)  # (3 (S + E + 37), V)
        parts = (mean @ planes.T).T.reshape(len(like), -1), (mean @ self.surface.weights.cpu().numpy().T).T
        return SkinnedPoints(*(torch.as_tensor(part, dtype=like.dtype, device=like.device) for part in parts))

    def points(self, points: SkinnedPoints, **parameters: Tensor | None) -> Tensor:
        """Where :meth:`skinned_points` are, (B, N, 3) metres, with the parameters of :meth:`forward`."""
        coefficients, _, transforms, _ = self._pose(**parameters)
        return points(coefficients, transforms)

    def of_person(self, shape: Tensor) -> FlameLayer:
        """The layer of one person: the shape (num_shape,) is in its template, and no shape coefficients are left."""
        own = copy.deepcopy(self)
        own.num_shape, given = 0, shape.double()
        own.joint_template += (given @ own.joint_directions[: len(shape)].double()).reshape(NUM_JOINTS, 3)
        own.joint_directions = own.joint_directions[len(shape) :]
        for points in (own.surface, *([] if own.marks is None else [own.mark_points])):
            points.directions[-1] += given @ points.directions[: len(shape)].double()
            points.directions = points.directions[len(shape) :]
        return own

    def _pose(
        self,
        shape: Tensor | None = None,
        expression: Tensor | None = None,
        global_pose: Tensor | None = None,
        neck_pose: Tensor | None = None,
        jaw_pose: Tensor | None = None,
        eye_pose: Tensor | None = None,
        translation: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Coefficients (B, S + E + 37), rotations (B, 5, 3, 3), transforms (B, 6, 3, 4), of which the last translates,
        and joints (B, 5, 3).
        """
        given = {
            "shape": (shape, self.num_shape), "expression": (expression, self.num_expression),
            "global_pose": (global_pose, 3), "neck_pose": (neck_pose, 3), "jaw_pose": (jaw_pose, 3),
            "eye_pose": (eye_pose, 6), "translation": (translation, 3),
        }  # fmt: skip
        batch = max([1, *(len(value) for value, _ in given.values() if value is not None and value.ndim)])
        rows = {name: self._rows(name, value, columns, batch) for name, (value, columns) in given.items()}
        joint_poses = [rows[name] for name in ("global_pose", "neck_pose", "jaw_pose", "eye_pose")]
        pose = torch.cat(joint_poses, dim=1).unflatten(1, (NUM_JOINTS, 3))
        rotations = rodrigues(pose)  # (B, 5, 3, 3)
        identity = torch.eye(3, dtype=pose.dtype, device=pose.device)
        blend = torch.cat([rows["shape"], rows["expression"]], dim=1)  # (B, S + E)
        # (B, S + E + 37)
        coefficients = torch.cat([blend, (rotations[:, 1:] - identity).flatten(1), blend.new_ones(batch, 1)], dim=1)
        joints = self.joint_template + (blend @ self.joint_directions).unflatten(1, (NUM_JOINTS, 3))  # (B, 5, 3)
        transforms, joints = joint_transforms(rotations, joints, PARENTS)
        moved = rows["translation"][:, None]  # (B, 1, 3)
        shift = functional.pad(moved[..., None], (3, 0))  # (B, 1, 3, 4): no turn, only the translation
        return coefficients, rotations, torch.cat([transforms, shift], dim=1), joints + moved

    def _rows(self, name: str, value: Tensor | None, columns: int, batch: int) -> Tensor:
        like = self.joint_template
        if value is None:
            return like.new_zeros(1, columns).expand(batch, columns)
        may_be_short = name in ("shape", "expression")
        fits = (
            value.ndim == 2
            and len(value) in (1, batch)
            and (value.shape[1] <= columns if may_be_short else value.shape[1] == columns)
        )
        if not fits or value.dtype != like.dtype or value.device != like.device:
            wanted = f"(1 or {batch}, {'up to ' if may_be_short else ''}{columns}) {like.dtype} on {like.device}"
            raise InputError(f"FLAME parameter {name}", wanted, f"{tuple(value.shape)} {value.dtype} on {value.device}")
        return functional.pad(value, (0, columns - value.shape[1])).expand(batch, columns)


class SkinnedPoints(nn.Module):
    """Some points of the model: one product with all blend shapes, then skinning.

    Args:
        directions: (S + E + 37, 3 N): all x, all y, all z; the last row the template, times 1.
        weights: (6, N), the last row the translation's, 1.
    """

    directions: Tensor
    weights: Tensor

    def __init__(self, directions: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("directions", directions)
        self.register_buffer("weights", weights)

    @classmethod
    def of_vertices(
        cls, template: np.ndarray, directions: np.ndarray, weights: np.ndarray, dtype: torch.dtype
    ) -> SkinnedPoints:
        """Vertices with template (N, 3), directions (N, 3, S + E + 36) and skinning weights (N, 5)."""
        rows = np.concatenate([directions, template[:, :, None]], axis=2).transpose(2, 1, 0)
        with_translation = np.concatenate([weights.T, np.ones((1, len(weights)), weights.dtype)])
        return cls(
            torch.as_tensor(rows.reshape(len(rows), -1), dtype=dtype), torch.as_tensor(with_translation, dtype=dtype)
        )

    def forward(self, coefficients: Tensor, transforms: Tensor) -> Tensor:
        """Points (B, V, 3) of coefficients (B, S + E + 37), the last of them 1, and transforms (B, 6, 3, 4)."""
        points = coefficients @ self.directions  # (B, 3 V)
        return blend_skinning(points.unflatten(1, (3, -1)), transforms, self.weights)


class _Landmarks(nn.Module):
    """The 68 landmarks of posed vertices, the 17 contour points by the turn of the head."""

    static_bary: Tensor
    table_bary: Tensor
    static_corners: Tensor
    table_corners: Tensor
    used_static_corners: Tensor
    used_table_corners: Tensor

    def __init__(self, embedding: LandmarkEmbedding, model: FlameModel, contour: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.contour, self.sign = contour, 1
        if contour == "fixed":
            table_idx, table_bary = embedding.face_idx[None, :NUM_CONTOUR], embedding.bary[None, :NUM_CONTOUR]
        elif embedding.contour_face_idx is None or embedding.contour_bary is None:
            raise InputError(
                "landmark embedding", f"a contour table, which contour={contour} needs (or contour=fixed)", "none"
            )
        else:
            table_idx, table_bary = embedding.contour_face_idx, embedding.contour_bary  # (79, 17), (79, 17, 3)
            self.sign = _table_sign(model.template, embedding.faces[table_idx], table_bary)
        table = embedding.faces[table_idx].astype(np.int64)  # (R, 17, 3)
        static = embedding.corners[NUM_CONTOUR:]  # (51, 3)
        self.used, numbers = np.unique(np.concatenate([table.ravel(), static.ravel()]), return_inverse=True)
        numbers = numbers.ravel()
        self.register_buffer("static_bary", torch.as_tensor(embedding.bary[NUM_CONTOUR:], dtype=dtype))
        self.register_buffer("table_bary", torch.as_tensor(table_bary, dtype=dtype))
        for name, corners in (("static_corners", static), ("table_corners", table)):
            self.register_buffer(name, torch.as_tensor(corners))
        self.register_buffer("used_static_corners", torch.as_tensor(numbers[table.size :].reshape(static.shape)))
        self.register_buffer("used_table_corners", torch.as_tensor(numbers[: table.size].reshape(table.shape)))

    def forward(self, points: Tensor, rotations: Tensor, all_vertices: bool) -> Tensor:
        """Landmarks (B, 68, 3) of all vertices (B, V, 3), or of the used ones."""
        static, table = (
            (self.static_corners, self.table_corners)
            if all_vertices
            else (self.used_static_corners, self.used_table_corners)
        )
        rows = contour_rows(rotations, self.contour, self.sign)  # (B,)
        batch = torch.arange(len(points), device=points.device)[:, None, None]
        corners = torch.cat([table[rows], static.expand(len(points), -1, -1)], dim=1)  # (B, 68, 3)
        bary = torch.cat([self.table_bary[rows], self.static_bary.expand(len(points), -1, -1)], dim=1)
        return (points[batch, corners] * bary[..., None]).sum(2)


def _table_sign(template: np.ndarray, corners: np.ndarray, bary: np.ndarray) -> int:
    """1 if the positive rows of a contour table, corners and weights (79, 17, 3), are for a face turned to +x, else -1:
    its left cheek hides, and the right rows put that half on the outline.
    """
    angle = np.deg2rad(MAX_CONTOUR_ANGLE)
    toward_x = template[:, 0] * np.cos(angle) + template[:, 2] * np.sin(angle)  # (V,) horizontal place in the picture
    left = np.s_[NUM_CONTOUR // 2 + 1 :]  # from the chin to the subject's left ear
    rows = (MAX_CONTOUR_ANGLE, 2 * MAX_CONTOUR_ANGLE)
    outline = [(toward_x[corners[row, left]] * bary[row, left]).sum() for row in rows]
    return 1 if outline[0] >= outline[1] else -1


def load_flame_layer(
    path: str | Path,
    *,
    embedding: LandmarkEmbedding | None = None,
    num_shape: int = 100,
    num_expression: int = 50,
    contour: str = "geometry",
    dtype: torch.dtype = torch.float32,
) -> FlameLayer:
    """The layer of a folder such as ``models/flame`` or ``demo/models/flame``, or of one model file beside its landmark
    embeddings.

    Args:
        path: a folder with one of the model files and with the three files that
            :func:`~face4d.landmarks.load_flame_embedding` reads, or the model file in such a folder.
        embedding: landmarks in place of the folder's.

    Raises:
        InputError: a missing file (says where it comes from) or one of other content.
    """
    file = find_model(path)
    model = load_flame_model(file)
    embedding = embedding or load_flame_embedding(file.parent)
    return FlameLayer(
        model, embedding, num_shape=num_shape, num_expression=num_expression, contour=contour, dtype=dtype
    )
