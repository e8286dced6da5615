"""Step 8: bring a scan of a head into the vertex order of a template, so that every step works on it.

    python Reconstruction/register.py scan.ply --output my_head.ply
    python Reconstruction/register.py scan.obj --output my_head.ply --landmarks scan_landmarks.npy
    python Reconstruction/register.py scan.stl --output my_head.ply --template head.ply --landmark-embedding head.npz
    python Reconstruction/register.py scans/ --output registered/        # a sequence, each frame from the one before

The scan (PLY, OBJ, OFF, STL) may be in metres, centimetres, millimetres or inches, lie in any way, have holes, hair,
shoulders, noise and no colours. Its face is found by drawing it from several sides, or by --landmarks. Writes the
registered head in metres, upright; beside it <output>.png (scan, result, distances), <output>.json (unit, place,
residual by region) and <output>_scan.ply, the scan in the same unit and place. A folder of numbered scans of one
person becomes a folder of heads, in the unit and place of the first. More: docs/registration.md.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli, data_flags
from face4d.commands.scans import files_of, print_registration, track_folder, write_registration
from face4d.errors import InputError

DEFAULT_FLAME = Path("models/flame")


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "scan",
        type=Path,
        metavar="SCAN",
        help="the scan: PLY, OBJ, OFF or STL, with triangles; or a folder of numbered ones",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the registered head (.ply); of a folder, a folder"
    )
    parser.add_argument(
        "--landmarks",
        type=Path,
        metavar="FILE",
        help="npy (68, 3), the scan's landmarks, of a folder the first one's, in its unit and place "
        "(default: found by the detector)",
    )
    template = parser.add_argument_group("template")
    template.add_argument(
        "--flame",
        metavar="DIR",
        help="folder with the template, its landmarks and, if there, its model; or demo "
        "(default: models/flame where that is, else demo)",
    )
    template.add_argument("--template", type=Path, metavar="FILE", help="a head of that topology to start from")
    template.add_argument(
        "--landmark-embedding", type=Path, metavar="FILE", help="npz, landmarks of a --template of any other topology"
    )
    cli.add_run_flags(parser, "overwrite", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    is_sequence = args.scan.is_dir()
    if not is_sequence and args.output.suffix.lower() != ".ply":
        raise InputError("--output", "a file named .ply", str(args.output))
    for path in [args.output] if is_sequence else files_of(args.output):
        cli.refuse_overwrite(path, args.overwrite)

    from face4d.landmarks import TEMPLATE_FILE
    from face4d.mesh.sequence import mesh_frames
    from face4d.registration.pipeline import landmark_anchors, register_scan
    from face4d.registration.scan import read_scan
    from face4d.registration.template import DEMO, load_template
    from face4d.registration.views import view_anchors
    from face4d.runtime.device import limit_threads
    from face4d.runtime.lock import sole_writer

    limit_threads(None, small=True)
    flame = args.flame or (str(DEFAULT_FLAME) if (DEFAULT_FLAME / TEMPLATE_FILE).is_file() else DEMO)
    template = load_template(flame, args.template, args.landmark_embedding)
    paths = mesh_frames(args.scan) if is_sequence else [args.scan]
    scan = read_scan(paths[0])
    anchors = landmark_anchors(args.landmarks, template) if args.landmarks else view_anchors(paths[0], scan, template)
    found = register_scan(paths[0], scan, template, anchors)

    print_registration(paths[0], found, template)
    if is_sequence:
        with sole_writer(args.output.parent, args.output.name):
            track_folder(args.output, paths, found, template, quiet=args.quiet)
        cli.report_written([args.output])
        return
    with sole_writer(args.output.parent, args.output.stem):
        written = write_registration(args.output, args.scan, found, template)
    cli.report_written(written)
    generator = data_flags.usual_generator(len(template.vertices))
    cli.suggest_next(args, "test.py", "--checkpoint", generator, "--actor", args.output, "--label", "all")


if __name__ == "__main__":
    cli.run(main)
