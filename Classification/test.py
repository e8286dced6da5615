"""Step 6: score a folder of generated sequences with a classifier trained on real ones.

    python Classification/test.py --checkpoint demo/models/classifier.pt --generated demo/Generated_Animation/demo
    python Classification/test.py --checkpoint models/classifier.pt --generated Generated_Animation/florence \\
        --landmarks Landmark_dataset_flame_aligned --output results/florence

Prints and writes accuracy and error in millimetres of the generated sequences beside the real ones and three trivial
predictors (static neutral, class mean, nearest training sequence). In the output folder: scores.csv and .md, per_label.csv and
.md, confusion_real and confusion_generated as .csv, .png and .pdf, and evaluate.json with everything.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from face4d.datasets import flags
from face4d.datasets.layout import canonical_label, choose
from face4d.runtime import cli


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="classifier of Classification/main.py, models/<run>.pt")
    parser.add_argument("--generated", type=Path, required=True, metavar="DIR", help="what test.py wrote: <label>_<subject>.npy at any depth")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="score only these of the classifier's labels")
    flags.add_data_flags(parser, training=False)
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: results/<name of the generated folder>")
    cli.add_switch(parser, "figures", True, "draw the confusion matrices")
    cli.add_run_flags(parser, "device", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    from face4d.classification.train import load_classifier
    from face4d.evaluation.scores import SCORE_COLUMNS, match_generated, score
    from face4d.evaluation.tables import text_table
    from face4d.runtime.device import limit_threads, resolve_device

    limit_threads(None, small=True)
    classifier = load_classifier(args.checkpoint, device=resolve_device(args.device))
    labels = choose([canonical_label(name) for name in args.labels or ["all"]], classifier.labels, "labels", args.checkpoint)
    source = flags.DataSource.from_flags(args, classifier.source)
    output = args.output or (Path("demo") if source.dataset == "demo" else Path()) / "results" / args.generated.resolve().name
    cli.refuse_overwrite(output, args.overwrite or args.dry_run)
    split = source.load(labels)
    generated = match_generated(args.generated, split.test)
    if args.dry_run:
        print(f"would score {len(generated)} sequences of {args.generated} and write {output}")
        return

    scores = score(split, classifier.labels, generated, lambda batch: classifier.predict(batch).numpy())
    record = {
        "generated": str(args.generated),
        "classifier": str(args.checkpoint),
        "landmarks": str(source.landmarks),
        "sequences": len(generated),
        "frames": generated.shape[1],
    }
    write_results(output, scores, classifier.labels, record, figures=args.figures)
    if not args.quiet:
        print(f"{len(generated)} test sequences of {len(labels)} labels, errors over frames 1 to {generated.shape[1] - 1}\n")
        print(text_table(SCORE_COLUMNS, scores.rows))
    cli.report_written([output])


def write_results(output: Path, scores, labels: Sequence[str], record: dict, *, figures: bool) -> None:
    """Write tables, confusion matrices and evaluate.json into ``output``."""
    from face4d.evaluation.scores import SCORE_COLUMNS, per_label_columns
    from face4d.evaluation.tables import Column, csv_table, write_table
    from face4d.runtime.atomic import write_json, write_text

    contest = [row["method"] != "real" for row in scores.rows]  # nothing is compared with the truth itself
    write_table(output / "scores", SCORE_COLUMNS, scores.rows, contest=contest)
    write_table(output / "per_label", per_label_columns(scores.methods), scores.per_label)
    for method in ("real", "generated"):
        matrix = scores.confusion[method]
        columns = [Column("label", "true label"), *[Column(label, label) for label in labels]]
        rows = [{"label": label, **dict(zip(labels, counts))} for label, counts in zip(labels, matrix.tolist())]
        write_text(output / f"confusion_{method}.csv", csv_table(columns, rows))
        if figures:
            from face4d.view.plots import confusion_matrix_figure, save_figure

            save_figure(confusion_matrix_figure(matrix, labels, title=f"{method} test sequences"), output / f"confusion_{method}")
    confusion = {method: matrix.tolist() for method, matrix in scores.confusion.items()}
    content = {**record, "labels": list(labels), "scores": scores.rows, "per_label": scores.per_label, "confusion": confusion}
    write_json(output / "evaluate.json", content)


if __name__ == "__main__":
    cli.run(main)
