"""Flags that name landmark data, shared by the scripts of steps 2 to 7, and the options they make."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.commands import cli
from face4d.constants import DEMO_VERTICES
from face4d.datasets.entry import DATASETS, OWN, Dataset
from face4d.datasets.own import find_dataset
from face4d.datasets.source import DataSource, choose_source
from face4d.errors import InputError

if TYPE_CHECKING:  # it loads joblib, and parsing flags must not
    from face4d.runtime.incremental import WriteOptions


def add_data_flags(parser: ArgumentParser, *, training: bool) -> None:
    """Add the flags that name a landmark data set.

    Args:
        training: the script chooses the data set; else what a checkpoint remembers is the default.
    """
    group = parser.add_argument_group("data", None if training else "defaults: what the checkpoint was trained with")
    default = "default: florence, with --landmarks own; of a grid: coma and florence, where their landmark folders are"
    add_dataset_flag(group, "picks the defaults of all flags of this group", default if training else "")
    group.add_argument(
        "--landmarks",
        type=Path,
        metavar="DIR",
        help="landmark folder of step 3; with dataset_training and dataset_testing, or plain"
        + ("; or SRVF samples, <label>.mat" if training else ""),
    )
    group.add_argument(
        "--test-subjects", nargs="+", metavar="NAME", help="test set of a plain folder (default: the thesis' subjects)"
    )
    if training:
        group.add_argument(
            "--labels", nargs="+", metavar="NAME", help="expressions to learn, or all (default: the thesis' labels)"
        )
        group.add_argument(
            "--validation-subjects",
            nargs="+",
            default=[],
            metavar="NAME",
            help="training subjects held out to choose weights and stopping",
        )
    add_face_flags(group)


def add_dataset_flag(group: argparse._ActionsContainer, meaning: str, default: str = "") -> None:
    """Add ``--dataset``."""
    known = (
        f"{', '.join(name for name in DATASETS if name != OWN)}, or NAME of one's own data, "
        "described in NAME.toml (docs/data.md)"
    )
    group.add_argument("--dataset", metavar="NAME", help=f"{meaning}: {known}" + (f" ({default})" if default else ""))


def chosen_dataset(args: Namespace, default: str, *, by_hand: bool = False) -> Dataset:
    """The data set of ``--dataset``.

    Args:
        default: its name where the flag is not given.
        by_hand: another flag names the data, which then belongs to none of the known data sets.

    Raises:
        InputError: no such data set.
    """
    return find_dataset(args.dataset or (OWN if by_hand else default))


def usual_labels(args: Namespace, dataset: Dataset) -> tuple[str, ...] | None:
    """Labels of step 3 without ``--labels``: the data set's, but all of a folder that is named by hand."""
    return None if args.input and not args.dataset else dataset.labels


def usual_test_subjects(dataset: Dataset) -> tuple[str, ...]:
    """Test subjects of step 3 without ``--test-subjects``.

    Raises:
        InputError: the data set names none.
    """
    if not dataset.test_subjects:
        raise InputError("--test-subjects", f"subjects of the test set, which {dataset.name} does not name", "none")
    return dataset.test_subjects


def words_of_landmarks(args: Namespace, dataset: Dataset, landmarks: Path) -> list[str]:
    """Words of ``main.py`` that train on what step 3 wrote."""
    if args.input and not args.dataset:
        return ["--landmarks", str(landmarks)]
    words = words_unless_usual(landmarks=(landmarks, dataset.landmarks))
    run = dataset.name if landmarks == dataset.landmarks else f"{dataset.name}_unsampled"
    return ["--dataset", dataset.name, *words, "--run", run]


def add_face_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags that name neutral faces and say where landmarks lie on a mesh."""
    group.add_argument(
        "--actors",
        type=Path,
        metavar="DIR",
        help="<subject>.ply neutral meshes (default: frame 0 of each sequence is its neutral)",
    )
    add_embedding_flags(group)


def add_embedding_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags that say where landmarks lie on a mesh."""
    group.add_argument(
        "--flame", type=Path, metavar="DIR", help="landmark embedding files, used with meshes (default: models/flame)"
    )
    group.add_argument(
        "--landmark-embedding",
        type=Path,
        metavar="FILE",
        help="one's own topology, npz with face_idx, bary, faces; in place of --flame",
    )


def add_extraction_flags(parser: ArgumentParser) -> None:
    """Add the flags of step 3 that say where landmarks lie on a mesh, and whether to draw them."""
    group = parser.add_argument_group("landmarks")
    add_embedding_flags(group)
    group.add_argument(
        "--contour-angle",
        type=cli.number(-180, 180),
        default=0.0,
        metavar="DEGREES",
        help="jaw line of a head turned by -39 to 39 degrees, + is its own left",
    )
    cli.add_switch(group, "plot", False, "also write preview GIFs")
    add_gap_flag(group)


def add_gap_flag(group: argparse._ArgumentGroup) -> None:
    """Add ``--skip-gaps`` of steps 2 and 3."""
    meaning = "read sequences whose frame numbers have holes: the numbers are the time, missing frames are interpolated"
    cli.add_switch(group, "skip-gaps", False, meaning)


def write_options(args: Namespace, workers: int) -> WriteOptions:
    """How steps 1 to 3 write their files.

    Args:
        workers: as yielded by :func:`face4d.runtime.parallel.cluster`.
    """
    from face4d.runtime.incremental import WriteOptions

    return WriteOptions(args.overwrite, args.dry_run, workers, args.quiet)


def data_source(args: Namespace, remembered: Mapping[str, Any] | None = None, owner: Path | None = None) -> DataSource:
    """The data that the flags of :func:`add_data_flags` name, see :func:`face4d.datasets.source.choose_source`."""
    return choose_source(
        dataset=args.dataset,
        landmarks=args.landmarks,
        test_subjects=args.test_subjects,
        labels=getattr(args, "labels", None),
        actors=args.actors,
        flame=args.flame,
        landmark_embedding=args.landmark_embedding,
        remembered=remembered,
        owner=owner,
    )


def usual_generator(num_vertices: int) -> str:
    """The generator to suggest for a face of so many vertices: the demo's, or the one of the first data set."""
    return "demo/models/demo.pt" if num_vertices == DEMO_VERTICES else "models/florence.pt"


def words_unless_usual(**flags: tuple[object, object]) -> list[str]:
    """Words of a command for flags given as (value, what the command takes without the flag); those that agree are left
    out.

    >>> words_unless_usual(dataset=("demo", "coma"), input=("sampling", "sampling"))
    ['--dataset', 'demo']
    """
    return [word for flag, (value, usual) in flags.items() if value != usual for word in (f"--{flag}", str(value))]
