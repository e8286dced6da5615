"""The face in a video: one identity, and an expression and a pose per frame."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from face4d.deca.networks import FaceCode
from face4d.deca.reconstruction import PhotoFace, Reconstructor, as_batch, decoded
from face4d.deca.results import ResultWriter
from face4d.errors import InputError
from face4d.photos.crops import Crop, FaceBox, crop_face
from face4d.photos.faces import FaceFinder
from face4d.render.media import read_video, write_mp4
from face4d.render.pictures import as_bytes, clay, dots, draw
from face4d.runtime.atomic import save_npy, save_npz
from face4d.runtime.progress import track

log = logging.getLogger(__name__)

_BATCH = 8


def reconstruct_frames(
    path: Path,
    name: str,
    finder: FaceFinder,
    reconstructor: Reconstructor,
    writer: ResultWriter,
    *,
    folder: Path | None = None,
    quiet: bool = False,
) -> Path:
    """Write the face of a video: ``<name>_parameters.npz`` with a row per frame, ``_landmarks.npy`` (T, 68, 3) metres,
    ``_landmarks_photo.npy`` (T, 68, 3) pixels, ``_overlay.mp4``, and the files of a photo for the frame that looks
    ahead most, with the mean identity of all frames.

    Args:
        finder: with a box or landmarks given they hold for all frames; else the face is followed, and a frame without
            one takes the place of the one before.
        folder: default: one of that name in the writer's.

    Returns:
        The folder.

    Raises:
        InputError: no video, or no face in any frame.
    """
    codes, crops, fps = _encode(path, finder, reconstructor, quiet)
    identity = codes.shape.mean(0, keepdim=True)
    # one person, so one identity: its mean is the better estimate
    codes = replace(codes, shape=identity.expand(len(codes), -1))
    return write_frames(path, name, codes, crops, fps, writer, folder=folder, quiet=quiet)


def write_frames(
    path: Path,
    name: str,
    codes: FaceCode,
    crops: Sequence[Crop],
    fps: float,
    writer: ResultWriter,
    *,
    folder: Path | None = None,
    quiet: bool = False,
) -> Path:
    """Write the face of a video whose frames' codes, T of one person, are known; see :func:`reconstruct_frames`."""
    folder, face = folder or writer.output / name, writer.face
    landmarks, placed_landmarks = [], []
    ahead = int(codes.pose[:, :3].norm(dim=1).argmin())

    def overlays() -> Iterator[np.ndarray]:
        for number, frame in enumerate(
            track("drawing", read_video(path).frames, total=len(codes), unit="frame", quiet=quiet)
        ):
            if number >= len(codes):
                return
            photo = frame.astype(np.float32) / 255
            found = PhotoFace.of(photo, crops[number], decoded(face, codes[number : number + 1]))
            landmarks.append(found.face.landmarks[0].cpu().numpy())
            placed_landmarks.append(found.landmarks)
            if number == ahead:
                writer.write(name, found, folder=folder)
            drawn = draw(found.placed, face.uv.mesh_faces, *photo.shape[:2])
            yield as_bytes(
                np.concatenate(
                    [dots(photo, found.landmarks), clay(photo, found.placed, face.uv.mesh_faces, drawn)], axis=1
                )
            )

    write_mp4(folder / f"{name}_overlay.mp4", overlays(), fps=fps)
    save_npy(folder / f"{name}_landmarks.npy", np.stack(landmarks))
    save_npy(folder / f"{name}_landmarks_photo.npy", np.stack(placed_landmarks).astype(np.float32))
    matrices = np.stack([crop.matrix for crop in crops])
    arrays = writer.parameters(decoded(face, codes), matrices, crops[0].size)
    save_npz(folder / f"{name}_parameters.npz", arrays | {"fps": np.array(fps)})
    return folder


def _encode(
    path: Path, finder: FaceFinder, reconstructor: Reconstructor, quiet: bool
) -> tuple[FaceCode, list[Crop], float]:
    """Codes of all frames, the crop of each, and the frames per second."""
    video = read_video(path)
    codes: list[FaceCode] = []
    crops: list[Crop] = []
    waiting: list[np.ndarray] = []
    face: FaceBox | np.ndarray | None = None
    lost, finder = 0, finder.in_video(video.fps)

    def flush() -> None:
        if waiting:
            codes.append(reconstructor.encode(as_batch(np.stack(waiting))))
            waiting.clear()

    for frame in track("encoding", video.frames, unit="frame", quiet=quiet):
        photo = frame.astype(np.float32) / 255
        try:
            face, _ = finder.find(photo, path)
        except InputError:
            lost += 1
            if face is None:  # none so far, so none to go on with
                raise
        picture, crop = crop_face(photo, face)
        waiting.append(picture)
        crops.append(crop)
        if len(waiting) == _BATCH:
            flush()
    flush()
    if not codes:
        raise InputError(path, "a video with frames", "none")
    if lost:
        log.warning(
            "%s: no face found in %d of %d frames, which take its place from the frame before", path, lost, len(crops)
        )
    return FaceCode.joined(codes), crops, video.fps
