"""Frames of mesh sequences as training data of dense decoders, and how decoders are compared on them.

Landmark and vertex displacements from a neutral face, read from disk when needed; four folds of unseen subjects or
of unseen expressions [S].
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from face4d.constants import MM_PER_METRE
from face4d.datasets.mesh_set import MeshSequence, actor_path, find_mesh_sequences
from face4d.dense.config import DenseConfig
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, check_mesh, extract, mesh_remarks, read_head
from face4d.mesh.obj import read_obj
from face4d.mesh.plausibility import JUMP, Remark, as_float32, check_jumps, is_still, motion_remarks, report
from face4d.mesh.ply import read_ply_vertices
from face4d.mesh.sequence import frame_paths, read_mesh
from face4d.runtime.progress import track

CHUNK = 256  # frames in memory at a time: 15 MB at 5023 vertices


@dataclass(frozen=True)
class DenseFrames:
    """N frames of S sequences. Landmarks and neutral faces are in memory, vertices stay on disk.

    Attributes:
        paths: the frames' meshes.
        sequence: (N,) int64, the sequence of each frame.
        subjects, labels: of each sequence.
        neutrals: (S, V, 3) float32, metres; the neutral face of each sequence.
        landmarks: (N, 68, 3) float32, metres; displacement from the neutral landmarks, with noise where asked for.
        embedding: where the landmarks lie on the topology.
        noise_mm: standard deviation of the noise added to every coordinate of :meth:`vertices`, millimetres.
        seed: of that noise; every frame has its own, the same each time it is read.
    """

    paths: tuple[Path, ...]
    sequence: np.ndarray
    subjects: tuple[str, ...]
    labels: tuple[str, ...]
    neutrals: np.ndarray
    landmarks: np.ndarray
    embedding: LandmarkEmbedding
    noise_mm: float = 0.0
    seed: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def num_vertices(self) -> int:
        """V of the topology."""
        return self.embedding.num_vertices

    def neutral_landmarks(self) -> np.ndarray:
        """(S, 68, 3) float32 landmarks of the neutral faces, metres."""
        return extract(self.embedding, self.neutrals)

    def frame_subjects(self) -> np.ndarray:
        """(N,) subject of each frame."""
        return np.array(self.subjects)[self.sequence]

    def frame_labels(self) -> np.ndarray:
        """(N,) label of each frame."""
        return np.array(self.labels)[self.sequence]

    def select(self, rows: np.ndarray) -> DenseFrames:
        """The frames ``rows`` (indices or mask), of the sequences that they are from."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        kept, sequence = np.unique(self.sequence[rows], return_inverse=True)
        return replace(
            self,
            paths=tuple(self.paths[row] for row in rows.tolist()),
            sequence=sequence,
            subjects=tuple(self.subjects[k] for k in kept),
            labels=tuple(self.labels[k] for k in kept),
            neutrals=self.neutrals[kept],
            landmarks=self.landmarks[rows],
        )

    def every(self, step: int) -> DenseFrames:
        """Every ``step``-th frame of each sequence, the first one included."""
        starts = np.flatnonzero(np.r_[True, np.diff(self.sequence) != 0])
        place = np.arange(len(self)) - starts[np.cumsum(np.r_[True, np.diff(self.sequence) != 0]) - 1]
        return self.select(place % step == 0)

    def with_noise(self, landmarks_mm: float, vertices_mm: float, seed: int) -> DenseFrames:
        """White noise of these standard deviations per coordinate on landmark displacements (now) and vertices (when
        read).
        """
        noise = np.random.default_rng([seed, 1]).standard_normal(self.landmarks.shape, np.float32) * np.float32(
            landmarks_mm / MM_PER_METRE
        )
        return replace(self, landmarks=self.landmarks + noise, noise_mm=vertices_mm, seed=seed)

    def without_vertex_noise(self) -> DenseFrames:
        """The same frames, landmarks as they are, with the vertices of the files."""
        return replace(self, noise_mm=0.0)

    def vertices(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, V, 3) float32 vertex displacements of some frames from their neutral faces, metres; read from disk.

        Raises:
            InputError: a frame that can no longer be read or has another number of vertices.
        """
        found = np.empty((len(rows), self.num_vertices, 3), np.float32)
        for place, row in zip(found, np.asarray(rows).tolist()):
            np.subtract(read_vertices(self.paths[row], self.num_vertices), self.neutrals[self.sequence[row]], out=place)
            if self.noise_mm:
                key = int.from_bytes(
                    hashlib.sha256(os.fsencode("/".join(self.paths[row].parts[-3:]))).digest()[:8], "little"
                )
                random = np.random.default_rng([self.seed, 2, key])
                place += random.standard_normal(place.shape, np.float32) * np.float32(self.noise_mm / MM_PER_METRE)
        return found

    def chunks(self, description: str = "", quiet: bool = True) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All frames in order, some at a time: row numbers (n,) and :meth:`vertices` (n, V, 3)."""
        with track(description, total=len(self), unit="frame", quiet=quiet, leave=False) as bar:
            for start in range(0, len(self), CHUNK):
                rows = np.arange(start, min(start + CHUNK, len(self)))
                yield rows, self.vertices(rows)
                bar.update(len(rows))

    def digest(self) -> str:
        """SHA-256 over sequences, landmark displacements and neutral faces; says whether two runs saw the same data."""
        sha = hashlib.sha256("|".join((*self.subjects, *self.labels)).encode())
        for array in (self.sequence, self.landmarks, self.neutrals):
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()


def read_vertices(path: Path, num_vertices: int) -> np.ndarray:
    """Vertices (V, 3) float32 of a PLY or OBJ file, metres.

    Raises:
        InputError: unreadable, or another number of vertices.
    """
    if path.suffix.lower() != ".obj":
        return read_ply_vertices(path, num_vertices)
    vertices = as_float32(path, read_obj(path)[0])
    if len(vertices) != num_vertices:
        raise InputError(path, f"{num_vertices} vertices", f"{len(vertices)}")
    return vertices


def load_frames(
    root: str | Path,
    embedding: LandmarkEmbedding,
    *,
    labels: Sequence[str] | None = None,
    actors: str | Path | None = None,
    quiet: bool = True,
) -> DenseFrames:
    """All frames of the mesh sequences below ``root``, PLY where there are any, else OBJ.

    Args:
        root: ``.../<subject>/<label>/`` folders of numbered frames (CoMA, CoMA_Florence, the demo), metres.
        labels: only these, any spelling; None = all.
        actors: folder of ``<subject>.ply`` neutral faces; None = the first frame of each sequence.
        quiet: show no progress.

    Raises:
        InputError: no sequences, an unreadable frame, a subject without actor; meshes that are no faces in metres of
            the embedding's topology (:func:`face4d.landmarks.check_mesh`; of every sequence the first frame), that
            jump, or none of which moves.
    """
    sequences, suffix = _find(root, labels)
    paths = [frame_paths(sequence.folder, suffix) for sequence in sequences]
    neutrals = np.empty((len(sequences), embedding.num_vertices, 3), np.float32)
    landmarks = np.empty((sum(map(len, paths)), len(embedding.face_idx), 3), np.float32)
    remarks: list[Remark] = []
    row, moves = 0, False
    with track("landmarks", total=len(landmarks), unit="frame", quiet=quiet, leave=False) as bar:
        for index, (sequence, frames) in enumerate(zip(sequences, paths)):
            vertices, faces = read_mesh(frames[0])
            first = still = check_mesh(frames[0], vertices, faces, embedding)
            neutrals[index] = vertices
            remarks += mesh_remarks(sequence.name, faces, first)
            if actors is not None:
                neutrals[index], still = read_head(actor_path(actors, sequence.subject), embedding, remarks)
                if (away := float(np.linalg.norm(still - first, axis=1).mean())) > JUMP:
                    remarks.append(
                        Remark(
                            "far from the neutral face of its actor", f"{sequence.name} ({MM_PER_METRE * away:.0f} mm)"
                        )
                    )
            own = landmarks[row : row + len(frames)]
            for path, place in zip(frames, own):
                np.subtract(extract(embedding, read_vertices(path, embedding.num_vertices)), still, out=place)
            check_jumps(frames, own + still)
            remarks += motion_remarks(sequence.name, own)
            moves = moves or not is_still(own)
            row += len(frames)
            bar.update(len(frames))
    report(root, remarks)
    if not moves:
        raise InputError(root, "sequences that move", f"{len(sequences)} in which nothing does")
    return DenseFrames(
        paths=tuple(path for frames in paths for path in frames),
        sequence=np.repeat(np.arange(len(paths)), [len(frames) for frames in paths]),
        subjects=tuple(sequence.subject for sequence in sequences),
        labels=tuple(sequence.label for sequence in sequences),
        neutrals=neutrals,
        landmarks=landmarks,
        embedding=embedding,
    )


def _find(root: str | Path, labels: Sequence[str] | None) -> tuple[list[MeshSequence], str]:
    """Mesh sequences and the suffix of their frames: PLY where there are any, else OBJ."""
    try:
        return find_mesh_sequences(root, labels=labels), ".ply"
    except InputError as missing_ply:
        try:
            found = find_mesh_sequences(root, suffix=".obj")
        except InputError:
            raise missing_ply from None
    return (find_mesh_sequences(root, suffix=".obj", labels=labels) if labels else found), ".obj"


NUM_FOLDS = 4


@dataclass(frozen=True)
class Fold:
    """One half to learn from and one to be scored on.

    Attributes:
        name: ``identity1`` ... ``expression4``, or ``all`` where nothing is kept back.
        train, test: their frames; ``test`` is None for ``all``.
        groups: (len(train),) int64; parts of the training frames that take turns in being held out when a strength is
            chosen, made like the fold itself: of whole subjects or of whole expressions.
    """

    name: str
    train: DenseFrames
    test: DenseFrames | None
    groups: np.ndarray


def fold_names(names: Sequence[str], fold: int) -> tuple[str, ...]:
    """The subjects or labels that fold 1..4 is tested on.

    Of 12 names in sorted order fold 1 takes 9-11, fold 2 6-8, fold 3 3-5, fold 4 0-2 [S]; other numbers are split as
    evenly.

    Raises:
        InputError: fewer than four names.
    """
    ordered = sorted(set(names))
    if len(ordered) < NUM_FOLDS:
        raise InputError(
            "--split",
            f"{NUM_FOLDS} or more subjects or labels for {NUM_FOLDS} folds",
            f"{len(ordered)}: {', '.join(ordered)}",
        )
    return tuple(np.array_split(ordered, NUM_FOLDS)[NUM_FOLDS - fold].tolist())


def make_fold(frames: DenseFrames, config: DenseConfig) -> Fold:
    """Training and test frames of the configuration's fold."""
    split, fold, share = config.split, config.fold, config.subjects_fraction
    keys = frames.frame_subjects() if split == "identity" else frames.frame_labels()
    held_out = fold_names(np.unique(keys).tolist(), fold) if fold else ()
    is_test = np.isin(keys, held_out)
    train = frames.select(~is_test).every(config.frame_step)
    subjects = np.unique(train.frame_subjects())
    if share < 1:
        chosen = np.random.default_rng(config.seed).permutation(subjects)[: max(1, round(share * len(subjects)))]
        train = train.select(np.isin(train.frame_subjects(), chosen))
    name = f"{split}{fold}" if fold else "all"
    test = frames.select(is_test).every(config.test_frame_step) if fold else None
    return Fold(name, train, test, inner_groups(train, split))


def inner_groups(train: DenseFrames, split: str) -> np.ndarray:
    """(N,) number of the group of each training frame: up to four groups of whole subjects (or labels, for the
    expression split).

    Where there is one subject (label) only, labels (subjects) are grouped, and frames where there is one of both.
    """
    subjects, labels = train.frame_subjects(), train.frame_labels()
    for keys in (subjects, labels) if split == "identity" else (labels, subjects):
        names, number = np.unique(keys, return_inverse=True)
        if len(names) > 1:
            return number % NUM_FOLDS
    return np.arange(len(train)) * NUM_FOLDS // len(train)
