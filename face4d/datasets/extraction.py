"""Mesh sequences to landmark files, split by subject, and preview pictures of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from face4d.datasets.layout import TEST_FOLDER, TRAIN_FOLDER
from face4d.datasets.mesh_set import MeshSequence, choose_labels, find_all, split_by_subject
from face4d.datasets.sampling import AS_THEY_ARE, GAPS, Resampling
from face4d.errors import InputError
from face4d.landmarks import (
    LandmarkEmbedding,
    check_corners,
    combine,
    corners_of_files,
    load_embedding,
    load_flame_embedding,
    mesh_remarks,
)
from face4d.mesh.plausibility import Remark, check_jumps, is_still, report, stillness
from face4d.mesh.ply import check_finite, read_ply, read_ply_vertices
from face4d.mesh.ply_header import A_PLY, header_of
from face4d.mesh.sequence import find_sequences, numbered_frames
from face4d.mesh.triangles import check_topology
from face4d.render.landmarks import landmark_gif
from face4d.resample import Plan, apply_plan
from face4d.runtime.arrays import load_numbers
from face4d.runtime.atomic import save_npy
from face4d.runtime.files import matching, open_sized, read_bytes, require_outside
from face4d.runtime.incremental import USUAL, State, Summary, WriteOptions, write_missing


class FaceReader:
    """Reads the triangles of many files; where a plain file has those of the last one they are not parsed again."""

    def __init__(self) -> None:
        self._rows, self._faces = b"", np.empty((0, 3), np.int32)

    def read(self, path: str | Path) -> np.ndarray:
        """(F, 3) int32 of one file.

        Raises:
            InputError: see :func:`face4d.mesh.ply.read_ply`.
        """
        data = read_bytes(path, A_PLY)
        header = header_of(path, data)
        begin = None if header.plain is None else header.size + 12 * header.plain[0]
        if begin is not None and self._rows and len(data) == begin + len(self._rows) and data.endswith(self._rows):
            return self._faces
        self._faces = read_ply(path)[1]
        self._rows = b"" if begin is None else data[begin:]
        return self._faces


class PointReader:
    """Reads the same few vertices of many files of one topology; of plain files only header, size and those vertices
    are looked at.

    Args:
        points: (N,) vertex numbers, 0..V-1.
        num_vertices: number V wanted in every file.
    """

    def __init__(self, points: np.ndarray, num_vertices: int) -> None:
        self.points, self.num_vertices = np.asarray(points), num_vertices
        self._header, self._size = b"", -1  # of the last plain file, and the size that goes with it

    def read(self, path: str | Path) -> np.ndarray:
        """(N, 3) float32 of one file.

        Raises:
            InputError: as :func:`read_ply_vertices`, though NaN and infinity only at the points read.
        """
        data = self._beginning(path, len(self._header) + 12 * self.num_vertices)
        if data is None:
            vertices = read_ply_vertices(path, self.num_vertices)
            self._learn(path)
            return vertices[self.points]
        # whole: the numbers lie at odd addresses
        rows = np.frombuffer(data, "V12", self.num_vertices, len(self._header))
        found = rows[self.points].view("<f4").reshape(-1, 3)
        check_finite(path, found)
        return found.astype(np.float32, copy=False)

    def check(self, path: str | Path) -> None:
        """Look at header and size of a file that is not needed.

        Raises:
            InputError: as :func:`read_ply_vertices` (a file that is not like the last one is read).
        """
        if self._beginning(path, len(self._header)) is None:
            read_ply_vertices(path, self.num_vertices)
            self._learn(path)

    def _beginning(self, path: str | Path, length: int) -> bytes | None:
        """The first bytes of a whole file with the header of the last plain one, else None."""
        descriptor, size = open_sized(path, A_PLY)
        try:
            data = os.read(descriptor, length) if size == self._size else b""
        finally:
            os.close(descriptor)
        return data if self._header and data.startswith(self._header) and len(data) == length else None

    def _learn(self, path: str | Path) -> None:
        data = read_bytes(path, A_PLY)
        header = header_of(path, data)
        if header.plain is not None and len(data) == header.size + 12 * header.plain[0] + 13 * header.plain[1]:
            self._header, self._size = data[: header.size], len(data)


_face_reader = FaceReader()


@dataclass(frozen=True)
class LandmarkFile:
    """One landmark file to be: frames in ``source``, landmarks at ``target``; ``other`` is its place in the other half
    of the split.
    """

    source: str
    target: str
    other: str


def choose_embedding(flame: str | Path, own: str | Path | None, contour_angle: float = 0.0) -> LandmarkEmbedding:
    """The embedding of one's own topology where a file is given, else that of the FLAME folder.

    Raises:
        InputError: see :func:`load_embedding` and :func:`load_flame_embedding`.
    """
    if own is not None:
        return load_embedding(own).at_contour_angle(contour_angle)
    return load_flame_embedding(flame, contour_angle)


def plan_landmarks(
    source: str | Path,
    target: str | Path,
    *,
    test_subjects: Sequence[str],
    labels: Sequence[str] | None = None,
    strict_subjects: bool = True,
    strict_labels: bool = True,
) -> tuple[list[LandmarkFile], list[LandmarkFile]]:
    """Landmark files of the training and of the test set for all PLY sequences below ``source``.

    Args:
        target: gets ``dataset_training`` and ``dataset_testing`` with ``<label>_<subject>.npy``.
        labels, strict_labels: see :func:`face4d.datasets.mesh_set.find_mesh_sequences`.
        test_subjects, strict_subjects: see :func:`face4d.datasets.mesh_set.split_by_subject`.

    Raises:
        InputError: see those two; also OBJ sequences without PLY ones, or a target inside ``source``.
    """
    require_outside(target, source)
    try:
        found = find_all(source)
    except InputError:
        _explain_obj(source)
        raise
    sequences = choose_labels(found, labels, source, strict=strict_labels)
    halves = split_by_subject(sequences, test_subjects, source, strict=strict_subjects)
    folders = Path(target, TRAIN_FOLDER), Path(target, TEST_FOLDER)
    train, test = (
        [LandmarkFile(str(s.folder), str(own / f"{s.name}.npy"), str(other / f"{s.name}.npy")) for s in half]
        for half, own, other in zip(halves, folders, folders[::-1])
    )
    report(target, _unexplained(found, folders, source))
    return train, test


def _unexplained(sequences: Sequence[MeshSequence], folders: Sequence[Path], source: str | Path) -> list[Remark]:
    """Landmark files of an earlier run whose meshes are gone or have another name: they would be trained on all the
    same.
    """
    names = {sequence.name for sequence in sequences}
    there = (
        path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if matching([path.name], (".npy",))
    )
    what = f"landmark files that no mesh sequence in {source} explains (renamed, or from other meshes); they stay"
    return [Remark(what, f"{path.parent.name}/{path.name}") for path in there if path.stem not in names]


def _explain_obj(source: str | Path) -> None:
    """OBJ sequences without any PLY sequence: say which step comes first."""
    for suffix in (".ply", ".obj"):
        try:
            find_sequences(source, suffix)
        except InputError:
            continue
        if suffix == ".obj":
            raise InputError(source, "PLY sequences (convert_obj_to_ply.py makes them)", "only OBJ ones") from None
        return


def write_landmarks(
    files: Sequence[LandmarkFile],
    embedding: LandmarkEmbedding,
    resampling: Resampling = AS_THEY_ARE,
    options: WriteOptions = USUAL,
) -> Summary:
    """Extract and write landmark files, (T, 68, 3) float32 in metres.

    Existing files are compared with what the meshes give now; equal ones are kept. One line names what is odd, of all
    files together.

    Args:
        resampling: on the way, see :func:`resampled_landmarks`; default: the frames as they are.

    Raises:
        InputError: an unreadable frame, a gap in the frame numbers; meshes that are no faces in metres of the
            embedding's topology (:func:`face4d.landmarks.check_mesh`), or jump; a file of other content, or of the same
            name in the other half of the split, without ``overwrite`` (which replaces the first and removes the
            second).
    """
    remarks: list[Remark] = []
    summary = write_missing(
        Path(files[0].target).parents[1],
        files,
        partial(_inspect, embedding=embedding, resampling=resampling),
        partial(_write, embedding=embedding, resampling=resampling),
        options,
        description="landmarks",
        remarks=remarks,
    )
    report(
        os.path.commonpath([os.path.dirname(os.path.dirname(file.source)) for file in files]) if files else "", remarks
    )
    return summary


def resampled_landmarks(embedding: LandmarkEmbedding, folder: str | Path, resampling: Resampling) -> np.ndarray:
    """Landmarks of a PLY sequence at another number of frames, the same to the bit as those of the meshes
    that :func:`face4d.datasets.sampling.sample_tree` writes.

    Only the landmarks' corners are resampled, and read only of the frames that the result is made of; of the others
    header and size are checked.

    Args:
        folder: holds the frames.

    Returns:
        (frames, 68, 3) float32, metres as in the files.

    Raises:
        InputError: see :func:`face4d.mesh.sequence.numbered_frames` and :class:`PointReader`; a sequence too short for
            the method, or that jumps.
    """
    numbers, names = zip(*numbered_frames(folder, skip_gaps=resampling.skip_gaps))
    plan = resampling.plan(folder, numbers)
    paths = [os.path.join(folder, name) for name in names]
    corners, used = _corners(embedding, paths, plan)
    _check_jumps(paths, corners, used)
    return combine(embedding, apply_plan(corners, plan))


def _corners(embedding: LandmarkEmbedding, paths: Sequence[str], plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Positions (T, 68, 3, 3) of the landmarks' corners in the frames that a plan takes, 0 in the others; and which it
    takes, frame 0 among them.

    Raises:
        InputError: a file that cannot be read or has another number of vertices.
    """
    used = np.zeros(len(paths), bool)
    used[plan.indices[plan.weights != 0]] = True
    reader = PointReader(embedding.corners.ravel(), embedding.num_vertices)
    corners = np.zeros((len(paths), *embedding.corners.shape, 3), np.float32)
    for path, needed, place in zip(paths, used.tolist(), corners.reshape(len(paths), -1, 3)):
        if needed:
            place[:] = reader.read(path)
        else:
            reader.check(path)
    return corners, used


def _check_jumps(paths: Sequence[str], corners: np.ndarray, used: np.ndarray) -> None:
    """Refuse a frame far from the one before, by a corner of every third landmark; see :func:`check_jumps`."""
    check_jumps(
        paths if used.all() else [path for path, needed in zip(paths, used.tolist()) if needed], corners[used, ::3, 0]
    )


def _landmarks(
    file: LandmarkFile, embedding: LandmarkEmbedding, resampling: Resampling
) -> tuple[np.ndarray, tuple[Remark, ...]]:
    """Landmarks (T, 68, 3) of one sequence, and what is odd about it."""
    numbers, names = zip(*numbered_frames(file.source, skip_gaps=resampling.skip_gaps))
    paths = [os.path.join(file.source, name) for name in names]
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    plan = resampling.plan(file.source, numbers)
    if resampling.frames is None:
        corners, used = corners_of_files(embedding, paths), np.ones(len(paths), bool)
    else:
        corners, used = _corners(embedding, paths, plan)
    faces = _face_reader.read(paths[0])
    check_topology(
        paths[0],
        embedding.num_vertices,
        faces,
        embedding.num_vertices,
        embedding.faces,
        "the topology of the landmarks",
    )
    first = check_corners(paths[0], corners[0], embedding)
    _check_jumps(paths, corners, used)
    landmarks = combine(embedding, corners if resampling.frames is None and not missing else apply_plan(corners, plan))
    name = "/".join(Path(file.source).parts[-2:])
    remarks = mesh_remarks(name, faces, first)
    remarks += [stillness(name, len(names))] if is_still(landmarks) else []
    remarks += [Remark(GAPS, f"{name} ({missing} of {missing + len(names)})")] if missing else []
    return landmarks, tuple(remarks)


def _inspect(file: LandmarkFile, embedding: LandmarkEmbedding, resampling: Resampling) -> State:
    numbered_frames(
        file.source, skip_gaps=resampling.skip_gaps
    )  # a gap in the frames is found before anything is written
    if Path(file.other).exists():
        return State(0, 0, (file.other,))
    if not Path(file.target).exists():
        return State(1, 0)
    found, remarks = _landmarks(file, embedding, resampling)
    return State(0, 1, (), remarks) if _is_equal(file, found) else State(0, 0, (file.target,), remarks)


def _is_equal(file: LandmarkFile, landmarks: np.ndarray) -> bool:
    try:
        return bool(np.array_equal(load_numbers(file.target, "landmarks"), landmarks))
    except InputError:
        return False


def _write(file: LandmarkFile, embedding: LandmarkEmbedding, resampling: Resampling) -> tuple[int, tuple[Remark, ...]]:
    landmarks, remarks = _landmarks(file, embedding, resampling)
    save_npy(file.target, landmarks)
    Path(file.other).unlink(missing_ok=True)
    return 1, remarks


def preview_path(file: LandmarkFile) -> Path:
    """Where the preview GIF of a landmark file goes: ``previews/<half>/<name>.gif`` beside the halves."""
    target = Path(file.target)
    return target.parents[1] / "previews" / target.parent.name / f"{target.stem}.gif"


def write_previews(files: Sequence[LandmarkFile], options: WriteOptions = USUAL, *, fps: float) -> Summary:
    """Draw a GIF of each landmark file at :func:`preview_path`; one that is newer than its landmarks is kept.

    Raises:
        InputError: an older GIF without ``overwrite``.
    """
    draw, folder = partial(_draw, fps=fps), preview_path(files[0]).parents[1]
    return write_missing(
        folder,
        files,
        _inspect_preview,
        draw,
        options,
        description="preview GIFs",
    )


def _inspect_preview(file: LandmarkFile) -> State:
    path = preview_path(file)
    if not path.exists():
        return State(1, 0)
    newer = path.stat().st_mtime_ns >= Path(file.target).stat().st_mtime_ns
    return State(0, 1) if newer else State(0, 0, (str(path),))


def _draw(file: LandmarkFile, fps: float) -> int:
    landmarks = load_numbers(file.target, "landmarks")
    landmark_gif(preview_path(file), landmarks, title=preview_path(file).stem, fps=fps)
    return 1
