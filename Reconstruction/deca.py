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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.commands import cli
from face4d.commands.photos import (
    add_photo_flags,
    add_result_flags,
    inputs_of_results,
    planned,
    write_results,
)

if TYPE_CHECKING:
    import numpy as np

    from face4d.deca.reconstruction import Reconstructor


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    add_photo_flags(parser)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="default: models/deca_model.tar, else models/deca_demo.pt"
    )
    model.add_argument(
        "--flame", metavar="DIR", help="face model, a folder or demo (default: what the encoder was trained for)"
    )
    output = add_result_flags(parser, Path("Reconstruction_DECA"))
    cli.add_switch(output, "detail", True, "fine displacement, where the weights have it")
    cli.add_run_flags(parser, "device", "threads", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if bool(args.photos) == (args.video is not None):
        parser.error("give photos, or --video")

    from face4d.deca.reconstruction import PhotoFace, Reconstructor, reconstruct
    from face4d.deca.results import ResultWriter
    from face4d.deca.tracking import reconstruct_frames
    from face4d.photos.faces import FaceFinder
    from face4d.runtime.device import limit_threads, resolve_device
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
    finder = FaceFinder(args.box, args.landmarks)
    writer = ResultWriter.of_encoder(args.output, reconstructor, args.texture_size)

    def find(photo: np.ndarray, path: Path) -> tuple[PhotoFace, np.ndarray | None]:
        face, truth = finder.find(photo, path)
        return reconstruct(reconstructor, photo, face, detail=args.detail), truth

    def follow(name: str, folder: Path) -> None:
        reconstruct_frames(args.video, name, finder, reconstructor, writer, folder=folder, quiet=args.quiet)

    write_results(args, jobs, partial(made_of, args, reconstructor), writer, find, follow)


def made_of(args: Namespace, reconstructor: Reconstructor, path: Path) -> dict[str, Any]:
    """What the results of a photo or video follow from: files by digest, and the flags that change them."""
    from face4d.runtime.incremental import file_digest

    return inputs_of_results(args, path) | {
        "checkpoint": file_digest(reconstructor.encoder.path),
        "face model": reconstructor.face.source,
        "detail": args.detail,
    }


if __name__ == "__main__":
    cli.run(main)
