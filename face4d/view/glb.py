"""Moving heads as one animated GLB file (glTF 2.0), played by browsers and Blender: an animation for every motion.

A motion is a matrix of displacements from the base mesh, one row per frame. The first morph target of every motion is
its apex, the frame farthest from the base, named after the motion: at 1 it is that frame, and its weight over time is
what the motion has of it. What is left over of all motions together is decomposed by singular value decomposition; as
few of these details are kept as bring every vertex of every frame closer than the tolerance: they are added one by one,
the strongest first, and the worst vertex is measured with the numbers rounded as they are in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from face4d.errors import InputError
from face4d.mesh.geometry import vertex_normals

if TYPE_CHECKING:
    from pygltflib import GLTF2

__all__ = ["MorphTargets", "animated_glb", "morph_targets"]

TOLERANCE_MM = 0.05
# Beyond it the targets of one motion go without normals of their own, which saves half; more motions may take more.
MAX_BYTES, MAX_BYTES_MORE = 8_000_000, 2_000_000

# The surface again, dark, a little further in and seen from inside only: without it an open mouth would show the lit
# inside of the back of the head. It shares its morph targets with the skin, and is an object of its own, to be deleted
# where it is not wanted.
_INSIDE, _INSIDE_DEPTH = (0.05, 0.02, 0.02), 5e-4  # linear RGB; metres


@dataclass(frozen=True)
class MorphTargets:
    """Motions as ``base + weights @ targets``.

    Attributes:
        targets: (K, V, 3) float32, metres; the first are the apexes of the motions, one each.
        weights: (T, K) float32 per motion; an apex has 1 in its own frame, every detail a largest magnitude of 1.
        max_error_mm: per motion, the largest distance of a vertex of a frame from where it should be.
    """

    targets: np.ndarray
    weights: list[np.ndarray]
    max_error_mm: list[float]


def morph_targets(displacements: Sequence[np.ndarray], tolerance_mm: float = TOLERANCE_MM) -> MorphTargets:
    """The apexes of motions, and the fewest principal components of what is left over that reproduce the motions within
    a tolerance at every vertex of every frame.

    Args:
        displacements: (T, V, 3) from the base mesh, metres, per motion.
        tolerance_mm: every vertex ends up closer than this, above 0. All components are kept where rounding to float32
            is coarser.

    Raises:
        ValueError: wrong shapes, no motions, no frames or a tolerance that is not above 0.
    """
    motions = [np.asarray(motion, np.float64) for motion in displacements]
    if not motions or any(
        motion.ndim != 3 or motion.shape[1:] != (motions[0].shape[1], 3) or 0 in motion.shape for motion in motions
    ):
        raise ValueError(f"displacements: expected (T, V, 3) each, found {[motion.shape for motion in motions]}")
    if not tolerance_mm > 0:
        raise ValueError(f"tolerance_mm: expected above 0, found {tolerance_mm}")
    count = motions[0].shape[1]
    ends = np.cumsum([len(motion) for motion in motions])
    rest = np.concatenate([motion.reshape(len(motion), -1) for motion in motions])  # (sum of T, 3 V), for now the whole
    apexes = np.zeros((len(motions), 3 * count), np.float32)
    weights = np.zeros((len(rest), len(motions)), np.float32)
    for number, rows in enumerate(np.split(np.arange(len(rest)), ends[:-1])):
        apex = rest[rows[np.square(rest[rows]).sum(axis=1).argmax()]]
        apexes[number] = apex
        weights[rows, number] = rest[rows] @ apex / max(float(apex @ apex), np.finfo(float).tiny)
        rest[rows] -= np.outer(weights[rows, number].astype(np.float64), apexes[number])
    # left singular vectors, the strongest first; there are fewer frames than coordinates
    left = np.linalg.eigh(rest @ rest.T)[1][:, ::-1]
    peak = left[np.abs(left).argmax(axis=0), np.arange(len(rest))]
    own = (left / peak).astype(np.float32)
    details = ((left * peak).T @ rest).astype(np.float32)  # (sum of T, 3 V)
    kept = 0
    while (error := _largest(rest)).max() >= tolerance_mm and kept < len(details):
        rest -= np.outer(own[:, kept].astype(np.float64), details[kept])
        kept += 1
    targets = np.concatenate([apexes, details[:kept]]).reshape(-1, count, 3)
    return MorphTargets(
        targets,
        np.split(np.concatenate([weights, own[:, :kept]], axis=1), ends[:-1]),
        [float(part.max()) for part in np.split(error, ends[:-1])],
    )


def _largest(rest: np.ndarray) -> np.ndarray:
    """The longest of the vectors of each frame (T, 3 V), in millimetres (T,)."""
    return 1e3 * np.sqrt((rest.reshape(len(rest), -1, 3) ** 2).sum(axis=2).max(axis=1))


def animated_glb(
    motions: Mapping[str, np.ndarray],
    faces: np.ndarray,
    *,
    colors: np.ndarray,
    neutral: np.ndarray | None = None,
    fps: float = 25,
    name: str = "face",
) -> bytes:
    """A head that moves as the content of a GLB file: one mesh, one animation of its morph targets per motion. The
    largest distance of a vertex from where it should be is in the ``extras`` of mesh and animations.

    Args:
        motions: (T, V, 3) metres, y up, by the name of the animation.
        faces: (F, 3) triangles, counter-clockwise seen from outside.
        colors: (V, 3) linear RGB in 0..1.
        neutral: (V, 3) base mesh; default: frame 0 of the first motion.
        fps: frames per second; between frames viewers interpolate linearly.
        name: of the mesh.

    Raises:
        ValueError: wrong shapes, NaN or infinity.
        InputError: pygltflib is not installed.
    """
    frames, faces = [np.asarray(motion, np.float64) for motion in motions.values()], np.asarray(faces)
    for label, motion in zip(motions, frames):
        if motion.ndim != 3 or motion.shape[2] != 3 or 0 in motion.shape or not np.isfinite(motion).all():
            raise ValueError(f"{label}: expected finite numbers (T, V, 3), found {motion.shape}")
    if not frames:
        raise ValueError("motions: expected at least one, found none")
    base = frames[0][0] if neutral is None else np.asarray(neutral, np.float64)
    for label, array in (
        ("neutral", base),
        ("colors", colors),
        *((label, motion[0]) for label, motion in motions.items()),
    ):
        if np.shape(array) != frames[0].shape[1:]:
            raise ValueError(f"{label}: expected {frames[0].shape[1:]}, found {np.shape(array)}")
    if (
        faces.ndim != 2
        or faces.shape[1] != 3
        or faces.dtype.kind not in "iu"
        or faces.min() < 0
        or faces.max() >= len(base)
    ):
        raise ValueError(f"faces: expected vertex numbers (F, 3) below {len(base)}, found {faces.dtype} {faces.shape}")
    if not fps > 0:
        raise ValueError(f"fps: expected above 0, found {fps}")
    base = base.astype(np.float32)
    morphs = morph_targets([motion - base for motion in frames])
    base_normals = _unit_normals(base, faces)
    most = MAX_BYTES + MAX_BYTES_MORE * (len(frames) - 1)
    with_normals = 24 * morphs.targets.size / 3 + 110 * len(base) < most
    normals = _target_normals(frames, faces, base_normals, morphs.weights) if with_normals else None
    said = {
        "frames": sum(map(len, frames)),
        "fps": fps,
        "components": len(morphs.targets),
        "max_error_mm": round(max(morphs.max_error_mm), 6),
        "tolerance_mm": TOLERANCE_MM,
    }
    writer = _Writer(name)
    details = range(1, len(morphs.targets) - len(frames) + 1)
    writer.meshes(
        base,
        base_normals,
        faces,
        colors,
        {name: morphs.targets[k] for k, name in enumerate([*motions, *(f"detail {number}" for number in details)])},
        normals,
        said,
    )
    for label, weights, reached in zip(motions, morphs.weights, morphs.max_error_mm):
        writer.animation(label, fps, weights, {"frames": len(weights), "max_error_mm": round(reached, 6)})
    return writer.bytes()


def _unit_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3); vertices in no triangle look forward, since the format wants unit vectors everywhere."""
    normals = vertex_normals(vertices, faces)
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0, 0, 1)
    return normals


def _target_normals(
    motions: Sequence[np.ndarray], faces: np.ndarray, base_normals: np.ndarray, weights: Sequence[np.ndarray]
) -> np.ndarray:
    """Normals (K, V, 3) of the targets: those whose weighted sum is closest to every frame's normals (least squares).

    Normals do not depend linearly on positions, so the targets' own normals would be worse.
    """
    change = np.stack([_unit_normals(frame, faces) - base_normals for motion in motions for frame in motion])
    fitted = np.linalg.pinv(np.concatenate(weights).astype(np.float64)) @ change.reshape(len(change), -1)
    return fitted.reshape(-1, *base_normals.shape).astype(np.float32)


class _Writer:
    """One glTF document and its binary chunk."""

    def __init__(self, name: str) -> None:
        try:
            import pygltflib
        except ImportError:
            raise InputError(
                "pygltflib", "the package that writes GLB files (pip install pygltflib)", "it is not installed"
            ) from None
        self.format, self.name = pygltflib, name
        self.document: GLTF2 = pygltflib.GLTF2(asset=pygltflib.Asset(version="2.0", generator="face4d"))
        self.chunk = bytearray()

    def _accessor(self, array: np.ndarray, kind: str, target: int | None = None, *, bounds: bool = False) -> int:
        """Append an array to the chunk, 4 bytes aligned, and describe it; returns the accessor's number."""
        component = {"f": self.format.FLOAT, "u2": self.format.UNSIGNED_SHORT, "u4": self.format.UNSIGNED_INT}
        code = "f" if array.dtype.kind == "f" else f"u{array.dtype.itemsize}"
        data = np.ascontiguousarray(array, {"f": "<f4"}.get(code, "<" + code))
        self.document.bufferViews.append(
            self.format.BufferView(buffer=0, byteOffset=len(self.chunk), byteLength=data.nbytes, target=target)
        )
        self.chunk += data.tobytes() + bytes(-data.nbytes % 4)
        accessor = self.format.Accessor(
            bufferView=len(self.document.bufferViews) - 1, componentType=component[code], type=kind,
            count=data.size if kind == "SCALAR" else len(data),
        )  # fmt: skip
        if bounds:
            rows = data.reshape(accessor.count, -1)
            accessor.min, accessor.max = rows.min(axis=0).tolist(), rows.max(axis=0).tolist()
        self.document.accessors.append(accessor)
        return len(self.document.accessors) - 1

    def meshes(
        self,
        base: np.ndarray,
        base_normals: np.ndarray,
        faces: np.ndarray,
        colors: np.ndarray,
        targets: Mapping[str, np.ndarray],
        normals: np.ndarray | None,
        said: dict[str, Any],
    ) -> None:
        """The skin and what is seen behind it through mouth and nostrils, with their morph targets, and the scene that
        shows both; ``targets`` (V, 3) each by name, ``colors`` (V, 3).
        """
        lib, vertex_data = self.format, self.format.ARRAY_BUFFER
        small = len(base) < 65535  # that index means "start again" to some graphics cards
        indices = [
            self._accessor(
                np.ascontiguousarray(order.astype("<u2" if small else "<u4")).ravel(),
                "SCALAR",
                lib.ELEMENT_ARRAY_BUFFER,
            )
            for order in (faces, faces[:, ::-1])
        ]
        morphs = []
        for number, target in enumerate(targets.values()):
            morphs.append({"POSITION": self._accessor(target, "VEC3", vertex_data, bounds=True)})
            if normals is not None:
                morphs[-1]["NORMAL"] = self._accessor(normals[number], "VEC3", vertex_data)
        layers = (
            ("", (1.0, 1.0, 1.0), base),
            (" inside", _INSIDE, base - np.float32(_INSIDE_DEPTH) * base_normals.astype(np.float32)),
        )
        for suffix, material, positions in layers:
            attributes = lib.Attributes(
                POSITION=self._accessor(positions, "VEC3", vertex_data, bounds=True),
                NORMAL=self._accessor(base_normals, "VEC3", vertex_data),  # some viewers make their own in its place
            )
            if not suffix:
                attributes.COLOR_0 = self._accessor(np.clip(np.asarray(colors, np.float32), 0, 1), "VEC3", vertex_data)
            number = len(self.document.meshes)
            surface = lib.PbrMetallicRoughness(
                baseColorFactor=[*material, 1.0], metallicFactor=0.0, roughnessFactor=0.9 if suffix else 0.6
            )
            self.document.materials.append(
                lib.Material(name="inside" if suffix else "skin", pbrMetallicRoughness=surface, doubleSided=not suffix)
            )
            primitive = lib.Primitive(
                attributes=attributes, indices=indices[number], material=number, mode=lib.TRIANGLES, targets=morphs
            )
            extras = {"targetNames": list(targets), **({} if suffix else said)}
            self.document.meshes.append(
                lib.Mesh(name=self.name + suffix, primitives=[primitive], weights=[0.0] * len(morphs), extras=extras)
            )
            self.document.nodes.append(lib.Node(name=self.name + suffix, mesh=number))
        self.document.scenes.append(lib.Scene(nodes=[0, 1]))
        self.document.scene = 0

    def animation(self, label: str, fps: float, weights: np.ndarray, said: dict[str, Any]) -> None:
        """Weights (T, K) of the morph targets, frame by frame, linear in between."""
        lib, seconds = self.format, np.arange(len(weights), dtype=np.float32) / np.float32(fps)
        sampler = lib.AnimationSampler(
            input=self._accessor(seconds, "SCALAR", bounds=True),
            output=self._accessor(weights, "SCALAR"),
            interpolation="LINEAR",
        )
        targets = [lib.AnimationChannelTarget(node=node, path="weights") for node in range(len(self.document.nodes))]
        channels = [lib.AnimationChannel(sampler=0, target=target) for target in targets]
        self.document.animations.append(lib.Animation(name=label, samplers=[sampler], channels=channels, extras=said))

    def bytes(self) -> bytes:
        """The whole file."""
        self.document.buffers.append(self.format.Buffer(byteLength=len(self.chunk)))
        self.document.set_binary_blob(bytes(self.chunk))
        return b"".join(self.document.save_to_bytes())
