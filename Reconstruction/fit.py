"""Neutral face meshes from photos by fitting a face model to the points of a landmark network; nothing is trained.

    python Reconstruction/fit.py photo.jpg                # models/flame where a model lies there, else the demo head
    python Reconstruction/fit.py left.jpg front.jpg right.jpg --one-person --flame models/flame
    python Reconstruction/fit.py --video clip.mp4

Writes the files of Reconstruction/deca.py but those of light and fine displacement: per photo
<output>/<photo>/<photo>_parameters.npz, _neutral and _posed (.obj with texture, .ply), _landmarks.npy,
_landmarks_photo.npy (pixels), _depth.png, _texture.png, _overlay.png. What to expect: pose, expression and proportions
of the face, colours of the photo; no likeness beyond what 468 points show. --landmarks also prints the landmark error.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.commands import cli
from face4d.commands.photos import (
    add_photo_flags,
    add_result_flags,
    inputs_of_results,
    photo_digest,
    planned,
    suggest_moving,
    write_photos,
)

if TYPE_CHECKING:
    import numpy as np

    from face4d.deca.photo_fit import PhotoFitter
    from face4d.deca.results import ResultWriter
    from face4d.photos.faces import FaceFinder


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    add_photo_flags(parser)
    parser.add_argument("--one-person", action="store_true", help="all photos show one person: fit one identity to all")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--flame",
        metavar="DIR",
        help="face model, a folder or demo (default: models/flame where a model lies there, else demo)",
    )
    model.add_argument(
        "--displacement",
        type=cli.number(0, 10),
        default=0.5,
        metavar="MM",
        help="expected size of smooth displacements beyond the model's identities; 0 keeps to the model",
    )
    cli.add_switch(model, "shading", True, "use the shading of the skin, not only the points")
    add_result_flags(parser, Path("Reconstruction_fit"))
    cli.add_run_flags(parser, "threads", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if bool(args.photos) == (args.video is not None):
        parser.error("give photos, or --video")

    from face4d.constants import MM_PER_METRE
    from face4d.deca.photo_fit import PhotoFitter, default_face_model
    from face4d.deca.results import ResultWriter
    from face4d.photos.faces import FaceFinder
    from face4d.runtime.device import limit_threads
    from face4d.runtime.incremental import choose_missing, making
    from face4d.runtime.lock import sole_writer
    from face4d.runtime.progress import counted

    limit_threads(args.threads, small=False)
    jobs, finder = planned(args), FaceFinder(args.box, args.landmarks)
    displacement = args.displacement / MM_PER_METRE
    fitter = PhotoFitter.load(args.flame or default_face_model(), displacement, shading=args.shading)
    if args.dry_run:
        print(f"would write {counted(len(jobs), 'face')} to {args.output}, with face model {fitter.face.source}")
        return
    writer = ResultWriter(args.output, fitter.face, args.texture_size)
    with sole_writer(args.output):
        settings = {args.output / name: made_of(args, fitter, jobs, path) for path, name in jobs}
        missing = [
            list(settings)[number] for number in choose_missing(list(settings.items()), overwrite=args.overwrite)
        ]
        if args.video:
            folders = list(settings)
            for folder in missing:
                with making(folder, settings[folder]) as place:
                    fitter.fit_video(args.video, folder.name, finder, writer, folder=place, quiet=args.quiet)
        else:
            folders = fit_photos(args, jobs, settings, missing, fitter, finder, writer)
    cli.report_written(folders, kept=not missing)
    if args.meshes:
        suggest_moving(args, folders[0], fitter.face.source == "demo")


def made_of(args: Namespace, fitter: PhotoFitter, jobs: Sequence[tuple[Path, str]], path: Path) -> dict[str, Any]:
    """What the results of a photo or video follow from."""
    return inputs_of_results(args, path) | {
        "face model": [fitter.face.source, *fitter.face.fingerprint],
        "displacement": args.displacement,
        "shading": args.shading,
        "one person": [photo_digest(other) for other, _ in jobs] if args.one_person else None,
    }


def fit_photos(
    args: Namespace,
    jobs: Sequence[tuple[Path, str]],
    settings: dict[Path, dict[str, Any]],
    missing: list[Path],
    fitter: PhotoFitter,
    finder: FaceFinder,
    writer: ResultWriter,
) -> list[Path]:
    from face4d.deca.reconstruction import PhotoFace

    identity = shared_identity(args, jobs, fitter, finder) if args.one_person and missing else None

    def find(photo: np.ndarray, path: Path) -> tuple[PhotoFace, np.ndarray | None]:
        truth = finder.find(photo, path)[1] if args.landmarks is not None else None
        return fitter.fit(photo, finder.points(photo, path).points, identity), truth

    return write_photos(args, jobs, settings, missing, find, writer)


def shared_identity(
    args: Namespace, jobs: Sequence[tuple[Path, str]], fitter: PhotoFitter, finder: FaceFinder
) -> np.ndarray:
    """The identity of the person in all photos but those that cannot be used, of which the writing says why."""
    from face4d.errors import InputError
    from face4d.photos.crops import read_photo
    from face4d.runtime.progress import track

    seen = []
    for path, _ in track("looking", jobs, unit="photo", quiet=args.quiet):
        try:
            photo = read_photo(path)
            seen.append(fitter.seen(photo, finder.points(photo, path).points))
        except InputError:
            if len(jobs) == 1:
                raise
    if not seen:
        raise InputError(jobs[0][0].parent, "at least one photo with a face", f"none of {len(jobs)}")
    return fitter.identity(seen)


if __name__ == "__main__":
    cli.run(main)
