"""Step 8: reconstruct the face in a photo as a mesh (DECA).

    python Reconstruction/deca.py photo.jpg --box 80 60 210 220
    python Reconstruction/deca.py photos/ --checkpoint models/deca_model.tar --flame models/flame
    python Reconstruction/deca.py photos/ --landmarks photos/       # <photo>.npy (68, 2) or AFLW2000's <photo>.mat
    python Reconstruction/deca.py --video talk.mp4 --box 80 60 210 220

Writes Reconstruction_DECA/<photo>/<photo>_parameters.npz, _neutral and _posed (.obj with texture, .ply with colours),
_landmarks.npy (68, 3) in metres, _landmarks_photo.npy (pixels), _depth.png, _texture.png, _overlay.png, and with the
published weights _detail (.obj, .ply). --landmarks also prints the landmark error. Results that exist for the same
photo, checkpoint and flags are kept. A video gives one neutral face and the parameters and landmarks of all frames.
Where weights come from: docs/reconstruction.md.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.commands import cli
from face4d.commands.photos import photo_digest, report_photo, report_photos

if TYPE_CHECKING:
    from face4d.deca.reconstruction import Reconstructor
    from face4d.deca.results import ResultWriter


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="photos, or folders of photos")
    parser.add_argument("--video", type=Path, metavar="FILE", help="a video in place of photos")
    face = parser.add_argument_group("where the face is", "default: found by the detector")
    cli.add_box_flag(face, "pixels, from brows to chin and ear to ear")
    face.add_argument(
        "--landmarks",
        type=Path,
        metavar="PATH",
        help="68 landmarks in pixels, npy or AFLW2000's mat; a folder: <photo>.npy or .mat",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="default: models/deca_model.tar, else models/deca_demo.pt"
    )
    model.add_argument(
        "--flame", metavar="DIR", help="face model, a folder or demo (default: what the encoder was trained for)"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        type=Path,
        default=Path("Reconstruction_DECA"),
        metavar="DIR",
        help="a folder per photo is made in it",
    )
    output.add_argument(
        "--texture-size", type=cli.integer(8, 8192), default=512, metavar="PIXELS", help="side of the texture"
    )
    cli.add_switch(output, "meshes", True, "write meshes and textures, not only parameters, landmarks and pictures")
    cli.add_switch(output, "detail", True, "fine displacement, where the weights have it")
    cli.add_run_flags(parser, "device", "threads", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if bool(args.photos) == (args.video is not None):
        parser.error("give photos, or --video")

    from face4d.deca.reconstruction import Reconstructor
    from face4d.deca.results import ResultWriter
    from face4d.runtime.device import limit_threads, resolve_device
    from face4d.runtime.incremental import choose_missing
    from face4d.runtime.lock import sole_writer
    from face4d.runtime.progress import counted

    limit_threads(args.threads, small=False)
    jobs = planned(args)
    reconstructor = Reconstructor.load(args.checkpoint, args.flame, resolve_device(args.device))
    if args.dry_run:
        print(
            f"would write {counted(len(jobs), 'face')} to {args.output}, "
            f"with {reconstructor.encoder.path} and face model {reconstructor.face.source}"
        )
        return
    writer = ResultWriter(args.output, reconstructor, args.texture_size)
    with sole_writer(args.output):
        wanted = [(args.output / name, made_of(args, reconstructor, path)) for path, name in jobs]
        missing = choose_missing(wanted, overwrite=args.overwrite)
        run = reconstruct_video if args.video else reconstruct_photos
        folders = run(args, jobs, dict(wanted), [wanted[number][0] for number in missing], reconstructor, writer)
    cli.report_written(folders, kept=not missing)
    if args.meshes:
        generator = "demo/models/demo.pt" if reconstructor.face.source == "demo" else "models/florence.pt"
        cli.suggest_next(
            args,
            "test.py",
            "--checkpoint",
            generator,
            "--actor",
            folders[0] / f"{folders[0].name}_neutral.ply",
            "--label",
            "all",
        )


def planned(args: Namespace) -> list[tuple[Path, str]]:
    """(file, name of its results) of all inputs."""
    from face4d.photos.faces import name_results, photo_paths

    return name_results([args.video] if args.video else photo_paths(args.photos))


def made_of(args: Namespace, reconstructor: Reconstructor, path: Path) -> dict[str, Any]:
    """What the results of a photo or video follow from: files by digest, and the flags that change them."""
    from face4d.photos.detection import detector_name
    from face4d.runtime.incremental import file_digest

    settings = {
        "input": photo_digest(path),
        "checkpoint": file_digest(reconstructor.encoder.path),
        "face model": reconstructor.face.source,
        "box": args.box,
    }
    return settings | {
        "landmarks": args.landmarks and str(args.landmarks),
        "detector": detector_name() if args.box is None and args.landmarks is None else None,
        "texture size": args.texture_size,
        "meshes": args.meshes,
        "detail": args.detail,
    }


def reconstruct_photos(
    args: Namespace,
    jobs: Sequence[tuple[Path, str]],
    settings: dict[Path, dict[str, Any]],
    missing: list[Path],
    reconstructor: Reconstructor,
    writer: ResultWriter,
) -> list[Path]:
    from face4d.deca.reconstruction import reconstruct
    from face4d.errors import InputError
    from face4d.photos.crops import read_photo
    from face4d.photos.faces import FaceFinder, landmark_nme
    from face4d.runtime.incremental import making
    from face4d.runtime.progress import track

    finder, folders, errors, skipped = FaceFinder(args.box, args.landmarks), [], [], []
    bar = track("reconstructing", jobs, unit="photo", quiet=args.quiet)
    for path, name in bar:
        folder = args.output / name
        if folder not in missing and args.landmarks is None:
            folders.append(folder)
            continue
        try:
            photo = read_photo(path)
            face, truth = finder.find(photo, path)
            found = reconstruct(reconstructor, photo, face, detail=args.detail)
        except InputError as error:  # of many photos, one without a face stops nothing
            if len(jobs) == 1:
                raise
            skipped.append(str(error))
            continue
        if folder in missing:
            with making(folder, settings[folder]) as place:
                writer.write(name, found, meshes=args.meshes, folder=place)
        folders.append(folder)
        if truth is not None:
            errors.append(landmark_nme(found.landmarks, truth))
            report_photo(bar, path, errors[-1])
    report_photos(args.output, skipped, errors, folders)
    return folders


def reconstruct_video(
    args: Namespace,
    jobs: Sequence[tuple[Path, str]],
    settings: dict[Path, dict[str, Any]],
    missing: list[Path],
    reconstructor: Reconstructor,
    writer: ResultWriter,
) -> list[Path]:
    from face4d.deca.tracking import reconstruct_frames
    from face4d.photos.faces import FaceFinder
    from face4d.runtime.incremental import making

    finder = FaceFinder(args.box, args.landmarks)
    for folder in missing:
        with making(folder, settings[folder]) as place:
            reconstruct_frames(args.video, folder.name, finder, reconstructor, writer, folder=place, quiet=args.quiet)
    return list(settings)


if __name__ == "__main__":
    cli.run(main)
