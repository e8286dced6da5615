"""FLAME's texture models: the colours of faces as a mean and directions, in the layout of FLAME's template."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from face4d.errors import InputError
from face4d.reconstruction.camera import shade
from face4d.reconstruction.texture import UvMap, sample, vertex_normals
from face4d.runtime.arrays import read_npy_header
from face4d.runtime.files import open_file
from face4d.runtime.zip_archive import ZipArchive, ZipMember

_RANGES = {("MU", "PC"): 1.0, ("mean", "tex_dir"): 255.0}  # names of mean and directions: the value of white
TEXTURE_FILES = ("FLAME_albedo_from_BFM.npz", "FLAME_texture.npz")  # the first is what DECA's published weights were trained with
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
        light: (9, 3), see :func:`~face4d.reconstruction.camera.shade`.

    Returns:
        (T, T, 3), not clipped; zero beyond the surface.
    """
    normals = texels.spread(vertex_normals(np.asarray(vertices, np.float64), faces), faces)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    shading = shade(torch.from_numpy(normals.astype(np.float32))[None], torch.as_tensor(light, dtype=torch.float32)[None])[0].numpy()
    colours = np.zeros(albedo.shape)
    colours[texels.covered] = albedo[texels.covered] * np.maximum(shading, 0)
    return colours


def find_texture_model(folder: str | Path | None) -> Path | None:
    """The first of ``TEXTURE_FILES`` that is in a face model's folder; None without one, or without a folder."""
    places = [Path(folder) / name for name in TEXTURE_FILES] if folder is not None else []
    return next((place for place in places if place.is_file()), None)


def load_texture_model(path: str | Path, count: int) -> TextureModel:
    """Read the first ``count`` directions of a texture model.

    Two layouts are published, both with blue before green before red, rows from the top (v = 1) and a direction per standard deviation:
    ``FLAME_albedo_from_BFM.npz`` (made by the BFM_to_FLAME program from the Basel Face Model 2017; ``MU`` (786432,), ``PC`` (786432, 199), colours
    in 0..1) and ``FLAME_texture.npz`` of the FLAME site (``mean`` (512, 512, 3), ``tex_dir`` (512, 512, 3, 200), colours in 0..255). Squares of
    other sides are read as well. Nothing in the file is run, and of its 1.3 GB only what is asked for is kept (160 MB of 50 directions).

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
    mean, directions = mean.reshape(-1, 3)[:, ::-1] / white, directions.reshape(-1, 3, count)[:, ::-1] / white  # red first from here on
    return TextureModel(path, mean.reshape(side, side, 3), directions.reshape(-1, count))


def _leading(path: Path, name: str, file: ZipMember, count: int | None, rows: int | None = None) -> np.ndarray:
    """The first ``count`` entries along an array's last axis (N, count), or with None all of it (N,); float32, read piece by piece."""
    header = read_npy_header(file, file.size, path, _EXPECTED)
    shape, is_fortran, dtype = header.shape, header.fortran, np.dtype(object) if header.type is None else header.type
    inner, last = (shape, 1) if count is None else (shape[:-1], shape[-1] if shape else 0)
    length = math.prod(inner)
    if dtype.kind not in "fiu" or not 0 < length <= 3 * _MOST_TEXELS or rows not in (None, length) or last < (count or 1):
        wanted = "numbers" if count is None else f"numbers ({rows}, {count} or more)"
        raise InputError(path, f"{name} of {wanted}", f"{dtype} {shape}")
    if is_fortran:  # the last axis is the outermost
        values = np.frombuffer(file.read(length * (count or 1) * dtype.itemsize), dtype).astype(np.float32)
        return values.reshape((*inner, count or 1), order="F").reshape((length, -1) if count else -1)
    kept = np.empty((length, count or 1), np.float32)
    step = max(1, _PIECE // (last * dtype.itemsize))
    for start in range(0, length, step):
        stop = min(start + step, length)
        kept[start:stop] = np.frombuffer(file.read((stop - start) * last * dtype.itemsize), dtype).reshape(-1, last)[:, : count or 1]
    return kept if count else kept[:, 0]
