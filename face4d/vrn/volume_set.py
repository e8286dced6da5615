"""Training data of the volume network on disk: crops with the volumes of their heads, from renderings or photos.

A face is fitted to each photo, or given, placed in the crop and filled.

    <set>/dataset.json                              what it is made of, written last
    <set>/{dataset_training,dataset_testing}/<name>.npz
        image      (192, 192, 3) uint8 RGB
        volume     (25, 192, 192) uint8, bits along the depth, see voxels.pack
        landmarks  (68, 3) float32, pixels of the crop, the depth 0 on average

A rendered sample takes about 60 kB instead of 7 MB.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from face4d.constants import NUM_LANDMARKS
from face4d.errors import InputError
from face4d.flame.fit import fit_flame
from face4d.flame.layer import FlameLayer
from face4d.mesh.sequence import read_mesh
from face4d.photos.crops import FaceBox, check_inside, read_photo, vrn_crop
from face4d.photos.faces import FaceFinder, read_landmarks
from face4d.runtime.arrays import load_npz
from face4d.runtime.atomic import replacing, write_json
from face4d.runtime.fields import configuration, list_of, mapping, plain, read_json, record, stem, text
from face4d.runtime.files import beside
from face4d.runtime.lock import sole_writer
from face4d.runtime.progress import track
from face4d.vrn.voxels import VRN_GRID, VolumeGrid, pack, unpack, voxelise

log = logging.getLogger(__name__)

RECORD = "dataset.json"
RECORD_FIELDS = record(
    {
        "source": mapping(plain),
        "grid": configuration(VolumeGrid),
        "training": list_of(stem, 1, unique=True),
        "testing": list_of(stem, unique=True),
        "digest": text,
    },
    "the record of a volume set",
)
PARTS = {"training": "dataset_training", "testing": "dataset_testing"}
_HELD_OUT_SEED = 1_000_003  # added to the seed: held-out faces are never training faces
_RENDERED_TOGETHER = 8


@dataclass(frozen=True)
class VolumeSample:
    """A crop and its truth.

    Attributes:
        name: of the photo or rendering.
        image: (S, S, 3) uint8 RGB.
        bits: (ceil(D / 8), S, S) uint8, the volume.
        landmarks: (68, 3) float32 places.
    """

    name: str
    image: np.ndarray = field(repr=False)
    bits: np.ndarray = field(repr=False)
    landmarks: np.ndarray = field(repr=False)

    def volume(self, grid: VolumeGrid = VRN_GRID) -> np.ndarray:
        """``grid.shape`` bool."""
        return unpack(self.bits, grid.depth)


def make_sample(
    name: str,
    image: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    landmarks: np.ndarray,
) -> VolumeSample:
    """A sample of a crop and the mesh in it.

    Args:
        image: (S, S, 3) RGB in 0..1.
        vertices: (V, 3) pixels of the crop, z away from the viewer, its zero anywhere.
        faces: (F, 3).
        landmarks: (68, 3) in the same coordinates.

    Raises:
        InputError: a mesh that leaves the crop's volume empty.
    """
    middle = np.array([0.0, 0.0, np.mean(landmarks[:, 2], dtype=np.float64)])
    volume = voxelise(vertices - middle, faces, VRN_GRID)
    if not volume.any():
        raise InputError(name, "a face mesh that lies in its crop", "one elsewhere, its volume is empty")
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    return VolumeSample(name, pixels, pack(volume), (landmarks - middle).astype(np.float32))


def write_sample(folder: Path, sample: VolumeSample) -> None:
    """Write ``<folder>/<name>.npz``, whole or not at all."""
    with replacing(folder / f"{sample.name}.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, image=sample.image, volume=sample.bits, landmarks=sample.landmarks)


def read_sample(path: str | Path, grid: VolumeGrid = VRN_GRID) -> VolumeSample:
    """Read a sample back.

    Raises:
        InputError: missing, damaged or of another size.
    """
    expected = "a sample of a volume set"
    arrays = load_npz(path, expected, ("image", "volume", "landmarks"))
    sample = VolumeSample(Path(path).stem, arrays["image"], arrays["volume"], arrays["landmarks"])
    shapes = ((grid.height, grid.width, 3), (-(-grid.depth // 8), grid.height, grid.width), (NUM_LANDMARKS, 3))
    found = (sample.image.shape, sample.bits.shape, sample.landmarks.shape)
    if (
        found != shapes
        or sample.image.dtype != np.uint8
        or sample.bits.dtype != np.uint8
        or sample.landmarks.dtype.kind != "f"
    ):
        raise InputError(path, f"{expected}: image, volume, landmarks {shapes}", f"{found}")
    if not np.isfinite(sample.landmarks).all():
        raise InputError(path, f"{expected} with finite landmarks", "NaN or infinity")
    return sample


@dataclass(frozen=True)
class VolumeSet:
    """A set on disk.

    Attributes:
        path: its folder.
        grid: of its volumes.
        training, testing: names of the samples.
        digest: of all of them.
        source: what it was made of.
    """

    path: Path
    grid: VolumeGrid
    training: tuple[str, ...]
    testing: tuple[str, ...]
    digest: str
    source: dict[str, Any]

    def read(self, part: str, name: str) -> VolumeSample:
        """A sample of the part ``training`` or ``testing``."""
        return read_sample(self.path / PARTS[part] / f"{name}.npz", self.grid)

    def samples(self, part: str, most: int | None = None) -> Iterator[VolumeSample]:
        """The samples of a part one after the other, the first ``most``."""
        for name in getattr(self, part)[:most]:
            yield self.read(part, name)


def open_volume_set(path: str | Path) -> VolumeSet:
    """Open a set.

    Raises:
        InputError: none there, or one that was not finished.
    """
    path = Path(path)
    if not (path / RECORD).is_file():
        found = (
            "no such folder" if not path.is_dir() else f"no {RECORD} (an unfinished one? Run the same command again)"
        )
        raise InputError(path, "a volume set ('python Reconstruction/vrn_dataset.py' writes one)", found)
    content = read_json(path / RECORD, RECORD_FIELDS)
    grid = VolumeGrid(**content["grid"])
    return VolumeSet(
        path, grid, tuple(content["training"]), tuple(content["testing"]), content["digest"], content["source"]
    )


def write_volume_set(
    path: str | Path,
    source: dict[str, Any],
    parts: dict[str, Iterable[VolumeSample]],
    *,
    dropped: dict[str, str] | None = None,
    total: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> VolumeSet:
    """Write samples and, last, the record.

    Args:
        source: what the set is made of; a finished set of the same source is left as it is.
        parts: samples for ``training`` and ``testing``, made while they are written.
        dropped: {name: reason} of photos left out; read after the samples, so that making them may add to it.
        total: samples, for the progress bar.
        overwrite: replace a set of another source.

    Raises:
        InputError: a set of another source is there, or no training sample came.
    """
    path = Path(path)
    with sole_writer(path):
        if (path / RECORD).is_file():
            there = open_volume_set(path)
            if there.source == source:
                log.info(
                    "%s: there already, %d training and %d test samples", path, len(there.training), len(there.testing)
                )
                return there
            if not overwrite:
                raise InputError(
                    path, "no volume set there, or one of the same source (--overwrite replaces it)", "another one"
                )
            (path / RECORD).unlink()
        digest = hashlib.sha256()
        names: dict[str, list[str]] = {part: [] for part in PARTS}
        with track(path.name, total=total, unit="head", quiet=quiet) as bar:
            for part, samples in parts.items():
                for sample in samples:
                    write_sample(path / PARTS[part], sample)
                    for array in (sample.image, sample.bits, sample.landmarks):
                        digest.update(np.ascontiguousarray(array).tobytes())
                    names[part].append(sample.name)
                    bar.update()
        if not names["training"]:
            raise InputError(
                path, "photos to make training samples of", f"none that could be used, {len(dropped or {})} left out"
            )
        content = {
            "source": source,
            "grid": asdict(VRN_GRID),
            **names,
            "dropped": dropped or {},
            "digest": digest.hexdigest()[:16],
        }
        write_json(path / RECORD, content)
        return open_volume_set(path)


def rendered_samples(face_model: Any, count: int, seed: int) -> Iterator[VolumeSample]:
    """Rendered heads with their volumes.

    Args:
        face_model: a :class:`~face4d.deca.face_model.FaceModel`.
        count: how many.
        seed: the same heads for the same seed.
    """
    from face4d.render.lit import to_pixels, to_screen
    from face4d.synthetic.faces import SyntheticFaces

    faces = SyntheticFaces(face_model.layer, seed, framing="vrn")
    triangles = face_model.layer.faces.cpu().numpy()
    for start in range(0, count, _RENDERED_TOGETHER):
        batch = faces.batch(_RENDERED_TOGETHER)  # always as many, so that head 5 is the same one in every set of a seed
        vertices = to_pixels(to_screen(batch.vertices, batch.camera), VRN_GRID.width).double().cpu().numpy()
        landmarks = to_pixels(batch.screen_landmarks, VRN_GRID.width).double().cpu().numpy()
        images = batch.images.permute(0, 2, 3, 1).cpu().numpy()
        for number in range(min(_RENDERED_TOGETHER, count - start)):
            yield make_sample(
                f"head_{start + number:06d}", images[number], vertices[number], triangles, landmarks[number]
            )


def write_rendered_set(
    path: str | Path,
    face_model: Any,
    training: int,
    testing: int,
    seed: int,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> VolumeSet:
    """The default training set: renderings of a FLAME-format head, other people in the test part."""
    source = {"kind": "rendered heads", "face_model": face_model.source, "seed": seed}
    source |= {"fingerprint": list(face_model.fingerprint[:12]), "training": training, "testing": testing}
    parts: dict[str, Iterable[VolumeSample]] = {
        "training": rendered_samples(face_model, training, seed),
        "testing": rendered_samples(face_model, testing, seed + _HELD_OUT_SEED),
    }
    return write_volume_set(path, source, parts, total=training + testing, overwrite=overwrite, quiet=quiet)


_MESH_SUFFIXES = (".ply", ".obj")
# x right, y down, z away from the viewer, to x right, y up, z toward the viewer, and back
_TO_VIEWER = np.array([1.0, -1.0, -1.0])


def landmarks_away(path: str | Path, points: np.ndarray) -> np.ndarray:
    """Landmarks (68, 3) with z away from the viewer: mat files of AFLW2000-3D and 300W-LP have it toward the viewer,
    others are taken as they are.

    Raises:
        InputError: landmarks without a depth.
    """
    if points.shape[1] != 3:
        raise InputError(path, "68 landmarks with depth (68, 3)", f"{points.shape}")
    return points * [1.0, 1.0, -1.0] if Path(path).suffix.lower() == ".mat" else points


def fit_to_landmarks(layer: FlameLayer, landmarks: np.ndarray) -> np.ndarray:
    """The face of a FLAME-format model that fits landmarks of a photo.

    Args:
        layer: with ``contour="fixed"`` where the landmarks are points of the surface, as AFLW2000-3D's are.
        landmarks: (68, 3) pixels, z away from the viewer.

    Returns:
        Vertices (V, 3) in the same coordinates.
    """
    rest = layer.landmarks().double().cpu().numpy()[0]
    points = landmarks * _TO_VIEWER
    middle = points.mean(axis=0)
    scale = np.linalg.norm(points - middle) / np.linalg.norm(rest - rest.mean(axis=0))  # pixels per metre
    fit = fit_flame(layer, ((points - middle) / scale).astype(np.float32)[None])
    return (fit.vertices[0].astype(np.float64) * scale + middle) * _TO_VIEWER


class PhotoSamples:
    """Makes samples of photos; iterate once. Photos that cannot be used are left out, with the reason in ``dropped``.

    Args:
        photos: (file, name) of each.
        landmarks: folder with each photo's 68 landmarks with depth, in pixels; a photo without is one without a
            detected face.
        meshes: folder with ``<photo>.ply`` or ``.obj`` in pixels of the photo, z away from the viewer; or None to fit
            ``layer``.
        layer: the face model to fit, ``contour="fixed"``.
    """

    def __init__(
        self,
        photos: Sequence[tuple[Path, str]],
        landmarks: Path,
        *,
        meshes: Path | None = None,
        layer: FlameLayer | None = None,
    ) -> None:
        if not Path(landmarks).is_dir():
            raise InputError(landmarks, "a folder with landmarks named as the photos", "no such folder")
        if meshes is not None and not Path(meshes).is_dir():
            raise InputError(meshes, "a folder with meshes named as the photos", "no such folder")
        self.photos, self.meshes, self.layer = photos, meshes, layer
        self.finder = FaceFinder(landmarks=landmarks)
        self.dropped: dict[str, str] = {}

    def __iter__(self) -> Iterator[VolumeSample]:
        for path, name in self.photos:
            try:
                sample = self.sample(path, name)
            except InputError as error:
                self.dropped[name] = str(error)
                log.warning("left out %s: %s", path, error)
                continue
            yield sample

    def sample(self, path: Path, name: str) -> VolumeSample:
        """The sample of one photo.

        Raises:
            InputError: no photo, no landmarks with depth, no mesh, or a face beside the photo.
        """
        photo = read_photo(path)
        file = self.finder.file(path)
        landmarks = landmarks_away(file, read_landmarks(file))
        box = FaceBox.of_landmarks(landmarks)
        crop = vrn_crop(box)
        check_inside(box, photo)
        vertices, faces = self._mesh(path, landmarks)
        return make_sample(name, crop.warp(photo), crop.to_crop(vertices), faces, crop.to_crop(landmarks))

    def _mesh(self, photo: Path, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.meshes is None:
            if self.layer is None:
                raise InputError(photo, "its mesh, or a face model to fit", "neither")
            return fit_to_landmarks(self.layer, landmarks), self.layer.faces.cpu().numpy()
        if (file := beside(self.meshes, photo.stem, _MESH_SUFFIXES)) is not None:
            return read_mesh(file)
        raise InputError(photo, f"its mesh, {photo.stem} with {', '.join(_MESH_SUFFIXES)}, in {self.meshes}", "none")


def split(photos: Sequence[tuple[Path, str]], testing: float) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """Photos for training and, evenly spread over the names' order, the share ``testing`` of them for testing (at least
    one).
    """
    count = min(max(round(len(photos) * testing), 1), max(len(photos) - 1, 0))
    chosen = set(np.linspace(0, len(photos) - 1, count).round().astype(int).tolist()) if count else set()
    return [photo for number, photo in enumerate(photos) if number not in chosen], [
        photos[number] for number in sorted(chosen)
    ]
