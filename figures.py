"""Step 9: draw the figures and tables of all runs and scores, and one page with all of them.

    python figures.py
    python figures.py --dataset demo
    python figures.py --import-curves author_curves.csv.gz --output figures --overwrite
    python figures.py --only strips galleries --every-subject

Reads runs/ (main.py, Classification/main.py), results/*/evaluate.json (Classification/test.py), Generated_Animation/
(test.py), the landmark folders and, for surfaces, meshes and decoder (Sparse2Dense/main.py). Writes
figures/report.html, a page with moving heads, scores and curves, figures/curves/, figures/<result>/ (error over time
and per landmark, confusion matrices, features, strips/, gallery.gif) as PDF and PNG, and figures/tables/ as CSV,
Markdown and LaTeX. See docs/figures.md.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli, data_flags
from face4d.datasets.entry import DATASETS
from face4d.errors import InputError
from face4d.runtime.files import is_hidden, require_outside
from face4d.runtime.lock import sole_writer

FAMILIES = ("heads", "curves", "strips", "galleries", "scores", "tables", "report")


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    data = parser.add_argument_group("input")
    data_flags.add_dataset_flag(data, "picks the defaults of all folders", "default: those of coma and florence")
    data.add_argument("--runs", type=Path, metavar="DIR", help="run records, at any depth (default: runs)")
    data.add_argument("--results", type=Path, metavar="DIR", help="scorings (default: results)")
    data.add_argument("--generated", type=Path, metavar="DIR", help="generated folders (default: Generated_Animation)")
    data.add_argument(
        "--landmarks",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="ground truth (default: what was scored, and the data sets' landmark folders)",
    )
    data.add_argument(
        "--import-curves",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="other people's runs: CSV (.gz) with run,tag,step,value",
    )
    what = parser.add_argument_group("output")
    what.add_argument("--output", type=Path, metavar="DIR", help="default: figures")
    what.add_argument(
        "--only", nargs="+", choices=FAMILIES, metavar="FAMILY", help=f"make only these: {', '.join(FAMILIES)}"
    )
    cli.add_switch(what, "every-subject", False, "strips of every test subject, not of each label's first only")
    cli.add_run_flags(parser, "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    from face4d.evaluation.results import find_scored, require_truth, truth_files
    from face4d.evaluation.run_records import read_imported, read_runs
    from face4d.runtime.progress import counted, track
    from face4d.view.figure_set import FigureSet

    dataset = data_flags.chosen_dataset(args, "florence")
    runs, generated = args.runs or dataset.runs, args.generated or dataset.generated
    results, output = args.results or dataset.results, args.output or dataset.figures
    given = [("--runs", args.runs), ("--results", args.results), ("--generated", args.generated)]
    for flag, folder in [*given, *(("--landmarks", folder) for folder in args.landmarks or [])]:
        if folder is not None and not folder.is_dir():
            raise InputError(folder, f"a folder for {flag}", "no such folder")
    require_outside(output, results, generated, *(args.landmarks or ()))
    records = [*read_runs(runs), *(record for path in args.import_curves for record in read_imported(path))]
    scored = find_scored(results, generated)
    if not records and not scored:
        raise InputError(runs, f"runs, or scorings in {results}", "none")
    require_truth(scored, args.landmarks or [])
    folders = args.landmarks or [
        one.landmarks for one in ([dataset] if args.dataset else DATASETS.values()) if one.landmarks
    ]
    figures = FigureSet(
        output, records, [(one, truth_files(one, folders)) for one in scored], args.only or FAMILIES, args.every_subject
    )
    if args.dry_run:
        print(
            f"would write figures of {counted(len(records), 'run')} and {counted(len(scored), 'scoring')} to {output}"
        )
        return
    with sole_writer(output) as writing:
        if not (args.overwrite or writing.goes_on) and not all(is_hidden(path.name) for path in output.iterdir()):
            raise InputError(output, "no figures there (--overwrite replaces them, --output DIR makes others)", "some")
        writing.begin()
        steps = list(figures.steps())
        with track("figures", steps, unit="step", quiet=args.quiet) as bar:
            for name, work in bar:
                bar.set_postfix_str(name)
                work()
    suffixes = [path.suffix[1:] for path in figures.written]
    if not args.quiet:
        print(", ".join(f"{suffixes.count(suffix)} {suffix}" for suffix in dict.fromkeys(suffixes)))
    cli.report_written([output / "report.html"] if "report" in figures.families else [output])


if __name__ == "__main__":
    cli.run(main)
