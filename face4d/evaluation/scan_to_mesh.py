r"""Measure reconstructed meshes against scans: median, mean and standard deviation of the scan-to-mesh distance, as in
the NoW protocol.

    python -m face4d.evaluation.scan_to_mesh --scans scans --meshes reconstructed --landmarks scan_landmarks \
        --flame models/flame --output scores
    python -m face4d.evaluation.scan_to_mesh --scans scans --meshes reconstructed --landmarks scan_landmarks \
        --mesh-landmarks mesh_landmarks

Scans and meshes are PLY or OBJ files. A mesh belongs to the scan of its own name, of its folder's name, or whose name
its own begins with (<scan>_<anything>.ply); a scan may have many meshes. Landmarks are files <name>.npy or <name>.txt,
seven points or 68: outer and inner corner of the right eye, inner and outer corner of the left eye, under the nose,
right and left corner of the mouth (subject's sides). Prints the table; with --output writes scan_to_mesh.csv, .md, .tex
and .json.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from face4d.commands import cli
from face4d.errors import InputError
from face4d.runtime.files import has_suffix, is_hidden

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

_SUFFIXES = (".ply", ".obj")
_UNITS = {"m": "metres", "mm": "millimetres", "cm": "centimetres", "in": "inches"}


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--scans", type=Path, required=True, metavar="DIR", help="folder of scans, or one scan")
    data.add_argument(
        "--meshes",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of reconstructed meshes at any depth, or one mesh",
    )
    data.add_argument(
        "--landmarks", type=Path, metavar="DIR", help="landmarks of the scans (default: beside the scans)"
    )
    data.add_argument(
        "--mesh-landmarks", type=Path, metavar="DIR", help="landmarks of the meshes (default: beside the meshes), or"
    )
    data.add_argument(
        "--flame",
        type=Path,
        metavar="DIR",
        help="landmark embedding of FLAME, to read them off meshes of its topology, or",
    )
    data.add_argument(
        "--landmark-embedding", type=Path, metavar="FILE", help="npz of another topology (face_idx, bary, faces)"
    )
    data.add_argument(
        "--unit",
        choices=("auto", *_UNITS),
        default="auto",
        help="of the scans and their landmarks; auto: told by the distance of the eyes",
    )
    how = parser.add_argument_group("measure")
    how.add_argument(
        "--radius",
        type=cli.number(0, 100, above=True),
        default=1.4,
        metavar="X",
        help="of the measured ball around the face's middle, in sizes of the face",
    )
    cli.add_switch(how, "whole", False, "measure every point of the scans")
    how.add_argument(
        "--refine",
        type=cli.integer(0, 1000),
        default=0,
        metavar="N",
        help="rounds of closest-point alignment after that on the landmarks",
    )
    cli.add_switch(
        how, "scaled", True, "let the alignment change the mesh's size (--no-scaled: the meshes are in the scans' unit)"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the tables")
    cli.add_run_flags(parser, "overwrite", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    if args.output:
        for suffix in ("csv", "md", "tex", "json"):
            cli.refuse_overwrite(args.output / f"scan_to_mesh.{suffix}", args.overwrite)

    from face4d.evaluation.scan_distance import pooled, scan_to_mesh, seven_landmarks
    from face4d.evaluation.tables import Column, text_table, write_table
    from face4d.mesh.plausibility import check_head
    from face4d.mesh.ply import read_ply_vertices
    from face4d.mesh.sequence import read_mesh
    from face4d.runtime.atomic import write_json
    from face4d.runtime.lock import sole_writer
    from face4d.runtime.progress import track

    scans: dict[str, Path] = {}
    for path in _files(args.scans, "scans"):
        if (other := scans.setdefault(path.stem, path)) != path:
            raise InputError(args.scans, f"one scan {path.stem}", f"{other.name} and {path.name}")
    pairs = [(path, _scan_of(path, args.meshes, scans)) for path in _files(args.meshes, "meshes")]
    mesh_landmarks = _mesh_landmarks(args)
    unit = scan_unit(args.unit, _beside(next(iter(scans.values())), args.scans, args.landmarks))
    mesh_unit = 1.0 if args.scaled else unit
    rows, results = [], []
    for path, scan in track("meshes", pairs, unit="pair", quiet=args.quiet):
        points = (read_ply_vertices(scan) if scan.suffix.lower() == ".ply" else read_mesh(scan)[0]) * unit
        marks = seven_landmarks(read_points(file := _beside(scan, args.scans, args.landmarks))) * unit
        check_eyes(file, marks)
        check_head(scan, points, body=True)
        vertices, faces = read_mesh(path)
        own_marks = seven_landmarks(mesh_landmarks(path, vertices, faces))
        if not args.scaled:
            check_eyes(path, own_marks * mesh_unit)
        try:
            result = scan_to_mesh(
                points, marks, vertices * mesh_unit, faces, own_marks * mesh_unit,
                radius=float("inf") if args.whole else args.radius, refine=args.refine, scaled=args.scaled,
            )  # fmt: skip
        except ValueError as error:
            raise InputError(path, f"a mesh to be laid on {scan.name}", str(error)) from None
        results.append(result)
        name = path.relative_to(args.meshes).as_posix() if args.meshes.is_dir() else path.name
        rows.append(
            {"mesh": name, "scan": scan.stem, "median": result.median, "mean": result.mean, "std": result.std,
             "points": len(result.distances), "scale": result.similarity.scale / unit if args.scaled else 1.0}
        )  # fmt: skip
    total = {"mesh": "all points", **pooled(results)}
    columns = (
        Column("mesh", "mesh"),
        Column("scan", "scan"),
        *(Column(key, f"{key} (mm)", ".3f", best="min") for key in ("median", "mean", "std")),
        Column("points", "points"),
        Column("scale", "scale", ".5g"),
    )
    print(text_table(columns, [*rows, total]))
    if args.output:
        with sole_writer(args.output):
            written = write_table(
                args.output / "scan_to_mesh", columns, [*rows, total], contest=[*(row["scan"] for row in rows), None]
            )
            write_json(args.output / "scan_to_mesh.json", {"unit": "mm", "meshes": rows, "all": pooled(results)})
        cli.report_written([*written, args.output / "scan_to_mesh.json"])


def scan_unit(choice: str, landmarks: Path) -> float:
    """Metres of the unit of the scans: the chosen one, or the one in which the eyes of the first scan are as far apart
    as eyes are, which is said.

    Raises:
        InputError: no unit makes a face of the landmarks.
    """
    from face4d.evaluation.scan_distance import seven_landmarks
    from face4d.mesh.plausibility import EYES_APART, EYES_RANGE, UNITS, unit_of

    metres = {"metres": 1.0, **UNITS}
    if choice != "auto":
        return metres[_UNITS[choice]]
    marks = seven_landmarks(read_points(landmarks))
    apart = _eyes_apart(marks)
    unit = unit_of(apart, EYES_APART, EYES_RANGE) if apart > 0 else None
    if unit is None:
        check_eyes(landmarks, marks)
    name, size = unit or ("metres", 1.0)
    log.warning("note: %s: outer eye corners %.4g apart: taken for %s (--unit says otherwise)", landmarks, apart, name)
    return size


def check_eyes(path: Path, marks: np.ndarray) -> None:
    """Refuse seven landmarks (7, 3) whose outer eye corners are not as far apart as those of a face in metres.

    Raises:
        InputError: names the unit that they seem to be in.
    """
    from face4d.mesh.plausibility import EYES_APART, EYES_RANGE, check_size

    check_size(path, _eyes_apart(marks), EYES_APART, EYES_RANGE, "outer eye corners")


def _eyes_apart(marks: np.ndarray) -> float:
    return float(((marks[0] - marks[3]) ** 2).sum() ** 0.5)


def read_points(path: str | Path) -> np.ndarray:
    """Seven or 68 landmarks (7 or 68, 3) of an npy or text file.

    Raises:
        InputError: no such file, another content, NaN or infinity.
    """
    import numpy as np

    from face4d.mesh.plausibility import as_float32
    from face4d.runtime.arrays import load_numbers

    path = Path(path)
    expected = "seven or 68 landmarks with x, y, z"
    if path.suffix.lower() == ".npy":
        points = load_numbers(path, expected)
    else:
        try:
            rows = path.read_text(encoding="utf-8").replace(",", " ").splitlines()
            points = np.array([[float(word) for word in row.split()] for row in rows if row.strip()])
        except FileNotFoundError:
            raise InputError(path, expected, "no such file") from None
        except ValueError as error:  # not numbers, rows of different lengths, no text at all
            raise InputError(path, expected, str(error)) from None
    if points.dtype.kind not in "iuf" or points.shape not in ((7, 3), (68, 3)):
        raise InputError(path, expected, f"{points.dtype} {points.shape}")
    as_float32(path, points)
    return points.astype(np.float64)


def _files(root: Path, what: str) -> list[Path]:
    if root.is_file():
        return [root]
    visible = (
        [path for path in root.rglob("*") if not any(is_hidden(part) for part in path.relative_to(root).parts)]
        if root.is_dir()
        else []
    )
    found = sorted(path for path in visible if has_suffix(path, _SUFFIXES) and path.is_file())
    if not found:
        raise InputError(root, f"{what}, .ply or .obj", "none" if root.is_dir() else "no such folder")
    return found


def _scan_of(mesh: Path, root: Path, scans: dict[str, Path]) -> Path:
    """The scan a mesh belongs to, by its name; if there is one scan and one mesh, they belong together."""
    if root.is_file() and len(scans) == 1:
        return next(iter(scans.values()))
    names = (
        [mesh.stem, *(folder.name for folder in mesh.relative_to(root).parents if folder.name)]
        if root.is_dir()
        else [mesh.stem]
    )
    for name in names:
        candidates = [
            scan for scan in scans if name == scan or (name.startswith(scan) and not name[len(scan)].isalnum())
        ]
        if candidates:
            return scans[max(candidates, key=len)]
    raise InputError(
        mesh,
        f"a mesh named after one of the scans ({', '.join(sorted(scans)[:3])}{', ...' if len(scans) > 3 else ''})",
        mesh.stem,
    )


def _beside(path: Path, root: Path, folder: Path | None) -> Path:
    """The landmark file of a scan or mesh: in ``folder``, at the same depth or at its top, or beside it."""
    places = [path.parent] if folder is None else [folder]
    if folder is not None and root.is_dir():
        places.insert(0, folder / path.relative_to(root).parent)
    for place in places:
        for suffix in (".npy", ".txt"):
            if (place / f"{path.stem}{suffix}").is_file():
                return place / f"{path.stem}{suffix}"
    raise InputError(
        places[-1] / f"{path.stem}.npy", f"seven or 68 landmarks of {path.name} (.npy or .txt)", "no such file"
    )


def _mesh_landmarks(args: Namespace) -> Callable[[Path, np.ndarray, np.ndarray], np.ndarray]:
    """How to get the landmarks of a mesh (path, vertices, faces)."""
    if sum(value is not None for value in (args.mesh_landmarks, args.flame, args.landmark_embedding)) > 1:
        raise InputError("--mesh-landmarks, --flame, --landmark-embedding", "at most one of them", "several")
    if args.flame is None and args.landmark_embedding is None:
        return lambda path, vertices, faces: read_points(_beside(path, args.meshes, args.mesh_landmarks))

    from face4d.landmarks import extract, load_embedding, load_flame_embedding
    from face4d.mesh.triangles import check_topology

    embedding = load_flame_embedding(args.flame) if args.flame is not None else load_embedding(args.landmark_embedding)

    def read_off(path: Path, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        check_topology(
            path, len(vertices), faces, embedding.num_vertices, embedding.faces, "the topology of the landmarks"
        )
        return extract(embedding, vertices)

    return read_off


if __name__ == "__main__":
    cli.run(main)
