"""A first look at a folder of one's own data: what lies in it, and the TOML file that describes it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from face4d.constants import COMA_FRAMES
from face4d.datasets.entry import DATASETS, FORMATS
from face4d.datasets.landmark_set import load_folder
from face4d.datasets.layout import TEST_FOLDER, TRAIN_FOLDER, landmark_paths, last_fifth
from face4d.datasets.mesh_set import MeshSequence, find_all
from face4d.errors import InputError
from face4d.landmarks import TEMPLATE_FILE, load_embedding
from face4d.mesh.sequence import find_sequences, numbered_frames, read_mesh
from face4d.runtime.progress import counted


@dataclass(frozen=True)
class Survey:
    """What a folder holds.

    Attributes:
        folder: as it was given.
        format: of mesh sequences; None for landmark files.
        labels, subjects: found, sorted.
        test_subjects: proposed, or those of ``dataset_testing``.
        sequences: their number.
        frames: of the shortest and of the longest sequence.
        vertices: V of the first mesh; None for landmark files.
        flame, embedding: where landmarks lie on such meshes, as far as it is found.
        neutral: a mesh to try a trained generator on.
    """

    folder: Path
    format: str | None
    labels: tuple[str, ...]
    subjects: tuple[str, ...]
    test_subjects: tuple[str, ...]
    sequences: int
    frames: tuple[int, int]
    vertices: int | None = None
    flame: Path | None = None
    embedding: Path | None = None
    neutral: Path | None = None

    @property
    def resampled(self) -> int | None:
        """Frames that step 2 has to bring the sequences to; None where all have one length."""
        return None if self.format is None or self.frames[0] == self.frames[1] else COMA_FRAMES

    def describe(self) -> Iterator[str]:
        """What was found, in lines."""
        kind = "landmark files" if self.format is None else f"{self.format.upper()} sequences"
        vertices = "" if self.vertices is None else f", {self.vertices} vertices"
        people, expressions = counted(len(self.subjects), "subject"), counted(len(self.labels), "label")
        yield f"{self.folder}: {self.sequences} {kind} of {people} and {expressions}{vertices}"
        yield f"labels      {', '.join(self.labels)}"
        yield f"subjects    {', '.join(self.subjects)}"
        shortest, longest = self.frames
        if shortest == longest:
            yield f"frames      {shortest} in every sequence"
        elif self.resampled:
            yield f"frames      {shortest} to {longest}; step 2 brings all sequences to {self.resampled}"
        else:
            yield f"frames      {shortest} to {longest}; training needs landmark sequences of one length"
        yield f"test set    {', '.join(self.test_subjects)}"
        if self.format is not None:
            missing = "none found: an npz with face_idx, bary, faces (models/README.md says how one is made)"
            yield f"embedding   {self.embedding or self.flame or missing}"

    def values(self, name: str) -> dict[str, Any]:
        """The keys of the TOML file of a data set of this name (:data:`face4d.datasets.own.KEYS`)."""
        values: dict[str, Any] = {"landmarks" if self.format is None else "meshes": self.folder.as_posix()}
        values |= {
            "format": self.format,
            "frames": self.resampled,
            "labels": list(self.labels),
            "test_subjects": list(self.test_subjects),
        }
        for key in ("flame", "embedding", "neutral"):
            place = getattr(self, key)
            values[key] = place and place.as_posix()
        values["output"] = f"{name}_output" if _lies_in(Path(name), self.folder) else name
        return {key: value for key, value in values.items() if value is not None}


_MEANINGS = {
    "meshes": "<subject>/<label>/ with numbered frames, at any depth",
    "format": "of the frames; step 1 makes PLY files of obj",
    "frames": "step 2 brings every sequence to so many, the neutral one included; "
    "without this line they stay as they are",
    "landmarks": "<label>_<subject>.npy, (frames, 68, 3) in metres",
    "labels": "what is learned",
    "test_subjects": "people that training does not see",
    "flame": "folder of FLAME's landmark embedding",
    "embedding": "where the 68 landmarks lie on these meshes",
    "neutral": "a face to try the result on",
    "output": "folder of everything that is made of these data",
}


def toml_text(name: str, values: dict[str, Any]) -> str:
    """The TOML file with a meaning beside every key."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}  # {_MEANINGS[key]}" for key, value in values.items()]
    return (
        "\n".join(
            [f"# The data set {name}, for --dataset {name} in this folder; docs/own-data.md lists all keys.", *lines]
        )
        + "\n"
    )


def survey(folder: str | Path) -> Survey:
    """Look at a folder of mesh sequences (``<subject>/<label>/`` with numbered PLY or OBJ frames) or of landmark files.

    The last fifth of the sorted subjects is proposed as test set, at least one.

    Raises:
        InputError: no such folder, nothing of that kind in it, files or names that no step could read, a single
            subject.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "a folder of mesh sequences or landmark files", "no such folder")
    # obj first: step 1 leaves both
    meshes = {suffix: _mesh_sequences(folder, f".{suffix}") for suffix in reversed(FORMATS)}
    suffix = max(meshes, key=lambda suffix: len(meshes[suffix]))
    if meshes[suffix]:
        return _survey_meshes(folder, suffix, meshes[suffix])
    if not landmark_paths(folder):
        raise InputError(
            folder,
            "<subject>/<label>/ folders of numbered PLY or OBJ frames, or <label>_<subject>.npy landmark files",
            "neither",
        )
    return _survey_landmarks(folder)


def _mesh_sequences(folder: Path, suffix: str) -> list[MeshSequence]:
    try:
        find_sequences(folder, suffix)
    except InputError:
        return []
    return find_all(folder, suffix=suffix)


def _survey_meshes(folder: Path, suffix: str, sequences: Sequence[MeshSequence]) -> Survey:
    subjects = _names(sequences, "subject")
    frames = {one: numbered_frames(one.folder, f".{suffix}", skip_gaps=True) for one in sequences}
    counts = [numbers[-1][0] - numbers[0][0] + 1 for numbers in frames.values()]  # holes are filled by --skip-gaps
    tested = _test_subjects(folder, subjects)
    example = next(one for one in sequences if one.subject == tested[0])
    neutral = folder / example.folder.relative_to(os.path.abspath(folder)) / frames[example][0][1]
    vertices = len(read_mesh(neutral)[0])
    flame, embedding = find_embedding(folder, vertices)
    counted_frames = min(counts), max(counts)
    return Survey(
        folder,
        suffix,
        _names(sequences, "label"),
        subjects,
        tested,
        len(sequences),
        counted_frames,
        vertices,
        flame,
        embedding,
        neutral,
    )


def _survey_landmarks(folder: Path) -> Survey:
    sequences = load_folder(folder)
    subjects = _names(sequences, "subject")
    tested = _test_subjects(folder, subjects)
    if (folder / TRAIN_FOLDER).is_dir() and (folder / TEST_FOLDER).is_dir():
        tested = _names(load_folder(folder / TEST_FOLDER), "subject")
    counts = [len(one.landmarks) for one in sequences]
    return Survey(
        folder, None, _names(sequences, "label"), subjects, tested, len(sequences), (min(counts), max(counts))
    )


def _names(sequences: Sequence[Any], what: str) -> tuple[str, ...]:
    return tuple(sorted({getattr(one, what) for one in sequences}))


def _test_subjects(folder: Path, subjects: Sequence[str]) -> tuple[str, ...]:
    if len(subjects) < 2:
        raise InputError(folder, "two subjects or more, of which one is tested on", f"one, {subjects[0]}")
    return last_fifth(subjects)


def find_embedding(folder: Path, vertices: int) -> tuple[Path | None, Path | None]:
    """Where landmarks lie on the meshes of a folder: FLAME's folder or an npz, one of them at most."""
    embedding = _embedding_of(folder, vertices)
    flame = next((entry.flame for entry in DATASETS.values() if entry.vertices == vertices), None)
    return flame if embedding is None and flame is not None and (flame / TEMPLATE_FILE).is_file() else None, embedding


def _embedding_of(folder: Path, vertices: int) -> Path | None:
    """A landmark embedding of such meshes in their folder, above it or in the working folder."""
    for place in dict.fromkeys((folder, folder.parent, Path())):
        for path in sorted(place.glob("*.npz")):
            try:
                if load_embedding(path).num_vertices == vertices:
                    return path
            except InputError:
                continue
    return None


def _lies_in(path: Path, folder: Path) -> bool:
    return folder.resolve() in (path.resolve(), *path.resolve().parents)
