"""Write the demo data set: a procedural head in the folder layouts of CoMA, Florence 4D and FLAME.

    python -m face4d demo                                         # six people, twelve expressions, in demo/
    python -m face4d demo --output my_demo --subjects 3 --labels mouth_open high_smile --florence-labels Happy

Writes <output>/Dataset_FLAME_Aligned_COMA (PLY), Dataset_FLAME_Aligned (OBJ), actors/ (neutral faces) and models/flame
(the head as a FLAME model). A complete demo with the same options is left as it is; one with others, or of another
version, is replaced only with --overwrite.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli
from face4d.datasets.entry import DATASETS


def build_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo"), metavar="DIR", help="folder of the demo")
    what = parser.add_argument_group("what to write")
    what.add_argument(
        "--subjects", type=cli.integer(1, 99), default=6, metavar="N", help="number of people, Demo01, Demo02, ..."
    )
    what.add_argument(
        "--labels",
        nargs="+",
        metavar="LABEL",
        help="of the CoMA-shaped part; all: CoMA's twelve and ten of Florence 4D (default: CoMA's)",
    )
    what.add_argument(
        "--florence-labels",
        nargs="*",
        default=["Happy", "Kissy", "Scream"],
        metavar="LABEL",
        help="Florence labels (default: Happy Kissy Scream)",
    )
    what.add_argument(
        "--florence-subjects",
        nargs="*",
        default=["Demo01", "Demo06"],
        metavar="NAME",
        help="people of the Florence part (default: Demo01 Demo06)",
    )
    what.add_argument(
        "--level", type=int, choices=(0, 1, 2), default=0, help="detail: about 850, 3400 or 13500 vertices"
    )
    cli.add_run_flags(parser, "seed", "overwrite", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and write the demo."""
    args = build_parser().parse_args(argv)
    from face4d.constants import COMA_LABELS, FLORENCE_LABELS
    from face4d.demo.write import write_demo

    labels = [*COMA_LABELS, *FLORENCE_LABELS] if args.labels == ["all"] else args.labels

    summary = write_demo(
        args.output, seed=args.seed, subjects=args.subjects, coma_labels=labels,
        florence_labels=args.florence_labels, florence_subjects=args.florence_subjects, level=args.level,
        overwrite=args.overwrite, quiet=args.quiet,
    )  # fmt: skip
    if summary.already_there:
        print(f"already there: {summary.root} ({summary.meshes} meshes)")
    else:
        cli.report_written([summary.root])
    if summary.root == DATASETS["demo"].output:
        cli.suggest_next(args, "convert_obj_to_ply.py", "--dataset", "demo")
