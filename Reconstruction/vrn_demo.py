"""Step 8: reconstruct the head in a photo through a volume (VRN).

    python Reconstruction/vrn_demo.py photo.jpg --box 80 60 210 220
    python Reconstruction/vrn_demo.py photos/ --landmarks photos/         # <photo>.npy or AFLW2000's <photo>.mat
    python Reconstruction/vrn_demo.py photos/ --checkpoint models/vrn_unguided.pth --volume

Writes Reconstruction_VRN/<photo>/<photo>_mesh.obj and .ply with colours (pixels of the photo, y up), _overview.png
(crop, depth, slices, mesh) and with --volume the volume. Landmarks with depth also give the error. Weights are
models/vrn_demo.pt of Reconstruction/vrn_train.py or the published ones. Weights trained on rendered heads are poor on
photos: docs/vrn.md.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli
from face4d.commands.photos import add_place_flags, photo_digest, report_photo, report_photos


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos, or folders of photos")
    add_place_flags(parser)
    model = parser.add_argument_group("model")
    model.add_argument("--checkpoint", type=Path, default=Path("models/vrn_demo.pt"), metavar="FILE", help="weights")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        type=Path,
        default=Path("Reconstruction_VRN"),
        metavar="DIR",
        help="a folder per photo is made in it",
    )
    cli.add_switch(output, "volume", False, "also write the volume (npz, bits along the depth)")
    cli.add_run_flags(parser, "device", "threads", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    from face4d.errors import InputError
    from face4d.photos.crops import read_photo
    from face4d.photos.faces import FaceFinder, name_results, photo_paths
    from face4d.runtime.device import limit_threads, resolve_device
    from face4d.runtime.incremental import choose_missing, making
    from face4d.runtime.lock import sole_writer
    from face4d.runtime.progress import counted, track
    from face4d.vrn.reconstruction import load_volume_network, reconstruct, write_volume_face
    from face4d.vrn.volume_set import landmarks_away

    limit_threads(args.threads, small=True)  # one photo at a time gains little from more
    jobs = name_results(photo_paths(args.photos))
    loaded = load_volume_network(args.checkpoint, device=resolve_device(args.device))
    if args.dry_run:
        print(f"would write {counted(len(jobs), 'head')} to {args.output}, with {loaded.path}")
        return
    finder, folders, errors, skipped = FaceFinder(args.box, args.landmarks), [], [], []
    with sole_writer(args.output):
        wanted = [(args.output / name, made_of(args, path)) for path, name in jobs]
        missing = choose_missing(wanted, overwrite=args.overwrite)
        bar = track("reconstructing", jobs, unit="photo", quiet=args.quiet)
        for number, (path, name) in enumerate(bar):
            folder, settings = wanted[number]
            if number not in missing and args.landmarks is None:
                folders.append(folder)
                continue
            try:
                photo = read_photo(path)
                face, truth = finder.find(photo, path)
                found = reconstruct(loaded, photo, face)
            except InputError as error:  # of many photos, one without a face stops nothing
                if len(jobs) == 1:
                    raise
                skipped.append(f"{path}: {error}" if str(path) not in str(error) else str(error))
                continue
            if number in missing:
                with making(folder, settings) as place:
                    write_volume_face(place, name, found, volume=args.volume)
            folders.append(folder)
            if truth is not None and truth.shape[1] == 3:
                errors.append(found.nme(landmarks_away(finder.file(path), truth)))
                if not args.quiet:
                    report_photo(bar, path, errors[-1])
    report_photos(args.output, skipped, errors, folders)
    cli.report_written(folders, kept=not missing)


def made_of(args: Namespace, path: Path) -> dict:
    """What the results of a photo follow from: files by digest, and the flags that change them."""
    from face4d.runtime.incremental import file_digest

    settings = {
        "input": photo_digest(path),
        "checkpoint": file_digest(args.checkpoint),
        "box": args.box,
        "volume": args.volume,
    }
    return settings | {"landmarks": args.landmarks and str(args.landmarks)}


if __name__ == "__main__":
    cli.run(main)
