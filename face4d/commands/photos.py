"""What the commands that reconstruct photos share: what results follow from, and what is said of many photos."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.commands import cli, data_flags
from face4d.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

    from face4d.deca.reconstruction import PhotoFace
    from face4d.deca.results import ResultWriter
    from face4d.runtime.progress import Lines


def add_photo_flags(parser: ArgumentParser) -> None:
    """Which photos, or which video, and where the face is."""
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="photos, or folders of photos")
    parser.add_argument("--video", type=Path, metavar="FILE", help="a video in place of photos")
    add_place_flags(parser)


def add_place_flags(parser: ArgumentParser) -> None:
    """Where the face is in photos."""
    face = parser.add_argument_group("where the face is", "default: found by the detector")
    cli.add_box_flag(face, "pixels, from brows to chin and ear to ear")
    face.add_argument(
        "--landmarks",
        type=Path,
        metavar="PATH",
        help="68 landmarks in pixels, npy or AFLW2000's mat; a folder: <photo>.npy or .mat",
    )


def add_result_flags(parser: ArgumentParser, output: Path) -> Any:
    """Where results go, by default the folder ``output``, and which; returns the group of the flags."""
    group = parser.add_argument_group("output")
    group.add_argument("--output", type=Path, default=output, metavar="DIR", help="a folder per photo is made in it")
    group.add_argument(
        "--texture-size", type=cli.integer(8, 8192), default=512, metavar="PIXELS", help="side of the texture"
    )
    cli.add_switch(group, "meshes", True, "write meshes and textures, not only parameters, landmarks and pictures")
    return group


def planned(args: Namespace) -> list[tuple[Path, str]]:
    """(file, name of its results) of all inputs."""
    from face4d.photos.faces import name_results, photo_paths

    return name_results([args.video] if args.video else photo_paths(args.photos))


def inputs_of_results(args: Namespace, path: Path) -> dict[str, Any]:
    """What the results of a photo or video follow from, whatever finds the face: files by digest, and flags."""
    from face4d.photos.detection import detector_name

    return {
        "input": photo_digest(path),
        "box": args.box,
        "landmarks": args.landmarks and str(args.landmarks),
        "detector": detector_name() if args.box is None and args.landmarks is None else None,
        "texture size": args.texture_size,
        "meshes": args.meshes,
    }


def write_results(
    args: Namespace,
    jobs: Sequence[tuple[Path, str]],
    made_of: Callable[[Path], dict[str, Any]],
    writer: ResultWriter,
    reconstruct: Callable[[np.ndarray, Path], tuple[PhotoFace, np.ndarray | None]],
    follow: Callable[[str, Path], object],
) -> None:
    """Write the faces of photos or of a video that are not there yet, report them, and suggest to move the first.

    Args:
        jobs: of :func:`planned`.
        made_of: what the results of a photo or video follow from.
        reconstruct: a photo (H, W, 3) and its path to the face and, where they are known, its true landmarks.
        follow: writes the face of the video: name of the results, folder.
    """
    from face4d.runtime.incremental import choose_missing, making
    from face4d.runtime.lock import sole_writer

    with sole_writer(args.output):
        settings = {args.output / name: made_of(path) for path, name in jobs}
        folders = list(settings)
        missing = [folders[number] for number in choose_missing(list(settings.items()), overwrite=args.overwrite)]
        if args.video:
            for folder in missing:
                with making(folder, settings[folder]) as place:
                    follow(folder.name, place)
        else:
            folders = _write_photos(args, jobs, settings, missing, reconstruct, writer)
    cli.report_written(folders, kept=not missing)
    if args.meshes:
        generator = data_flags.usual_generator(writer.face.model.num_vertices)
        neutral = folders[0] / f"{folders[0].name}_neutral.ply"
        cli.suggest_next(args, "test.py", "--checkpoint", generator, "--actor", neutral, "--label", "all")


def _write_photos(
    args: Namespace,
    jobs: Sequence[tuple[Path, str]],
    settings: Mapping[Path, dict[str, Any]],
    missing: Sequence[Path],
    reconstruct: Callable[[np.ndarray, Path], tuple[PhotoFace, np.ndarray | None]],
    writer: ResultWriter,
) -> list[Path]:
    """Reconstruct photos that have no results yet (with ``--landmarks`` all, for their errors), write them and report.

    Returns:
        The folders there are.

    Raises:
        InputError: of a photo that is the only one; of many, one without a face stops nothing.
    """
    from face4d.photos.crops import read_photo
    from face4d.runtime.incremental import making
    from face4d.runtime.progress import track

    folders: list[Path] = []
    errors: list[float] = []
    skipped: list[str] = []
    bar = track("reconstructing", jobs, unit="photo", quiet=args.quiet)
    for path, name in bar:
        folder = args.output / name
        if folder not in missing and args.landmarks is None:
            folders.append(folder)
            continue
        try:
            found, truth = reconstruct(read_photo(path), path)
        except InputError as error:
            if len(jobs) == 1:
                raise
            skipped.append(str(error))
            continue
        if folder in missing:
            with making(folder, settings[folder]) as place:
                writer.write(name, found, meshes=args.meshes, folder=place)
        folders.append(folder)
        if truth is not None:
            errors.append(found.error(writer.face, truth))
            report_photo(bar, path, errors[-1])
    report_photos(args.output, skipped, errors, folders)
    return folders


def photo_digest(path: Path) -> str | None:
    """A digest of a photo's or video's content; None of one that cannot be read, of which its reader says why."""
    from face4d.runtime.incremental import file_digest

    try:
        return file_digest(path)
    except InputError:
        return None


def report_photo(bar: tqdm[Any] | Lines[Any], path: Path, error: float) -> None:
    """Print how far the landmarks of a photo lie from the true ones (NME), beside a bar that is shown."""
    from face4d.runtime.progress import Lines, share

    line = f"{path}: NME {share(error)} of the outer eye distance"
    if isinstance(bar, Lines):
        print(line, flush=True)
    else:
        bar.write(line)


def report_photos(output: Path, skipped: Sequence[str], errors: Sequence[float], folders: Sequence[Path]) -> None:
    """Print which photos were left out and why, and how far landmarks lie from the true ones.

    Args:
        output: folder of all results.
        skipped: a sentence for each photo left out.
        errors: landmark errors (NME), shares of the outer eye distance, of the photos whose landmarks are known.
        folders: results there are.

    Raises:
        InputError: no results at all.
    """
    from face4d.runtime.progress import counted, share

    for line in skipped:
        print(f"left out: {line}")
    if errors:
        mean, median = sum(errors) / len(errors), sorted(errors)[len(errors) // 2]
        print(
            f"NME of {counted(len(errors), 'photo')}: mean {share(mean)}, "
            f"median {share(median)} of the outer eye distance"
        )
    if not folders:
        raise InputError(output, "at least one photo with a face", f"none of {len(skipped)}")
