"""Step 8: make a training set for portrait animation by GAN inversion from one source photo and many target photos.

    python Reconstruction/generate_dataset.py --source me.jpg --targets others/ --landmarks marks/
    python Reconstruction/generate_dataset.py --source me.jpg --targets frames/ --smooth          # frames of a video
    python Reconstruction/generate_dataset.py --source me.jpg --targets others/ --expression-scale 2 --keep-eyes

Identity, head pose, camera and light are the source's, expression and jaw each target's. Writes
Inversion_Dataset/<source>_<NNN>_depth.jpg, _rendered_images.jpg, _mask.jpg, _masked_rendered_images.jpg, and
<source>_parameters.json with all parameters and the camera.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--source", type=Path, required=True, metavar="PHOTO", help="the person")
    parser.add_argument(
        "--targets",
        type=Path,
        nargs="+",
        required=True,
        metavar="PHOTO",
        help="photos, or folders of photos, of the expressions",
    )
    face = parser.add_argument_group("where the faces are", "default: found by the detector")
    cli.add_box_flag(face, "pixels, in all photos")
    face.add_argument(
        "--landmarks", type=Path, metavar="DIR", help="<photo>.npy (68, 2) or AFLW2000's <photo>.mat of all photos"
    )
    motion = parser.add_argument_group("expressions")
    cli.add_switch(motion, "smooth", False, "mean jaw and expression over 5 targets around each: for frames of a video")
    motion.add_argument(
        "--expression-scale",
        type=cli.number(0, 10, above=True),
        default=1.0,
        metavar="X",
        help="factor on expressions (2: exaggerated)",
    )
    cli.add_switch(motion, "keep-eyes", False, "the eye region keeps the source's expression")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="default: models/deca_model.tar, else models/deca_demo.pt"
    )
    model.add_argument(
        "--flame", metavar="DIR", help="face model, a folder or demo (default: what the encoder was trained for)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("Inversion_Dataset"), metavar="DIR", help="where the pictures go"
    )
    parser.add_argument(
        "--texture-size", type=cli.integer(8, 8192), default=1024, metavar="PIXELS", help="side of the source's texture"
    )
    cli.add_run_flags(parser, "device", "threads", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    from face4d.deca.inversion import InversionOptions, write_inversion_set
    from face4d.deca.networks import FaceCode
    from face4d.deca.reconstruction import PhotoFace, Reconstructor, reconstruct
    from face4d.errors import InputError
    from face4d.photos.crops import read_photo
    from face4d.photos.faces import FaceFinder, photo_paths
    from face4d.runtime.device import limit_threads, resolve_device
    from face4d.runtime.lock import sole_writer
    from face4d.runtime.progress import track

    limit_threads(args.threads, small=False)
    targets, name = photo_paths(args.targets), args.source.stem
    cli.refuse_overwrite(args.output / f"{name}_parameters.json", args.overwrite)
    reconstructor = Reconstructor.load(args.checkpoint, args.flame, resolve_device(args.device))
    finder = FaceFinder(args.box, args.landmarks)

    def face_of(path: Path) -> PhotoFace:
        photo = read_photo(path)
        return reconstruct(reconstructor, photo, finder.find(photo, path)[0], detail=False)

    if args.dry_run:
        print(
            f"would write {len(targets)} pictures of {args.source} to {args.output}, with {reconstructor.encoder.path}"
        )
        return
    source, codes, used, skipped = face_of(args.source), [], [], []
    for path in track("reconstructing", targets, unit="photo", quiet=args.quiet):
        try:
            codes.append(face_of(path).face.code)
            used.append(str(path))
        except InputError as error:  # of many photos, one without a face stops nothing
            if len(targets) == 1:
                raise
            skipped.append(str(error))
    for line in skipped:
        print(f"left out: {line}")
    if not used:
        raise InputError(args.output, "at least one target with a face", f"none of {len(targets)}")
    options = InversionOptions(args.smooth, args.expression_scale, args.keep_eyes)
    texture = {"texture_size": args.texture_size, "quiet": args.quiet}
    with sole_writer(args.output, name):
        cli.report_written(
            write_inversion_set(
                args.output, name, source, FaceCode.joined(codes), used, reconstructor, options, **texture
            )
        )


if __name__ == "__main__":
    cli.run(main)
