"""A photo's head through its volume: the crop, the network, the surface with the photo's colours; and what that leaves
on disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from face4d.errors import InputError
from face4d.mesh.textured import write_coloured_obj, write_coloured_ply
from face4d.photos.crops import Crop, FaceBox, check_inside, vrn_crop
from face4d.render.pictures import clay, draw, save_picture, textured
from face4d.render.texture import sample
from face4d.runtime.atomic import save_npz
from face4d.runtime.checkpoint import PARALLEL, checked_record, is_checkpoint, load_weights, weights, without_weights
from face4d.runtime.fields import METRICS, Check, configuration, record
from face4d.runtime.torch_file import read_torch_file
from face4d.vrn.config import CHECKPOINT_KIND, VolumeConfig
from face4d.vrn.network import IMAGE_SIZE, VolumeNetwork, for_inference
from face4d.vrn.voxels import VRN_GRID, VolumeGrid, first_layers, largest_part, nme, pack, surface, visible

OWN_FILE = "models/vrn_demo.pt"
CHECKPOINT_FIELDS: dict[str, Check] = {
    "config": configuration(VolumeConfig),
    "grid": configuration(VolumeGrid),
    "source": record({}),
    "model": weights,
    "metrics": METRICS,
}
_PUBLISHED_GRID = VolumeGrid(step=0.5, center=100.0)
_PUBLISHED_LEVEL = 10 / 255
_RIM = 3  # pixels along the outline whose colours may be the background's
_TURN = np.deg2rad(40.0)  # of the second view of the overview
_ENLARGE = 2  # of the crop in the overview


@dataclass(frozen=True)
class LoadedVolumeNetwork:
    """A network ready for use.

    Attributes:
        path: its file.
        network: folded, in evaluation mode.
        grid: what its volumes mean.
        level: probability at which its surface lies.
        published: it wants BGR in 0..255, as the published demonstration feeds it, not RGB in 0..1; and its last layer
            is the nearest one.
        metrics: of its training, where it was ours.
    """

    path: Path
    network: VolumeNetwork
    grid: VolumeGrid
    level: float
    published: bool = False
    metrics: dict[str, Any] = field(default_factory=dict)

    @torch.no_grad()
    def volume(self, picture: np.ndarray) -> np.ndarray:
        """Probabilities (D, 192, 192) float32, layer 0 nearest to the viewer, of a crop (192, 192, 3) RGB in 0..1."""
        like = next(self.network.parameters())
        batch = torch.from_numpy(np.ascontiguousarray(picture, dtype=np.float32)).permute(2, 0, 1)[None]
        if self.published:
            batch = batch.flip(1) * 255
        volume = self.network(batch.to(like.device, memory_format=torch.channels_last))[0]
        return (volume.flip(0) if self.published else volume).contiguous().cpu().numpy()


def load_volume_network(path: str | Path = OWN_FILE, *, device: torch.device | str = "cpu") -> LoadedVolumeNetwork:
    """Load a checkpoint of ``Reconstruction/vrn_train.py``, or the published weights as a state dict of 1917 entries.

    Raises:
        InputError: no such file (says how to get one), damaged, of another kind, or entries that are missing or of
            other shapes.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            path,
            "weights of a volume network ('python Reconstruction/vrn_train.py' writes models/vrn_demo.pt)",
            "no such file",
        )
    content = read_torch_file(path, "weights of a volume network")
    if is_checkpoint(content):
        content = checked_record(path, content, CHECKPOINT_KIND, CHECKPOINT_FIELDS)
        grid = VolumeGrid(**content["grid"])
        if grid.shape != VRN_GRID.shape:
            raise InputError(path, f"a volume of {VRN_GRID.shape} voxels", f"{grid.shape}")
        network = _filled(path, content["config"]["width"], content["model"], "model")
        return LoadedVolumeNetwork(path, network.to(device), grid, 0.5, metrics=content["metrics"])
    values = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(values, dict) or not {"0.weight", f"{PARALLEL}0.weight"} & values.keys():
        raise InputError(
            path, "weights of a volume network: a checkpoint of face4d, or the published state dict", "another file"
        )
    network = _filled(path, 1.0, values, "the published state dict")
    return LoadedVolumeNetwork(path, network.to(device), _PUBLISHED_GRID, _PUBLISHED_LEVEL, published=True)


def _filled(path: Path, width: float, values: dict[str, Tensor], group: str) -> VolumeNetwork:
    with without_weights():
        network = VolumeNetwork(width)
    load_weights(network, values, path, group)
    return for_inference(network)


@dataclass(frozen=True)
class VolumeFace:
    """A head found in a photo.

    Attributes:
        crop: the window looked at.
        picture: (192, 192, 3) RGB in 0..1.
        volume: (D, 192, 192) float32 probabilities, without stray parts.
        vertices: (V, 3) places in the crop, see :mod:`face4d.vrn.voxels`.
        faces: (F, 3).
        colours: (V, 3) in 0..1.
        grid: of the volume.
        level: of the surface.
    """

    crop: Crop
    picture: np.ndarray
    volume: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    grid: VolumeGrid
    level: float

    def nme(self, landmarks: np.ndarray) -> float:
        """:func:`face4d.vrn.voxels.nme` of the photo's true landmarks (68, 3), pixels, z away from the viewer."""
        true = places(landmarks, self.crop)
        return nme(self.vertices, true, true)


def places(landmarks: np.ndarray, crop: Crop) -> np.ndarray:
    """Landmarks (68, 3) of a photo, z away from the viewer in pixels, as places in a crop: the depth zero on
    average.
    """
    points = crop.to_crop(landmarks)
    return points - [0.0, 0.0, points[:, 2].mean()]


def reconstruct(loaded: LoadedVolumeNetwork, photo: np.ndarray, face: FaceBox | np.ndarray) -> VolumeFace:
    """The head in a photo.

    Args:
        photo: (H, W, 3) RGB in 0..1.
        face: its box, or landmarks (68, 2 or 3) in pixels.

    Raises:
        InputError: a face without an area or beside the photo, or a volume that is empty.
    """
    box = face if isinstance(face, FaceBox) else FaceBox.of_landmarks(np.asarray(face))
    crop = vrn_crop(box)
    check_inside(box, photo)
    picture = np.clip(crop.warp(photo), 0, 1)
    volume = largest_part(loaded.volume(picture), loaded.level)
    vertices, faces = surface(volume, loaded.grid, loaded.level)
    if not len(vertices):
        raise InputError(loaded.path, "a network that finds a head in the photo", "one that fills no voxel")
    shown = visible(vertices, volume > loaded.level, loaded.grid, rim=_RIM)
    return VolumeFace(
        crop, picture, volume, vertices, faces, surface_colours(picture, vertices, shown), loaded.grid, loaded.level
    )


def surface_colours(picture: np.ndarray, vertices: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Colours (V, 3) of vertices: the picture's where it shows them (V,) bool, elsewhere those of the nearest vertex it
    shows.
    """
    colours = sample(picture, vertices[:, :2])
    if shown.any() and not shown.all():
        nearest = cKDTree(vertices[shown]).query(vertices[~shown])[1]
        colours[~shown] = colours[shown][nearest]
    return colours


def write_volume_face(folder: Path, name: str, found: VolumeFace, *, volume: bool = False) -> list[Path]:
    """Write ``<name>_mesh.obj`` and ``.ply`` with colours, ``<name>_overview.png`` and, on request,
    ``<name>_volume.npz`` (bits, see voxels.pack).

    Meshes are in pixels of the photo, x right, y up (zero at the photo's upper edge), z toward the viewer.
    """
    placed = found.crop.to_photo(found.vertices) * [1.0, -1.0, -1.0]
    written = [folder / f"{name}_{kind}" for kind in ("mesh.obj", "mesh.ply", "overview.png")]
    write_coloured_obj(written[0], placed, found.faces, found.colours)
    write_coloured_ply(written[1], placed, found.faces, found.colours)
    save_picture(written[2], overview(found))
    if volume:
        written.append(folder / f"{name}_volume.npz")
        record = {
            "volume": pack(found.volume > found.level),
            "step": found.grid.step,
            "center": found.grid.center,
            "crop": found.crop.matrix,
        }
        save_npz(written[3], {key: np.asarray(value) for key, value in record.items()})
    return written


def overview(found: VolumeFace) -> np.ndarray:
    """A row of pictures: the crop, the depth of the volume, its middle slices from the side and from above, the mesh in
    place and turned.
    """
    filled = np.asarray(found.volume > found.level)  # (depth, height, width)
    beside, above = np.logical_or.reduce(filled, axis=(0, 1)), np.logical_or.reduce(filled, axis=(0, 2))
    size = IMAGE_SIZE * _ENLARGE
    first = first_layers(filled)
    depth = np.where(first < len(filled), 1 - first / len(filled), 0.0)
    from_side = _fitted(found.volume[:, :, int(_middle(beside))].T)
    from_above = _fitted(found.volume[:, int(_middle(above)), :])
    pictures = [found.picture] + [np.repeat(grey[:, :, None], 3, axis=2) for grey in (depth, from_side, from_above)]
    pictures = [np.kron(picture, np.ones((_ENLARGE, _ENLARGE, 1))) for picture in pictures]
    middle = (found.vertices.max(axis=0) + found.vertices.min(axis=0)) / 2
    centre = np.array([IMAGE_SIZE / 2, IMAGE_SIZE / 2, 0.0])
    turn = np.array([[np.cos(_TURN), 0, np.sin(_TURN)], [0, 1, 0], [-np.sin(_TURN), 0, np.cos(_TURN)]])
    background = np.ones((size, size, 3))
    for vertices in (found.vertices, (found.vertices - middle) @ turn.T + centre * [1, 0, 0] + middle * [0, 1, 0]):
        drawn = draw(vertices * _ENLARGE, found.faces, size, size)
        pictures += [
            clay(background, vertices * _ENLARGE, found.faces, drawn, opacity=1.0),
            textured(background, found.colours, found.faces, drawn),
        ]
    return np.concatenate(pictures, axis=1)


def _middle(used: np.ndarray) -> float:
    return float(np.flatnonzero(used).mean())


def _fitted(slice_: np.ndarray) -> np.ndarray:
    """A slice cut or filled up with zeros to the crop's square."""
    square = np.zeros((IMAGE_SIZE, IMAGE_SIZE))
    part = slice_[:IMAGE_SIZE, :IMAGE_SIZE]
    square[: part.shape[0], : part.shape[1]] = part
    return square
