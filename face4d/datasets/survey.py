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
from face4d.datasets.mesh_set import MeshSequence, name_sequences
from face4d.errors import InputError
from face4d.landmarks import TEMPLATE_FILE, load_embedding
from face4d.mesh.sequence import find_sequences, numbered_frames, read_mesh
from face4d.runtime.progress import counted


@dataclass(frozen=True)
class Found:
    """A sequence of a folder.

    Attributes:
        path: of the landmark file, or of the mesh of the first frame.
        label, subject: as its name has them.
        frames: from the first to the last, those without a mesh among them, which --skip-gaps fills.
    """

    path: Path
    label: str
    subject: str
    frames: int


@dataclass(frozen=True)
class Survey:
    """What a folder holds.

    Attributes:
        folder: as it was given.
        format: of mesh sequences; None for landmark files.
        labels, subjects: found, sorted.
        test_subjects: proposed, the last fifth, or those of ``dataset_testing``; none where one subject is all.
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

    @classmethod
    def of(cls, folder: Path, found: Sequence[Found]) -> Survey:
        """What sequences of a folder, at least one, are together."""
        kind = found[0].path.suffix.lower().removeprefix(".")
        landmarks = kind == "npy"
        labels, subjects = _names(found, "label"), _names(found, "subject")
        tested = last_fifth(subjects) if len(subjects) > 1 else ()
        if landmarks and (folder / TRAIN_FOLDER).is_dir() and (folder / TEST_FOLDER).is_dir():
            tested = _names([one for one in found if folder / TEST_FOLDER in one.path.parents], "subject")
        lengths = [one.frames for one in found]
        frames = min(lengths), max(lengths)
        if landmarks:
            return cls(folder, None, labels, subjects, tested, len(found), frames)
        example = next(one.path for one in found if one.subject in (tested or subjects))
        neutral = folder / example.relative_to(os.path.abspath(folder))
        vertices = len(read_mesh(neutral)[0])
        flame, embedding = find_embedding(folder, vertices)
        return cls(folder, kind, labels, subjects, tested, len(found), frames, vertices, flame, embedding, neutral)

    def require_test_set(self) -> None:
        """Refuse a folder of which nothing can be tested on.

        Raises:
            InputError: a single subject, or nothing in ``dataset_testing``.
        """
        if len(self.subjects) < 2:
            found = f"one, {self.subjects[0]}"
            raise InputError(self.folder, "two subjects or more, of which one is tested on", found)
        if not self.test_subjects:
            raise InputError(self.folder / TEST_FOLDER, "<label>_<subject>.npy landmark files", "none")

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
        yield f"test set    {', '.join(self.test_subjects) or 'none'}"
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

    Raises:
        InputError: no such folder, nothing of that kind in it, files or names that no step could read, a single
            subject.
    """
    folder = Path(folder)
    suffix, sequences = contents(folder)
    if suffix is None:
        found = [Found(one.path, one.label, one.subject, len(one.landmarks)) for one in load_folder(folder)]
    else:
        found = [found_meshes(one, numbered_frames(one.folder, suffix, skip_gaps=True)) for one in sequences]
    looked_at = Survey.of(folder, found)
    looked_at.require_test_set()
    return looked_at


def contents(folder: Path) -> tuple[str | None, list[MeshSequence]]:
    """What is in a folder: the mesh sequences and the suffix of their frames, ``.ply`` or ``.obj``, whichever is more;
    None and no sequences where it holds landmark files.

    Raises:
        InputError: no such folder, or neither in it.
    """
    if not folder.is_dir():
        raise InputError(folder, "a folder of mesh sequences or landmark files", "no such folder")
    folders: dict[str, list[Path]] = {}
    for kind in reversed(FORMATS):  # obj first: step 1 leaves both
        try:
            folders[f".{kind}"] = find_sequences(folder, f".{kind}")
        except InputError:
            continue
    if folders:
        suffix = max(folders, key=lambda suffix: len(folders[suffix]))
        return suffix, name_sequences(folder, folders[suffix])
    if not landmark_paths(folder):
        expected = "<subject>/<label>/ folders of numbered PLY or OBJ frames, or <label>_<subject>.npy landmark files"
        raise InputError(folder, expected, "neither")
    return None, []


def found_meshes(sequence: MeshSequence, numbered: Sequence[tuple[int, str]]) -> Found:
    """A mesh sequence by the numbers and names of its frames."""
    (first, name), (last, _) = numbered[0], numbered[-1]
    return Found(sequence.folder / name, sequence.label, sequence.subject, last - first + 1)


def _names(sequences: Sequence[Found], what: str) -> tuple[str, ...]:
    return tuple(sorted({getattr(one, what) for one in sequences}))


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
