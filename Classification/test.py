r"""Step 6: score a folder of generated sequences with a classifier trained on real ones.

    python Classification/test.py --checkpoint demo/models/demo_classifier.pt --generated demo/Generated_Animation/demo
    python Classification/test.py --checkpoint models/classifier.pt --generated Generated_Animation/florence \
        --landmarks Landmark_dataset_flame_aligned --output results/florence

Prints and writes accuracy, errors in millimetres, FID, diversity and smoothness of the generated sequences, of the
real ones and of trivial predictors (static neutral, class mean, the same with noise, nearest and random training
sequence), and when the expressions come and how strong they are; docs/evaluation.md defines all of it. Sets in
sample_00, sample_01, ... are scored as several samples of one stochastic generator. The output folder holds scores,
realism, timing, per_label, per_subject and per_group as .csv, .md and .tex, confusion_real and confusion_generated as
.csv, .png and .pdf, features.npz, and evaluate.json with everything, which is also written into the generated folder.
Scores that exist are kept.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli, data_flags
from face4d.datasets.layout import canonical_label, choose
from face4d.runtime.files import require_outside
from face4d.runtime.lock import require_finished, sole_writer


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="FILE",
        help="classifier of Classification/main.py, models/<run>.pt",
    )
    layout = "what test.py wrote: <label>_<subject>.npy at any depth, or such sets in sample_00, sample_01, ..."
    parser.add_argument("--generated", type=Path, required=True, metavar="DIR", help=layout)
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="score only these of the classifier's labels")
    data_flags.add_data_flags(parser, training=False)
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: results/<name of the generated folder>")
    cli.add_switch(parser, "figures", True, "draw the confusion matrices")
    cli.add_run_flags(parser, "seed", "device", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    import numpy as np

    from face4d.classification.classifier import load_classifier
    from face4d.evaluation.generated import match_samples
    from face4d.evaluation.results import RECORD, score_tables, write_beside, write_results
    from face4d.evaluation.scores import SCORES_VERSION, score
    from face4d.evaluation.tables import text_table
    from face4d.runtime.device import limit_threads, resolve_device
    from face4d.runtime.fields import read_json
    from face4d.runtime.incremental import array_digest, choose_missing, file_digest, making

    limit_threads(None, small=True)
    classifier = load_classifier(args.checkpoint, device=resolve_device(args.device))
    labels = choose(
        [canonical_label(name) for name in args.labels or ["all"]], classifier.labels, "labels", args.checkpoint
    )
    source = data_flags.data_source(args, classifier.source, args.checkpoint)
    output = args.output or source.entry.results / args.generated.resolve().name
    require_outside(output, args.generated, source.landmarks)
    require_finished(args.generated)
    split = source.load(labels)
    samples = match_samples(args.generated, split.test)  # (K, N, T+1, L, 3)
    count, sequences, frames = samples.shape[:3]
    times = f"{count} times " if count > 1 else ""
    if args.dry_run:
        print(f"would score {times}{sequences} sequences of {args.generated} and write {output}")
        return

    settings = {
        "version of the scores": SCORES_VERSION,
        "classifier": file_digest(args.checkpoint),
        "generated": array_digest(samples),
        "real": split.digest(),
        "labels": list(labels),
    }
    settings |= {"seed": args.seed, "figures": args.figures}
    with sole_writer(output.parent, output.name), sole_writer(args.generated):
        missing = choose_missing([(output, settings)], overwrite=args.overwrite)
        if missing:
            generator = np.random.default_rng(args.seed)
            predict, features = (
                (lambda batch: classifier.predict(batch).numpy()),
                (lambda batch: classifier.features(batch).numpy()),
            )
            scores = score(split, classifier.labels, samples, predict, features, generator=generator)
            record = {
                "made_of": settings,
                "generated": str(args.generated),
                "classifier": str(args.checkpoint),
                "landmarks": str(source.landmarks),
                "sequences": sequences,
                "frames": frames,
                "seed": args.seed,
            }
            with making(output, settings) as folder:
                write_results(folder, scores, classifier.labels, record)
                if args.figures:
                    from face4d.view.plots import confusion_matrix_figure, save_figure

                    for method in ("real", "generated"):
                        figure = confusion_matrix_figure(
                            scores.confusion[method], classifier.labels, title=f"{method} test sequences"
                        )
                        save_figure(figure, folder / f"confusion_{method}")
        beside = write_beside(args.generated, output, overwrite=args.overwrite)
    found = read_json(output / RECORD)
    if not args.quiet:
        print(f"{times}{sequences} test sequences of {len(labels)} labels, errors over frames 1 to {frames - 1}\n")
        for columns, rows in score_tables(found["scores"], found.get("training")).values():
            print(text_table(columns, rows))
    cli.report_written(beside)
    cli.report_written([output], kept=not missing)
    words = ["--dataset", source.dataset] if source.entry.output != Path() else []
    cli.suggest_next(args, "figures.py", *words, *(["--overwrite"] if source.entry.figures.exists() else []))


if __name__ == "__main__":
    cli.run(main)
