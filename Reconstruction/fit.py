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

import contextlib
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.commands import cli
from face4d.commands.photos import (
    add_photo_flags,
    add_result_flags,
    inputs_of_results,
    photo_digest,
    planned,
    write_results,
)

if TYPE_CHECKING:
    import numpy as np

    from face4d.fitting.photos import PhotoFitter
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
    from face4d.deca.reconstruction import PhotoFace
    from face4d.deca.results import ResultWriter
    from face4d.fitting.photos import PhotoFitter, default_face_model
    from face4d.photos.faces import FaceFinder
    from face4d.runtime.device import limit_threads
    from face4d.runtime.progress import counted

    limit_threads(args.threads, small=False)
    jobs, finder = planned(args), FaceFinder(args.box, args.landmarks)
    displacement = args.displacement / MM_PER_METRE
    fitter = PhotoFitter.load(args.flame or default_face_model(), displacement, shading=args.shading)
    if args.dry_run:
        print(f"would write {counted(len(jobs), 'face')} to {args.output}, with face model {fitter.face.source}")
        return
    writer = ResultWriter(args.output, fitter.face, args.texture_size)
    # of all photos, as soon as one of them needs it
    shared = lru_cache(maxsize=1)(partial(shared_identity, args, jobs, fitter, finder))

    def find(photo: np.ndarray, path: Path) -> tuple[PhotoFace, np.ndarray | None]:
        truth = finder.find(photo, path)[1] if args.landmarks is not None else None
        points = finder.points(photo, path).points
        return fitter.fit(photo, points, shared() if args.one_person else None), truth

    def follow(name: str, folder: Path) -> None:
        fitter.fit_video(args.video, name, finder, writer, folder=folder, quiet=args.quiet)

    write_results(args, jobs, partial(made_of, args, fitter, jobs), writer, find, follow)


def made_of(args: Namespace, fitter: PhotoFitter, jobs: Sequence[tuple[Path, str]], path: Path) -> dict[str, Any]:
    """What the results of a photo or video follow from."""
    return inputs_of_results(args, path) | {
        "face model": [fitter.face.source, *fitter.face.fingerprint],
        "displacement": args.displacement,
        "shading": args.shading,
        "one person": [photo_digest(other) for other, _ in jobs] if args.one_person else None,
    }


def shared_identity(
    args: Namespace, jobs: Sequence[tuple[Path, str]], fitter: PhotoFitter, finder: FaceFinder
) -> np.ndarray:
    """The identity of the person in all photos but those that cannot be used; reporting says why."""
    from face4d.errors import InputError
    from face4d.photos.crops import read_photo
    from face4d.runtime.progress import track

    seen = []
    for path, _ in track("looking", jobs, unit="photo", quiet=args.quiet):
        with contextlib.suppress(InputError):
            photo = read_photo(path)
            seen.append(fitter.seen(photo, finder.points(photo, path).points))
    return fitter.identity(seen)


if __name__ == "__main__":
    cli.run(main)
