"""Step 8: make a training set for the volume network (VRN): crops of 192 pixels and the filled volumes of their heads.

    python Reconstruction/vrn_dataset.py                                            # rendered demo heads -> demo/vrn
    python Reconstruction/vrn_dataset.py --rendered 5000 --face-model models/flame --output vrn_flame
    python Reconstruction/vrn_dataset.py photos/ --landmarks photos/ --output vrn_photos    # fits a face model
    python Reconstruction/vrn_dataset.py photos/ --landmarks photos/ --meshes fitted/ --output vrn_photos

Landmarks are 68 points with depth in pixels: <photo>.npy (z away from the viewer) or <photo>.mat (pt3d_68 of
AFLW2000-3D and 300W-LP). Meshes are in pixels of the photos. Photos without landmarks and damaged ones are left out
and named. docs/vrn.md describes the files.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from face4d.commands import cli

if TYPE_CHECKING:
    from face4d.vrn.volume_set import VolumeSample

RENDERED, HELD_OUT = 640, 64


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "photos", nargs="*", type=Path, metavar="PHOTO", help="photos, or folders of photos (default: rendered heads)"
    )
    photos = parser.add_argument_group("photos")
    photos.add_argument("--landmarks", type=Path, metavar="DIR", help="each photo's landmarks")
    photos.add_argument(
        "--meshes",
        type=Path,
        metavar="DIR",
        help="<photo>.ply or .obj, pixels, z away from the viewer (default: fitted)",
    )
    photos.add_argument("--test-share", type=cli.share, default=0.1, metavar="SHARE", help="of the photos for testing")
    heads = parser.add_argument_group("heads")
    heads.add_argument(
        "--rendered", type=cli.integer(1, 1_000_000), default=RENDERED, metavar="N", help="rendered heads for training"
    )
    heads.add_argument(
        "--held-out", type=cli.integer(1, 100_000), default=HELD_OUT, metavar="N", help="rendered heads for testing"
    )
    heads.add_argument(
        "--face-model",
        default="demo",
        metavar="DIR",
        help="to render or to fit: demo, or a folder such as models/flame",
    )
    parser.add_argument("--output", type=Path, default=Path("demo/vrn"), metavar="DIR", help="the set's folder")
    cli.add_run_flags(parser, "seed", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.photos and args.landmarks is None:
        parser.error("photos need --landmarks")
    if args.test_share >= 1:
        parser.error("--test-share: expected a share below 1")

    from face4d.deca.face_model import load_face_model
    from face4d.photos.faces import name_results, photo_paths
    from face4d.vrn.volume_set import PhotoSamples, split, write_rendered_set, write_volume_set

    jobs = name_results(photo_paths(args.photos)) if args.photos else []
    if args.dry_run:
        print(
            f"would write {f'{len(jobs)} photos' if jobs else f'{args.rendered} + {args.held_out} rendered heads'} "
            f"to {args.output}"
        )
        return
    if not jobs:
        written = write_rendered_set(
            args.output,
            load_face_model(args.face_model),
            args.rendered,
            args.held_out,
            args.seed,
            overwrite=args.overwrite,
            quiet=args.quiet,
        )
    else:
        layer = None if args.meshes else load_face_model(args.face_model, contour="fixed").layer
        dropped: dict[str, str] = {}
        parts: dict[str, Iterable[VolumeSample]] = {}
        for part, chosen in zip(("training", "testing"), split(jobs, args.test_share)):
            samples = PhotoSamples(chosen, args.landmarks, meshes=args.meshes, layer=layer)
            samples.dropped = dropped  # one list for both
            parts[part] = samples
        source = {"kind": "photos", "photos": [str(path) for path, _ in jobs], "landmarks": str(args.landmarks)}
        source |= {"meshes": str(args.meshes)} if args.meshes else {"face_model": args.face_model}
        written = write_volume_set(
            args.output, source, parts, dropped=dropped, total=len(jobs), overwrite=args.overwrite, quiet=args.quiet
        )
        if dropped:
            print(f"left out {len(dropped)} of {len(jobs)} photos: {', '.join(sorted(dropped))}")
    print(f"{len(written.training)} training and {len(written.testing)} test samples")
    cli.report_written([written.path])


if __name__ == "__main__":
    cli.run(main)
