"""The face that an encoder's codes describe: geometry from a FLAME-format model, colours from FLAME's texture models.

The geometry is the demo head's or that of a folder, with its texture layout; a texture model is a mean and
directions, in the layout of FLAME's template.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from face4d.deca.networks import CodeLayout, FaceCode
from face4d.errors import InputError
from face4d.flame.layer import FlameLayer
from face4d.flame.model import FlameModel, find_model, load_flame_model
from face4d.landmarks import LandmarkEmbedding, load_flame_embedding
from face4d.mesh.geometry import vertex_normals
from face4d.render.lit import shade
from face4d.render.texture import UvLayout, UvMap, find_layout, sample
from face4d.runtime.arrays import ZipArchive, ZipMember, read_npy_header
from face4d.runtime.files import open_file

_ALL_CODES = CodeLayout()
DEMO = "demo"  # the name of the built-in head, in place of a folder


@dataclass(frozen=True)
class FaceModel:
    """A face model ready for use.

    Attributes:
        source: ``demo`` or the folder it came from.
        model: its arrays.
        layer: the same as a layer with landmarks.
        uv: its texture layout.
        fingerprint: numbers that tell models apart; the codes of an encoder hold for one model only.
        folder: where its files are, None of the demo head.
        embedding: its 68 landmarks.
        own_shape: identity directions that are the model's own; those after them are smooth displacements.
    """

    source: str
    model: FlameModel
    layer: FlameLayer
    uv: UvLayout
    fingerprint: tuple[float, ...]
    folder: Path | None
    embedding: LandmarkEmbedding
    own_shape: int

    def is_model_of(self, fingerprint: Sequence[float]) -> bool:
        """Whether a fingerprint is this model's, up to the rounding of other machines."""
        return len(fingerprint) == len(self.fingerprint) and np.allclose(
            fingerprint, self.fingerprint, rtol=1e-3, atol=1e-5
        )

    def pose(self, code: FaceCode) -> tuple[Tensor, Tensor]:
        """Vertices (B, V, 3) and landmarks (B, 68, 3), metres, as seen in the photo: expression, jaw and head pose."""
        out = self.layer(
            shape=code.shape, expression=code.expression, global_pose=code.pose[:, :3], jaw_pose=code.pose[:, 3:]
        )
        return out.vertices, out.landmarks

    def neutral(self, shape: Tensor) -> Tensor:
        """Vertices (B, V, 3) metres of identities (B, S): no expression, mouth closed, looking ahead."""
        return self.layer(shape=shape).vertices

    def unturned(self, code: FaceCode) -> Tensor:
        """Vertices (B, V, 3) metres with expression and jaw, the head looking ahead."""
        return self.layer(shape=code.shape, expression=code.expression, jaw_pose=code.pose[:, 3:]).vertices


def load_face_model(
    source: str | Path, layout: CodeLayout = _ALL_CODES, device: torch.device | str = "cpu", contour: str = "geometry"
) -> FaceModel:
    """The model of ``source``: ``demo``, a folder such as ``models/flame``, or one model file in such a folder.

    ``contour`` says which jaw line points a turned head has, see :class:`~face4d.flame.layer.FlameLayer`.

    Raises:
        InputError: a missing file (says where it comes from) or one of other content.
    """
    if str(source) == DEMO:
        from face4d.demo.flame import demo_embedding, demo_flame_model

        model, embedding, folder = demo_flame_model(), demo_embedding(), None
    else:
        if not Path(source).exists():
            expected = (
                "a face model: demo, or a folder with FLAME (https://flame.is.tue.mpg.de, after registration; "
                "--flame DIR names it)"
            )
            raise InputError(source, expected, "nothing of that name")
        file = find_model(source)
        model, embedding, folder = load_flame_model(file), load_flame_embedding(file.parent), file.parent
    return build_face_model(str(source), model, embedding, folder, layout, device, contour)


def build_face_model(
    source: str,
    model: FlameModel,
    embedding: LandmarkEmbedding,
    folder: Path | None = None,
    layout: CodeLayout = _ALL_CODES,
    device: torch.device | str = "cpu",
    contour: str = "geometry",
) -> FaceModel:
    """A :class:`FaceModel` of arrays; ``folder`` may hold a texture layout."""
    layer = FlameLayer(model, embedding, num_shape=layout.shape, num_expression=layout.expression, contour=contour).to(
        device
    )
    uv = find_layout(folder, model.template, model.faces)
    return FaceModel(source, model, layer, uv, _fingerprint(model), folder, embedding, layer.num_shape)


def _fingerprint(model: FlameModel) -> tuple[float, ...]:
    """Numbers that differ between models: V, and the template and every direction weighted over the vertices."""
    weight = np.cos(np.arange(3 * model.num_vertices)).reshape(-1, 3)
    parts = (model.template[..., None], model.shape_directions, model.expression_directions)
    sums = [np.einsum("vc,vck->k", weight, part.astype(np.float64)) for part in parts]
    return float(model.num_vertices), *np.concatenate(sums).round(9).tolist()


_RANGES = {("MU", "PC"): 1.0, ("mean", "tex_dir"): 255.0}  # names of mean and directions: the value of white
# the first is what DECA's published weights were trained with
TEXTURE_FILES = ("FLAME_albedo_from_BFM.npz", "FLAME_texture.npz")
_EXPECTED = "a FLAME texture model (npz with MU and PC, or mean and tex_dir)"
_PIECE = 64 << 20  # bytes read at once
_MOST_TEXELS = 4096 * 4096


@dataclass(frozen=True)
class TextureModel:
    """Albedo = mean + sum over k of coefficient_k direction_k.

    Attributes:
        path: the file.
        mean: (S, S, 3) float32 RGB in 0..1, row 0 at v = 1.
        directions: (S * S * 3, K) float32, of the same entries.
    """

    path: Path
    mean: np.ndarray
    directions: np.ndarray

    def albedo(self, coefficients: np.ndarray, texels: UvMap) -> np.ndarray:
        """A face's colours without light.

        Args:
            coefficients: (K,).
            texels: of the texture wanted.

        Returns:
            (T, T, 3) RGB in 0..1, bilinear in the model's texels; as far as the model has it beyond the surface, too.
        """
        coefficients = np.asarray(coefficients, np.float32)
        picture = self.mean + (self.directions @ coefficients).reshape(self.mean.shape)
        size, own = len(texels.triangle), len(picture)
        if size == own:
            return picture.clip(0, 1)
        row, column = np.mgrid[:size, :size]
        places = (np.stack([column.ravel(), row.ravel()], axis=1) + 0.5) * (own / size) - 0.5
        return sample(picture, places).reshape(size, size, 3).clip(0, 1)


def lit(albedo: np.ndarray, texels: UvMap, vertices: np.ndarray, faces: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Colours in a photo's light.

    Args:
        albedo: (T, T, 3).
        texels: of the same size.
        vertices: (V, 3) metres, posed as in the photo.
        faces: (F, 3).
        light: (9, 3), see :func:`~face4d.render.lit.shade`.

    Returns:
        (T, T, 3), not clipped; zero beyond the surface.
    """
    normals = texels.spread(vertex_normals(vertices, faces), faces)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    shading = shade(
        torch.from_numpy(normals.astype(np.float32))[None], torch.as_tensor(light, dtype=torch.float32)[None]
    )[0].numpy()
    colours = np.zeros(albedo.shape)
    colours[texels.covered] = albedo[texels.covered] * np.maximum(shading, 0)
    return colours


def find_texture_model(folder: str | Path | None) -> Path | None:
    """The first of ``TEXTURE_FILES`` that is in a face model's folder; None without one, or without a folder."""
    places = [Path(folder) / name for name in TEXTURE_FILES] if folder is not None else []
    return next((place for place in places if place.is_file()), None)


def load_texture_model(path: str | Path, count: int) -> TextureModel:
    """Read the first ``count`` directions of a texture model.

    Two layouts are published, both with blue before green before red, rows from the top (v = 1) and a direction per
    standard deviation: ``FLAME_albedo_from_BFM.npz`` (made by the BFM_to_FLAME program from the Basel Face Model 2017;
    ``MU`` (786432,), ``PC`` (786432, 199), colours in 0..1) and ``FLAME_texture.npz`` of the FLAME site (``mean`` (512,
    512, 3), ``tex_dir`` (512, 512, 3, 200), colours in 0..255). Squares of other sides are read as well. Nothing in the
    file is run, and of its 1.3 GB only what is asked for is kept (160 MB of 50 directions).

    Raises:
        InputError: no such file, a damaged one, other arrays, or fewer directions than ``count``.
    """
    path = Path(path)
    with open(open_file(path, _EXPECTED), "rb") as file:
        archive = ZipArchive(file, path, _EXPECTED)
        names = {name.removesuffix(".npy") for name in archive.members if name.endswith(".npy")}
        kind = next((kind for kind in _RANGES if names.issuperset(kind)), None)
        if kind is None:
            raise InputError(path, _EXPECTED, f"arrays {', '.join(sorted(names)) or 'none'}")
        mean = _leading(path, kind[0], archive.open(f"{kind[0]}.npy"), None)
        side = math.isqrt(len(mean) // 3)
        if 3 * side * side != len(mean):
            raise InputError(path, "a square picture of three colours as mean", f"{len(mean)} numbers")
        directions = _leading(path, kind[1], archive.open(f"{kind[1]}.npy"), count, rows=len(mean))
    if not (np.isfinite(mean).all() and np.isfinite(directions).all()):
        raise InputError(path, "finite colours", "NaN or infinity")
    white = _RANGES[kind]
    if not 0.01 < mean.mean() / white < 1:
        raise InputError(path, f"a mean colour in 0..{white:g}", f"{mean.mean():g}")
    # red first from here on
    mean, directions = mean.reshape(-1, 3)[:, ::-1] / white, directions.reshape(-1, 3, count)[:, ::-1] / white
    return TextureModel(path, mean.reshape(side, side, 3), directions.reshape(-1, count))


def _leading(path: Path, name: str, file: ZipMember, count: int | None, rows: int | None = None) -> np.ndarray:
    """The first ``count`` entries along an array's last axis (N, count), or with None all of it (N,); float32, read
    piece by piece.
    """
    header = read_npy_header(file, file.size, path, _EXPECTED)
    shape, is_fortran, dtype = header.shape, header.fortran, np.dtype(object) if header.type is None else header.type
    inner, last = (shape, 1) if count is None else (shape[:-1], shape[-1] if shape else 0)
    length = math.prod(inner)
    if (
        dtype.kind not in "fiu"
        or not 0 < length <= 3 * _MOST_TEXELS
        or rows not in (None, length)
        or last < (count or 1)
    ):
        wanted = "numbers" if count is None else f"numbers ({rows}, {count} or more)"
        raise InputError(path, f"{name} of {wanted}", f"{dtype} {shape}")
    if is_fortran:  # the last axis is the outermost
        values = np.frombuffer(file.read(length * (count or 1) * dtype.itemsize), dtype).astype(np.float32)
        return values.reshape((*inner, count or 1), order="F").reshape((length, -1) if count else -1)
    kept = np.empty((length, count or 1), np.float32)
    step = max(1, _PIECE // (last * dtype.itemsize))
    for start in range(0, length, step):
        stop = min(start + step, length)
        kept[start:stop] = np.frombuffer(file.read((stop - start) * last * dtype.itemsize), dtype).reshape(-1, last)[
            :, : count or 1
        ]
    return kept if count else kept[:, 0]
