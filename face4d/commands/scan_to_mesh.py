r"""Measure reconstructed meshes against scans: the scan-to-mesh distance, as in the NoW protocol.

Median, mean and standard deviation, of every mesh and of all points together.

    python -m face4d scan-to-mesh --scans scans --meshes reconstructed --landmarks scan_landmarks \
        --flame models/flame --output scores
    python -m face4d scan-to-mesh --scans scans --meshes reconstructed --landmarks scan_landmarks \
        --mesh-landmarks mesh_landmarks

Scans and meshes are PLY, OBJ, OFF or STL files. A mesh belongs to the scan of its own name, of its folder's name, or
whose name its own begins with (<scan>_<anything>.ply); a scan may have many meshes. Landmarks are files <name>.npy or
<name>.txt, seven points or 68: outer and inner corner of the right eye, inner and outer corner of the left eye, under
the nose, right and left corner of the mouth (subject's sides). Prints the table; with --output writes scan_to_mesh.csv,
.md, .tex and .json.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli
from face4d.errors import InputError


def build_parser() -> cli.Parser:
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
        choices=("auto", "m", "mm", "cm", "in"),
        default="auto",
        help="of the scans and their landmarks; auto: from the distance of the eyes",
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
    ways = (args.mesh_landmarks, args.flame, args.landmark_embedding)
    if sum(way is not None for way in ways) > 1:
        raise InputError("--mesh-landmarks, --flame, --landmark-embedding", "at most one of them", "several")
    if args.output:
        for suffix in ("csv", "md", "tex", "json"):
            cli.refuse_overwrite(args.output / f"scan_to_mesh.{suffix}", args.overwrite)

    from face4d.evaluation.scans import (
        check_eyes,
        landmarks_beside,
        mesh_files,
        mesh_landmarks,
        pooled,
        read_points,
        scan_of,
        scan_to_mesh,
        scan_unit,
        seven_landmarks,
    )
    from face4d.evaluation.tables import Column, text_table, write_table
    from face4d.mesh.plausibility import check_head
    from face4d.mesh.ply import read_ply_vertices
    from face4d.mesh.sequence import read_mesh
    from face4d.runtime.atomic import write_json
    from face4d.runtime.lock import sole_writer
    from face4d.runtime.progress import track

    scans: dict[str, Path] = {}
    for path in mesh_files(args.scans, "scans"):
        if (other := scans.setdefault(path.stem, path)) != path:
            raise InputError(args.scans, f"one scan {path.stem}", f"{other.name} and {path.name}")
    pairs = [(path, scan_of(path, args.meshes, scans)) for path in mesh_files(args.meshes, "meshes")]
    landmarks_of = mesh_landmarks(args.meshes, *ways)
    unit = scan_unit(args.unit, landmarks_beside(next(iter(scans.values())), args.scans, args.landmarks))
    mesh_unit = 1.0 if args.scaled else unit
    rows, results = [], []
    for path, scan in track("meshes", pairs, unit="pair", quiet=args.quiet):
        points = (read_ply_vertices(scan) if scan.suffix.lower() == ".ply" else read_mesh(scan)[0]) * unit
        marks = seven_landmarks(read_points(file := landmarks_beside(scan, args.scans, args.landmarks))) * unit
        check_eyes(file, marks)
        check_head(scan, points, body=True)
        vertices, faces = read_mesh(path)
        own_marks = seven_landmarks(landmarks_of(path, vertices, faces))
        if not args.scaled:
            check_eyes(path, own_marks * mesh_unit)
        try:
            result = scan_to_mesh(
                points, marks, vertices * mesh_unit, faces, own_marks * mesh_unit,
                radius=float("inf") if args.whole else args.radius, refine=args.refine, scaled=args.scaled,
            )  # fmt: skip
        except ValueError as error:
            raise InputError(path, f"a mesh to be aligned to {scan.name}", str(error)) from None
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
