"""Moving meshes as one animated GLB file (glTF 2.0), played by browsers and Blender.

The motion is a matrix of displacements from the base mesh, one row per frame. Its singular value decomposition gives
morph targets (right vectors) and their weights over time (left vectors); as few of them are kept as bring every vertex
of every frame closer than the tolerance: components are added one by one, the strongest first, and the worst vertex is
measured with the numbers rounded as they are in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from face4d.errors import InputError
from face4d.mesh.geometry import vertex_normals
from face4d.render.occlusion import light_of_motion, occlusion_tint
from face4d.runtime.atomic import write_bytes

if TYPE_CHECKING:
    from pygltflib import GLTF2

__all__ = ["GlbSummary", "MorphTargets", "morph_targets", "write_glb"]

TOLERANCE_MM = 0.05
SKIN = (0.86, 0.60, 0.48)  # linear RGB reflectance of a mesh without colours
MAX_BYTES = 8_000_000  # beyond it the targets go without normals of their own, which saves half

# The surface again, dark, a little further in and seen from inside only: without it an open mouth would show the lit
# inside of the back of the head. It shares its morph targets with the skin, and is an object of its own, to be deleted
# where it is not wanted.
_INSIDE, _INSIDE_DEPTH = (0.05, 0.02, 0.02), 5e-4  # linear RGB; metres


@dataclass(frozen=True)
class MorphTargets:
    """A motion as ``base + weights @ targets``.

    Attributes:
        targets: (K, V, 3) float32, metres.
        weights: (T, K) float32, each column's largest magnitude is 1.
        max_error_mm: the largest distance of a vertex of a frame from where it should be.
    """

    targets: np.ndarray
    weights: np.ndarray
    max_error_mm: float


@dataclass(frozen=True)
class GlbSummary:
    """What :func:`write_glb` wrote.

    Attributes:
        components: number K of morph targets.
        max_error_mm: largest distance of a vertex of a frame in the file from the vertex given.
        morph_normals: whether every target has normals too (else viewers shade with those of the base mesh).
        bytes: size of the file.
    """

    components: int
    max_error_mm: float
    morph_normals: bool
    bytes: int


def morph_targets(displacement: np.ndarray, tolerance_mm: float = TOLERANCE_MM) -> MorphTargets:
    """The fewest principal components that reproduce a motion within a tolerance at every vertex of every frame.

    Args:
        displacement: (T, V, 3) from the base mesh, metres.
        tolerance_mm: every vertex ends up closer than this, above 0. All T components are kept where rounding to
            float32 is coarser.

    Raises:
        ValueError: wrong shape, no frames or a tolerance that is not above 0.
    """
    displacement = np.asarray(displacement, np.float64)
    if displacement.ndim != 3 or displacement.shape[2] != 3 or 0 in displacement.shape:
        raise ValueError(f"displacement: expected (T, V, 3), found {displacement.shape}")
    if not tolerance_mm > 0:
        raise ValueError(f"tolerance_mm: expected above 0, found {tolerance_mm}")
    frames, count, _ = displacement.shape
    rest = displacement.reshape(frames, -1).copy()  # what the components so far leave over
    # (T, T) left singular vectors, the strongest first; T is small, 3 V is not
    left = np.linalg.eigh(rest @ rest.T)[1][:, ::-1]
    peak = left[np.abs(left).argmax(axis=0), np.arange(frames)]
    weights = (left / peak).astype(np.float32)
    targets = ((left * peak).T @ rest).astype(np.float32)  # (T, 3 V)
    for components in range(1, frames + 1):
        rest -= np.outer(weights[:, components - 1].astype(np.float64), targets[components - 1])
        error = 1e3 * float(np.sqrt((rest.reshape(frames, count, 3) ** 2).sum(axis=2).max()))
        if error < tolerance_mm:
            break
    return MorphTargets(targets[:components].reshape(components, count, 3), weights[:, :components], error)


def write_glb(
    path: str | Path,
    vertices: np.ndarray,
    faces: np.ndarray,
    *,
    neutral: np.ndarray | None = None,
    fps: float = 25,
    tolerance_mm: float = TOLERANCE_MM,
    colors: np.ndarray | None = None,
    name: str = "face",
) -> GlbSummary:
    """Write a moving mesh as a GLB with one morph-target animation, whole or not at all.

    Args:
        path: file to write.
        vertices: (T, V, 3) metres, y up.
        faces: (F, 3) triangles, counter-clockwise seen from outside.
        neutral: (V, 3) base mesh; default frame 0.
        fps: frames per second; between frames viewers interpolate linearly.
        tolerance_mm: see :func:`morph_targets`; the error reached is in the summary and in the mesh's ``extras``.
        colors: (V, 3) linear RGB in 0..1, else one skin-like colour, dark where no light comes, as in the mouth.
        name: of the mesh and of the animation.

    Raises:
        ValueError: wrong shapes, NaN or infinity.
        InputError: pygltflib is not installed.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    if vertices.ndim != 3 or vertices.shape[2] != 3 or 0 in vertices.shape or not np.isfinite(vertices).all():
        raise ValueError(f"vertices: expected finite numbers (T, V, 3), found {vertices.shape}")
    base = vertices[0] if neutral is None else np.asarray(neutral, np.float64)
    for label, array in (("neutral", base), ("colors", colors)):
        if array is not None and np.shape(array) != vertices.shape[1:]:
            raise ValueError(f"{label}: expected {vertices.shape[1:]}, found {np.shape(array)}")
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
    motion = morph_targets(vertices - base, tolerance_mm)
    base_normals = _unit_normals(base, faces)
    with_normals = 24 * motion.targets.size / 3 + 110 * len(base) < MAX_BYTES
    normals = _target_normals(vertices, faces, base_normals, motion.weights) if with_normals else None
    said = {
        "frames": len(vertices),
        "fps": fps,
        "components": len(motion.targets),
        "max_error_mm": round(motion.max_error_mm, 6),
    }
    writer = _Writer(name)
    skin = (1.0, 1.0, 1.0) if colors is not None else SKIN
    if colors is None:
        colors = occlusion_tint(light_of_motion(vertices, faces), [dark / own for dark, own in zip(_INSIDE, SKIN)])
    writer.meshes(
        base, base_normals, faces, skin, colors, motion.targets, normals, {**said, "tolerance_mm": tolerance_mm}
    )
    writer.animation(np.arange(len(vertices), dtype=np.float32) / np.float32(fps), motion.weights)
    data = writer.bytes()
    write_bytes(path, data)
    return GlbSummary(len(motion.targets), motion.max_error_mm, normals is not None, len(data))


def _unit_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3); vertices in no triangle look forward, since the format wants unit vectors everywhere."""
    normals = vertex_normals(vertices, faces)
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0, 0, 1)
    return normals


def _target_normals(
    vertices: np.ndarray, faces: np.ndarray, base_normals: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Normals (K, V, 3) of the targets: those whose weighted sum is closest to every frame's normals (least squares).

    Normals do not depend linearly on positions, so the targets' own normals would be worse.
    """
    change = np.stack([_unit_normals(frame, faces) - base_normals for frame in vertices])  # (T, V, 3)
    fitted = np.linalg.pinv(weights.astype(np.float64)) @ change.reshape(len(change), -1)
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
        skin: tuple[float, float, float],
        colors: np.ndarray,
        targets: np.ndarray,
        normals: np.ndarray | None,
        said: dict[str, Any],
    ) -> None:
        """The skin and what is seen behind it through mouth and nostrils, with their morph targets, and the scene that
        shows both.

        The skin's colour is ``skin`` times ``colors`` (V, 3).
        """
        lib, vertex_data = self.format, self.format.ARRAY_BUFFER
        small = len(base) < 65535  # that index means "start again" to some graphics cards
        shared_normals = self._accessor(base_normals, "VEC3", vertex_data)
        indices = [
            self._accessor(
                np.ascontiguousarray(order.astype("<u2" if small else "<u4")).ravel(),
                "SCALAR",
                lib.ELEMENT_ARRAY_BUFFER,
            )
            for order in (faces, faces[:, ::-1])
        ]
        morphs = []
        for number, target in enumerate(targets):
            morphs.append({"POSITION": self._accessor(target, "VEC3", vertex_data, bounds=True)})
            if normals is not None:
                morphs[-1]["NORMAL"] = self._accessor(normals[number], "VEC3", vertex_data)
        names = [f"component {number + 1}" for number in range(len(morphs))]
        layers = (
            ("", skin, base),
            (" inside", _INSIDE, base - np.float32(_INSIDE_DEPTH) * base_normals.astype(np.float32)),
        )
        for suffix, material, positions in layers:
            attributes = lib.Attributes(
                POSITION=self._accessor(positions, "VEC3", vertex_data, bounds=True), NORMAL=shared_normals
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
            extras = {"targetNames": names, **({} if suffix else said)}
            self.document.meshes.append(
                lib.Mesh(name=self.name + suffix, primitives=[primitive], weights=[0.0] * len(morphs), extras=extras)
            )
            self.document.nodes.append(lib.Node(name=self.name + suffix, mesh=number))
        self.document.scenes.append(lib.Scene(nodes=[0, 1]))
        self.document.scene = 0

    def animation(self, seconds: np.ndarray, weights: np.ndarray) -> None:
        """Weights (T, K) of the morph targets at times (T,), linear in between."""
        lib = self.format
        sampler = lib.AnimationSampler(
            input=self._accessor(seconds, "SCALAR", bounds=True),
            output=self._accessor(weights, "SCALAR"),
            interpolation="LINEAR",
        )
        targets = [lib.AnimationChannelTarget(node=node, path="weights") for node in range(len(self.document.nodes))]
        channels = [lib.AnimationChannel(sampler=0, target=target) for target in targets]
        self.document.animations.append(lib.Animation(name=self.name, samplers=[sampler], channels=channels))

    def bytes(self) -> bytes:
        """The whole file."""
        self.document.buffers.append(self.format.Buffer(byteLength=len(self.chunk)))
        self.document.set_binary_blob(bytes(self.chunk))
        return b"".join(self.document.save_to_bytes())
