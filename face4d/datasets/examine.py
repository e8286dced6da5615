"""Every sequence of a folder looked at before anything is made of it: which cannot be read, which are odd."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from face4d.constants import MM_PER_METRE
from face4d.datasets.landmark_set import find_landmarks, read_landmarks, sequence_remarks
from face4d.datasets.layout import parse_sequence_name
from face4d.datasets.mesh_set import MeshSequence
from face4d.datasets.survey import Found, contents, find_embedding, found_meshes
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, check_mesh, load_embedding, load_flame_embedding, mesh_remarks
from face4d.mesh.plausibility import Remark, check_head, motion_remarks
from face4d.mesh.sequence import numbered_frames, read_mesh
from face4d.mesh.triangles import canonical, check_topology, checksum
from face4d.runtime.parallel import map_files

UNUSABLE = "cannot be used"  # what a remark of a sequence that no step could read begins with
_FRAMES = 24  # of a mesh sequence that are read, evenly spaced, the first and the last among them
_POINTS = 1500  # of a mesh that are compared, evenly spaced in the order of its vertices
_NOT_NEUTRAL = 1.0  # millimetres, mean over the face: and
_FARTHER = (
    4.0  # times the median of the subject's sequences: a first frame so far from the others is not the neutral one
)
_OTHER_SIZE = 4.0  # times larger or smaller than the label's median: an odd amplitude


@dataclass(frozen=True)
class Examined(Found):
    """A sequence that can be read.

    Attributes:
        first: (N, 3) points of its first frame, metres.
        amplitude: millimetres, of the frame that is farthest from the first: mean over the points.
        topology: vertices and a checksum of the triangles, in whatever order; (68, 0) of landmarks.
    """

    first: np.ndarray
    amplitude: float
    topology: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.label} of {self.subject}"


def examine(folder: Path, *, workers: int = 1, quiet: bool = False) -> tuple[list[Examined], list[Remark]]:
    """Read the sequences of a folder. Meshes with a landmark embedding are checked as step 3 checks them.

    Args:
        folder: of mesh sequences or landmark files.
        workers: processes, see :func:`face4d.runtime.parallel.map_files`.

    Returns:
        those that can be read, and what is odd about each by itself.

    Raises:
        InputError: see :func:`face4d.datasets.survey.contents`.
    """
    found: list[Examined] = []
    remarks: list[Remark] = []
    suffix, sequences = contents(folder)
    jobs: Sequence[Any] = sequences
    look: Callable[[Any], tuple[Examined, list[Remark]]] = _landmark_file
    if suffix is None:
        jobs = find_landmarks(folder)
    else:
        look = partial(_mesh_sequence, suffix=suffix, embedding=_embedding(folder, sequences, suffix))
    for one, odd in map_files(
        partial(_looked_at, look, folder), jobs, workers=workers, description="reading", quiet=quiet
    ):
        if one is not None:
            found.append(one)
        remarks += odd
    return found, remarks


def _looked_at(
    look: Callable[[Any], tuple[Examined, list[Remark]]], folder: Path, job: Any
) -> tuple[Examined | None, list[Remark]]:
    try:
        return look(job)
    except InputError as error:
        place, above = Path(error.path).absolute(), folder.absolute()
        shown = place.relative_to(above) if place.is_relative_to(above) else Path(error.path)
        return None, [Remark(f"{UNUSABLE}: expected {error.expected}, found {error.found}", str(shown))]


def _embedding(folder: Path, sequences: Sequence[MeshSequence], suffix: str) -> LandmarkEmbedding | None:
    """That of the first mesh that can be read; None where none is found."""
    for sequence in sequences:
        try:
            _, name = numbered_frames(sequence.folder, suffix, skip_gaps=True)[0]
            flame, embedding = find_embedding(folder, len(read_mesh(sequence.folder / name)[0]))
        except InputError:
            continue
        if embedding is not None:
            return load_embedding(embedding)
        return None if flame is None else load_flame_embedding(flame)
    return None


def _landmark_file(path: Path) -> tuple[Examined, list[Remark]]:
    label, subject = parse_sequence_name(path)
    landmarks = read_landmarks(path)
    one = _examined(Found(path, label, subject, len(landmarks)), landmarks, (landmarks.shape[1], 0))
    return one, sequence_remarks(one.name, landmarks)


def _mesh_sequence(
    sequence: MeshSequence, suffix: str, embedding: LandmarkEmbedding | None
) -> tuple[Examined, list[Remark]]:
    numbered = numbered_frames(sequence.folder, suffix, skip_gaps=True)
    chosen = np.unique(np.linspace(0, len(numbered) - 1, _FRAMES).round().astype(int))
    name = f"{sequence.label} of {sequence.subject}"
    remarks: list[Remark] = []
    paths = [sequence.folder / numbered[place][1] for place in chosen]
    first, faces = read_mesh(paths[0])
    check_head(paths[0], first)
    if embedding is not None and embedding.num_vertices == len(first):
        remarks += mesh_remarks(name, faces, check_mesh(paths[0], first, faces, embedding))
    kept = slice(None, None, max(len(first) // _POINTS, 1))
    points = [first[kept]]
    for path in paths[1:]:
        vertices, own = read_mesh(path)
        check_topology(path, len(vertices), own, len(first), faces, f"the topology of {paths[0].name}")
        points.append(vertices[kept])
    frames = np.stack(points)
    topology = len(first), checksum(canonical(faces))
    one = _examined(found_meshes(sequence, numbered), frames, topology)
    remarks += motion_remarks(name, frames)
    if missing := one.frames - len(numbered):
        remarks.append(Remark("frame numbers are missing (steps 2 and 3 take --skip-gaps)", f"{name} ({missing})"))
    return one, remarks


def _examined(found: Found, points: np.ndarray, topology: tuple[int, int]) -> Examined:
    moved = np.linalg.norm(points - points[0], axis=2).mean(axis=1)
    return Examined(**vars(found), first=points[0], amplitude=float(moved.max() * MM_PER_METRE), topology=topology)


def compared(found: Sequence[Examined]) -> Iterator[Remark]:
    """What is odd about sequences beside the others: topology, frame 0, amplitude; and which are missing."""
    if not found:
        return
    usual, _ = Counter(one.topology for one in found).most_common(1)[0]
    for one in found:
        if one.topology != usual:
            yield Remark(f"another topology than most ({usual[0]} vertices)", f"{one.name} ({one.topology[0]})")
    by_subject, by_label = defaultdict(list), defaultdict(list)
    for one in found:
        if one.topology == usual:
            by_subject[one.subject].append(one)
            by_label[one.label].append(one)
    for own in by_subject.values():
        neutral = np.median([one.first for one in own], axis=0)
        away = [float(np.linalg.norm(one.first - neutral, axis=1).mean() * MM_PER_METRE) for one in own]
        for one, distance in zip(own, away):
            if len(own) > 2 and distance > max(_NOT_NEUTRAL, _FARTHER * float(np.median(away))):
                yield Remark(
                    "frame 0 is not like those of the person's other sequences (not neutral?)",
                    f"{one.name} ({distance:.1f} mm off)",
                )
    for own in by_label.values():
        middle = float(np.median([one.amplitude for one in own]))
        for one in own:
            if len(own) > 2 and one.amplitude > 0 and not 1 / _OTHER_SIZE < one.amplitude / middle < _OTHER_SIZE:
                yield Remark(
                    "moves much more or less than the label does in others",
                    f"{one.name} ({one.amplitude:.1f} mm, median {middle:.1f})",
                )
    there = {(one.label, one.subject) for one in found}
    for subject in sorted({one.subject for one in found}):
        lacks = [label for label in sorted({one.label for one in found}) if (label, subject) not in there]
        if lacks:
            yield Remark("labels that a subject has not", f"{subject} ({', '.join(lacks)})")
