"""Errors of moving surfaces, vertex by vertex, against the real meshes of a test set: generated meshes, or what a dense
decoder makes of landmarks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from face4d.datasets.landmark_set import LandmarkSequence
from face4d.datasets.layout import sample_folders
from face4d.datasets.mesh_set import MeshSequence, actor_path, find_all
from face4d.dense.decode import DenseDecoder, DistanceSum
from face4d.dense.frames import read_vertices
from face4d.errors import InputError
from face4d.evaluation.metrics import MillimetreError
from face4d.landmarks import LandmarkEmbedding, extract_files, read_head
from face4d.mesh.sequence import frame_paths

Key = tuple[str, str]  # label, subject


@dataclass(frozen=True)
class MeshFiles:
    """Mesh sequences on disk.

    Attributes:
        paths: frames 0..T of each sequence.
        embedding: where the 68 landmarks lie on their topology.
    """

    paths: tuple[tuple[Path, ...], ...]
    embedding: LandmarkEmbedding

    def vertices(self, sequence: int, frame: int) -> np.ndarray:
        """(V, 3) float32, metres.

        Raises:
            InputError: unreadable, or another number of vertices.
        """
        return read_vertices(self.paths[sequence][frame], self.embedding.num_vertices)

    def landmarks(self) -> np.ndarray:
        """(N, T+1, 68, 3) float32, metres."""
        return np.stack([extract_files(self.embedding, paths) for paths in self.paths])

    def digest(self) -> str:
        """A short digest of the files' content."""
        total = hashlib.sha256()
        for paths in self.paths:
            for path in paths:
                total.update(path.read_bytes())
        return total.hexdigest()[:16]

    def select(self, rows: Sequence[int]) -> MeshFiles:
        """Some of the sequences."""
        return MeshFiles(tuple(self.paths[row] for row in rows), self.embedding)


def find_meshes(
    folder: str | Path, embedding: LandmarkEmbedding, wanted: Sequence[LandmarkSequence], *, complete: bool = False
) -> MeshFiles:
    """The mesh sequences of a folder that belong to landmark sequences, in their order.

    Args:
        folder: ``.../<subject>/<label>/`` with numbered frames, PLY where there are any, else OBJ; metres.
        embedding: of their topology.
        wanted: label, subject and number of frames.
        complete: there may be no other sequence in the folder.

    Raises:
        InputError: a sequence that is missing or has another number of frames, one that is not wanted, or a first frame
            that is no face in metres of the topology.
    """
    found = {(sequence.label, sequence.subject): sequence for sequence in _sequences(folder)}
    keys = [(sequence.label, sequence.subject) for sequence in wanted]
    if missing := [key for key in keys if key not in found]:
        label, subject = missing[0]
        raise InputError(
            folder,
            f"meshes of all {len(keys)} sequences, in <subject>/<label>/",
            f"{len(missing)} missing, first {subject}/{label}",
        )
    if complete and (others := sorted(found.keys() - set(keys))):
        raise InputError(found[others[0]].folder, "a sequence of the test set", "another")
    paths = []
    for sequence in wanted:
        place = found[sequence.label, sequence.subject].folder
        frames = frame_paths(place, _suffix(place))
        if len(frames) != len(sequence.landmarks):
            raise InputError(place, f"{len(sequence.landmarks)} frames as in {sequence.path}", f"{len(frames)}")
        read_head(frames[0], embedding)
        paths.append(tuple(frames))
    return MeshFiles(tuple(paths), embedding)


def match_mesh_samples(
    folder: str | Path, embedding: LandmarkEmbedding, test: Sequence[LandmarkSequence]
) -> tuple[MeshFiles, ...]:
    """Generated mesh sequences of a test set; several answers lie in ``sample_00``, ``sample_01``, ...

    Raises:
        InputError: as in :func:`find_meshes`, for every answer.
    """
    places = sample_folders(folder) or [Path(folder)]
    return tuple(find_meshes(place, embedding, test, complete=True) for place in places)


@dataclass(frozen=True)
class RealSurfaces:
    """The real meshes of N test sequences.

    Attributes:
        files: their frames.
        actors: folder of ``<subject>.ply`` neutral meshes; None = frame 0 of each sequence is its neutral.
        subjects: (N,) whose they are.
    """

    files: MeshFiles
    subjects: tuple[str, ...]
    actors: Path | None = None

    def neutral(self, sequence: int) -> np.ndarray:
        """(V, 3) float32, metres."""
        if self.actors is None:
            return self.files.vertices(sequence, 0)
        return read_head(actor_path(self.actors, self.subjects[sequence]), self.files.embedding)[0]

    def error(self, surfaces: Iterable[Iterable[np.ndarray]]) -> MillimetreError:
        """Euclidean error per vertex over frames 1..T: mean, and standard deviation over all single distances [S].

        Args:
            surfaces: for every sequence the vertices (V, 3) of frames 1..T, metres.
        """
        total = DistanceSum()
        for sequence, frames in enumerate(surfaces):
            for frame, vertices in enumerate(frames, 1):
                total.add(vertices, self.files.vertices(sequence, frame))
        return MillimetreError(total.mean, total.std)

    def errors_of(self, files: MeshFiles) -> MillimetreError:
        """:meth:`error` of mesh files, in the order of these."""
        frames = range(1, len(self.files.paths[0]))
        return self.error((files.vertices(n, frame) for frame in frames) for n in range(len(files.paths)))

    def still(self) -> MillimetreError:
        """:meth:`error` of neutral faces that never move."""
        count = len(self.files.paths[0]) - 1
        return self.error([self.neutral(n)] * count for n in range(len(self.files.paths)))


def decoded_surface(decoder: DenseDecoder, real: RealSurfaces) -> Callable[[np.ndarray], MillimetreError]:
    """What :func:`face4d.evaluation.scores.score` takes: the error of the surfaces that a decoder makes of landmark
    displacements (N, T+1, 68, 3), end to end.

    Raises:
        InputError: meshes of another topology than the decoder's.
    """
    if len(decoder.template) != real.files.embedding.num_vertices:
        raise InputError(
            decoder.path,
            f"a decoder to the meshes' {real.files.embedding.num_vertices} vertices",
            f"{len(decoder.template)}",
        )

    def error(displacements: np.ndarray) -> MillimetreError:
        return real.error(decoder.decode(moved[1:], real.neutral(n)) for n, moved in enumerate(displacements))

    return error


def class_mean_error(
    train: RealSurfaces, train_labels: Sequence[str], real: RealSurfaces, labels: Sequence[str]
) -> MillimetreError:
    """Error of the trivial predictor of surfaces: the mean vertex displacements of the label's training sequences, on
    the neutral face of the test sequence.

    Args:
        train: meshes of training sequences; train_labels: of each.
        real: meshes of test sequences; labels: of each, all among those of the training sequences.
    """
    frames = range(1, len(real.files.paths[0]))
    means: dict[str, np.ndarray] = {}
    for label in dict.fromkeys(labels):
        own = [number for number, name in enumerate(train_labels) if name == label]
        total = np.zeros((len(frames), real.files.embedding.num_vertices, 3), np.float32)
        for number in own:
            neutral = train.neutral(number)
            for row, frame in enumerate(frames):
                total[row] += train.files.vertices(number, frame) - neutral
        means[label] = total / len(own)
    return real.error(real.neutral(number) + means[label] for number, label in enumerate(labels))


def _sequences(folder: str | Path) -> list[MeshSequence]:
    try:
        return find_all(folder)
    except InputError as no_ply:
        try:
            return find_all(folder, suffix=".obj")
        except InputError:
            raise no_ply from None


def _suffix(folder: Path) -> str:
    return ".ply" if any(folder.glob("*.[pP][lL][yY]")) else ".obj"
