"""From landmark displacements to a moving mesh, and the mesh as the files people open: GLB, MP4, PLY frames, GIF,
contact sheet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from face4d.errors import InputError

if TYPE_CHECKING:
    from face4d.correspondence import Correspondence
    from face4d.landmarks import LandmarkEmbedding
    from face4d.view.looks import ShownHead

__all__ = ["FORMATS", "DenseFace", "export_labels", "export_mesh", "load_dense_decoder", "load_dense_face"]

FORMATS = {
    "glb": "3D with motion",
    "mp4": "video",
    "ply": "a folder of meshes",
    "gif": "moving picture",
    "png": "contact sheet",
}


@dataclass(frozen=True)
class DenseFace:
    """A neutral face and what moves its surface.

    Attributes:
        decoder: ``decode(displacements (T, 68, 3), neutral (V, 3)) -> (T, V, 3)``, metres.
        neutral: (V, 3) metres, of the decoder's topology.
        faces: (F, 3) triangles of the mesh that is shown.
        landmarks: (68, 3) metres, the neutral ones of the mesh that is shown.
        target: (V', 3) metres, a head of another topology that is shown in place of ``neutral``, or None.
        correspondence: how ``target`` hangs on a registered copy of the decoder's topology.
        scale: size of the target's face over that of ``neutral``.
        colours: (V, 3) sRGB in 0..1 of the mesh that is shown, from its file; None where it has none.
    """

    decoder: Any
    neutral: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray
    target: np.ndarray | None = None
    correspondence: Correspondence | None = None
    scale: float = 1.0
    colours: np.ndarray | None = None

    @property
    def shown(self) -> np.ndarray:
        """The neutral mesh that is shown, (V, 3) metres."""
        return self.neutral if self.target is None else self.target

    def move(self, displacement: np.ndarray) -> np.ndarray:
        """Vertices (T, V, 3) float32 in metres of the mesh that is shown, for landmark displacements (T, 68, 3)."""
        vertices = self.decoder.decode(displacement, self.neutral)
        if self.target is None or self.correspondence is None:
            return np.asarray(vertices, np.float32)
        moved = self.correspondence.transfer(np.asarray(vertices, np.float64) - self.neutral)
        return (self.target + self.scale * moved).astype(np.float32)

    def moved_landmarks(self, displacement: np.ndarray, vertices: np.ndarray) -> np.ndarray:
        """Landmarks (T, 68, 3): as generated, on another head those of its own surface."""
        if self.correspondence is None:
            return self.landmarks + displacement
        from face4d.landmarks import extract

        return extract(self.correspondence.embedding, vertices)


def load_dense_decoder(path: Path, device: Any = "cpu") -> Any:
    """A trained decoder from landmarks to meshes.

    Raises:
        InputError: no such file (says how to train one), or a checkpoint of something else.
    """
    if not path.is_file():
        command = "python Sparse2Dense/main.py --dataset coma|florence|demo"
        raise InputError(
            path,
            f"a decoder from landmarks to meshes ({command} trains one; --dense FILE names another)",
            "no such file",
        )
    from face4d.dense.decode import load_decoder

    return load_decoder(path, device=device)


def load_dense_face(
    decoder: Any,
    embedding: LandmarkEmbedding,
    actor: Path | None,
    *,
    target: Path | None = None,
    target_embedding: Path | None = None,
) -> DenseFace:
    """A face to move: an actor, another head in an actor's manner, or another head alone (then its registered copy is
    the actor).

    Args:
        decoder: see :func:`load_dense_decoder`.
        embedding: the landmarks of the decoder's topology.
        actor: neutral mesh of that topology (PLY, OBJ), metres; may be None where there is a target.
        target: mesh of another topology (PLY, OBJ), metres.
        target_embedding: npz of ``python -m face4d landmarks`` for the target.

    Raises:
        InputError: a mesh of another topology, not in metres or mirrored (:func:`face4d.landmarks.check_mesh`), an
            embedding that was made by hand or for another mesh, colours that cannot be read.
    """
    from face4d.correspondence import check_copy, check_target, load_correspondence
    from face4d.landmarks import extract, read_head
    from face4d.mesh.sequence import read_mesh
    from face4d.view.looks import own_colours

    neutral = None
    if actor is not None:
        if actor.suffix.lower() == ".npy":
            raise InputError(actor, "a neutral mesh (PLY, OBJ), since landmarks have no surface", "landmarks")
        neutral, landmarks = read_head(actor, embedding)
    if target is None:
        if neutral is None:
            raise InputError("--actor", "a neutral mesh (PLY, OBJ) or a target", "neither")
        colours = None if actor is None else own_colours(actor, len(neutral))
        return DenseFace(decoder, neutral, embedding.faces, landmarks, colours=colours)
    if target_embedding is None:
        raise InputError(target, "--target-embedding FILE (python -m face4d landmarks makes it)", "none")
    correspondence = load_correspondence(target_embedding)
    copy = correspondence.registered
    check_copy(target_embedding, copy, correspondence.registered_faces, embedding)
    head, head_faces = read_mesh(target)
    check_target(target, head, head_faces, correspondence)
    neutral = copy if neutral is None else neutral
    scale = _size(extract(embedding, copy)) / _size(extract(embedding, neutral))
    head_faces = head_faces if len(head_faces) else correspondence.embedding.faces
    landmarks = extract(correspondence.embedding, head)
    colours = own_colours(target, len(head))
    return DenseFace(decoder, neutral, head_faces, landmarks, head, correspondence, scale, colours)


def _size(landmarks: np.ndarray) -> float:
    """Root mean square distance of landmarks (68, 3) from their middle."""
    return float(np.sqrt(((landmarks - landmarks.mean(axis=0)) ** 2).sum(axis=1).mean()))


def export_mesh(
    base: Path,
    label: str,
    vertices: np.ndarray,
    faces: np.ndarray,
    formats: tuple[str, ...],
    *,
    neutral: np.ndarray | None = None,
    landmarks: np.ndarray | None = None,
    colours: np.ndarray | None = None,
    fps: float = 25,
    size: int = 512,
) -> list[Path]:
    """Write a moving mesh in several formats, each file whole or not at all.

    ``<base>.glb``, ``<base>.mp4``, ``<base>_mesh.gif``, ``<base>_sheet.png``, all of the head as it is shown
    (:func:`face4d.view.looks.shown_head`), and the folder ``<base>_meshes/`` with ``<label>.000001.ply``, ... as in the
    CoMA data set, of the vertices given.

    Args:
        base: path without suffix.
        label: of the motion.
        vertices, faces: (T, V, 3) metres and (F, 3).
        formats: of :data:`FORMATS`.
        neutral: (V, 3), base mesh of the GLB; default frame 0.
        landmarks: (..., 68, 3); pictures show the face they span, else the whole mesh.
        colours: (V, 3) sRGB in 0..1, its own; default: see :func:`face4d.view.looks.painted_colours`.
        fps: frames per second; a GIF has at most 50.
        size: side of the pictures, pixels.

    Returns:
        The paths written.
    """
    written = []
    if "ply" in formats:
        written.append(base.with_name(f"{base.name}_meshes"))
        write_frames(written[-1], label, vertices, faces)
    if not {"glb", "png", "mp4", "gif"} & set(formats):
        return written
    from face4d.view.looks import shown_head

    shown = shown_head([vertices], faces, neutral, colours)
    if "glb" in formats:
        written.append(base.with_name(f"{base.name}.glb"))
        write_glb(written[-1], [label], shown, fps)
    if "png" in formats:
        from face4d.render.contact_sheet import write_mesh_sheet

        written.append(base.with_name(f"{base.name}_sheet.png"))
        write_mesh_sheet(
            written[-1],
            {label: shown.motions[0]},
            shown.faces,
            landmarks=landmarks,
            colors=shown.colours,
            yaws=(0, 40),
            size=size // 2,
        )
    if "mp4" in formats or "gif" in formats:
        from face4d.render.clay import frame_view, render_sequence
        from face4d.render.contact_sheet import face_framing_points

        framing = None if landmarks is None else frame_view(face_framing_points(landmarks), margin=0.25)
        pictures = render_sequence(shown.motions[0], shown.faces, size=size, framing=framing, colors=shown.colours)
        if "mp4" in formats:
            from face4d.render.media import write_mp4

            written.append(base.with_name(f"{base.name}.mp4"))
            write_mp4(written[-1], pictures, fps=fps)
        if "gif" in formats:
            from face4d.render.media import write_gif

            written.append(base.with_name(f"{base.name}_mesh.gif"))
            write_gif(written[-1], pictures, fps=fps)
    return written


def export_labels(path: Path, motions: Mapping[str, np.ndarray], face: DenseFace, *, fps: float = 25) -> None:
    """Write one GLB with an animation for every label.

    Args:
        path: file to write.
        motions: (T, V, 3) metres by label, of ``face``.
        face: what moves.
        fps: frames per second.
    """
    from face4d.view.looks import shown_head

    write_glb(path, motions, shown_head(list(motions.values()), face.faces, face.shown, face.colours), fps)


def write_glb(path: Path, labels: Iterable[str], shown: ShownHead, fps: float) -> None:
    """Write a head that moves as a GLB named after its file; ``labels`` are those of its motions."""
    from face4d.runtime.atomic import write_bytes
    from face4d.view.glb import animated_glb

    how: dict[str, Any] = {"neutral": shown.neutral, "colors": shown.colours, "fps": fps, "name": path.stem}
    write_bytes(path, animated_glb(dict(zip(labels, shown.motions)), shown.faces, **how))


def write_frames(folder: Path, label: str, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write (T, V, 3) as ``<label>.000001.ply``, ...; later frames of that label, left by a longer sequence, are
    removed.
    """
    from face4d.mesh.ply import write_ply
    from face4d.mesh.sequence import frame_number

    for number, frame in enumerate(vertices, 1):
        write_ply(folder / f"{label}.{number:06d}.ply", frame, faces)
    for path in folder.glob(f"{label}.??????.ply"):
        if (frame_number(path) or 0) > len(vertices):
            path.unlink()
