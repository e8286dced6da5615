"""Describe a folder of one's own data, so that every step finds it by name.

    python -m face4d dataset MyMeshes  # writes mine.toml; then every step takes --dataset mine
    python -m face4d dataset MyLandmarks --name studio   # writes studio.toml
    python -m face4d dataset --show mine                 # what a data set says, as run.sh reads it

Looks for mesh sequences, <subject>/<label>/ with numbered PLY or OBJ frames at any depth, or landmark files
<label>_<subject>.npy. docs/own-data.md lists the keys of the file.
"""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path

from face4d.commands import cli
from face4d.datasets.entry import OWN, Dataset, ResampledMeshes
from face4d.datasets.own import dataset_of, find_dataset
from face4d.errors import InputError
from face4d.runtime.files import require_name


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="mesh sequences or landmark files")
    parser.add_argument("--name", default="mine", help="of the data set and, with .toml, of its file")
    parser.add_argument("--show", metavar="NAME", help="print what a data set says and write nothing")
    cli.add_run_flags(parser, "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.folder is None) == (args.show is None):
        parser.error("give FOLDER or --show NAME")
    if args.show is not None:
        if args.show == OWN:
            raise InputError("--show", "a data set that is described", f"{OWN}, which is what a flag names")
        print("\n".join(variables(find_dataset(args.show))))
        return
    from face4d.datasets.survey import survey, toml_text
    from face4d.runtime.atomic import write_bytes

    require_name("--name", "a name", args.name)
    file = Path(f"{args.name}.toml")
    if file.exists():
        raise InputError(file, "no file of that name (edit it, remove it, or take another --name)", "one")
    found = survey(args.folder)
    values = found.values(args.name)
    dataset = dataset_of(file, values)
    if not args.quiet:
        print("\n".join(found.describe()))
    if args.dry_run:
        print(f"would write {file}")
        return
    write_bytes(file, toml_text(args.name, values).encode())
    if not args.quiet:
        print(f"all steps   bash run.sh {shlex.quote(args.name)}")
    cli.report_written([file])
    cli.suggest_next(args, *first_step(dataset))


def first_step(dataset: Dataset) -> list[str]:
    """Script and words of the first step that a data set takes."""
    if not dataset.meshes:
        return ["main.py", "--dataset", dataset.name, "--run", dataset.name]
    meshes = dataset.mesh_sequences()
    following = "sampling_coma.py" if isinstance(meshes, ResampledMeshes) else "get_animation_landmark_ply.py"
    return ["convert_obj_to_ply.py" if meshes.format == "obj" else following, "--dataset", dataset.name]


def variables(dataset: Dataset) -> Iterator[str]:
    """What an entry says, as shell assignments; what it has not is empty."""
    resampled = next((meshes for meshes in dataset.meshes if isinstance(meshes, ResampledMeshes)), None)
    as_they_are = next((meshes for meshes in dataset.meshes if not isinstance(meshes, ResampledMeshes)), None)
    to_convert = next((meshes for meshes in dataset.meshes if meshes.format == "obj"), None)
    facts = {
        "name": dataset.name,
        "output": dataset.output,
        "meshes": dataset.meshes[0].folder if dataset.meshes else "",
        "to_convert": to_convert.folder if to_convert else "",
        "to_resample": resampled.folder if resampled else "",
        "resampled": resampled.resampled if resampled else "",
        "as_they_are": as_they_are.folder if as_they_are else "",
        "frames": resampled.frames if resampled else "",
        "landmarks": dataset.landmarks or "",
        "neutral": dataset.neutral[0],
        "another": dataset.neutral[1],
        "label": dataset.example_label,
        "maker": shlex.join(dataset.maker),
    }
    for key, value in facts.items():
        yield f"{key}={shlex.quote(str(value))}"
