r"""Score anybody's folder of generated sequences under a named protocol, beside trivial predictors.

    python -m face4d benchmark --list
    python -m face4d benchmark Generated_Animation/florence --protocol thesis-florence
    python -m face4d benchmark theirs --protocol florence-70 --landmarks Landmark_dataset_flame_aligned
    python -m face4d benchmark Generated_Animation/coma --protocol thesis-coma --meshes sampling \
        --dense models/dense_coma_regional_identity1.pt
    python -m face4d benchmark their_meshes --protocol s2d-identity --meshes sampling --flame models/flame

The folder holds <label>_<subject>.npy landmarks, (frames, 68, 3) in metres, at any depth, or mesh sequences
<subject>/<label>/ of numbered PLY or OBJ frames; several answers to each question lie in sample_00, sample_01, ...
The classifier of the protocol is trained where --classifier names none, and kept for the next time. With --meshes, the
real meshes, the error per vertex is measured too: of generated meshes, or of what --dense makes of generated landmarks.
Writes results/<folder>/benchmark_<protocol>/: scores, realism, timing and published as .csv, .md and .tex, and
benchmark.json. docs/benchmark.md says what each measure can and cannot see.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.commands import cli, data_flags
from face4d.errors import InputError

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    import numpy as np

    from face4d.classification.classifier import Classifier
    from face4d.datasets.landmark_set import LandmarkSequence
    from face4d.datasets.source import DataSource
    from face4d.evaluation.measures import Surface
    from face4d.evaluation.metrics import MillimetreError
    from face4d.evaluation.protocols import Fold, Protocol
    from face4d.evaluation.scores import Scores
    from face4d.evaluation.surfaces import MeshFiles, RealSurfaces

FOLD = "{fold}"  # in the name of a decoder: the number of the fold
LEAVE_OUT = "Sparse2Dense/main.py --split identity --fold N leaves people out"


def build_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="generated landmarks or meshes")
    parser.add_argument("--protocol", metavar="NAME", help="one of --list, or a TOML file of one's own")
    cli.add_switch(parser, "list", False, "name the protocols, or with --protocol its test sets in the data, and end")
    data = parser.add_argument_group("real data", "defaults: the protocol's data set")
    data.add_argument("--landmarks", type=Path, metavar="DIR", help="landmark folder of step 3, halved or not")
    data.add_argument(
        "--meshes", type=Path, metavar="DIR", help="real mesh sequences, <subject>/<label>/, for the error per vertex"
    )
    data_flags.add_face_flags(data)
    cli.add_switch(
        data, "derived", False, "the data only has the shape of the data set: say so, and show no published scores"
    )
    models = parser.add_argument_group("models that measure")
    models.add_argument(
        "--classifier",
        type=Path,
        metavar="FILE",
        help="of Classification/main.py (default: trained as the protocol says; with folds always)",
    )
    models.add_argument(
        "--dense",
        type=Path,
        metavar="FILE",
        help=f"decoder of Sparse2Dense/main.py, from landmarks to meshes; {FOLD} in it is the number of the fold",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: results/<name of the folder>/benchmark_<protocol>"
    )
    cli.add_run_flags(parser, "device", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.list and args.protocol is None:
        list_protocols()
        return
    if not args.list and (args.folder is None or args.protocol is None):
        parser.error("a folder and --protocol are needed (or --list)")

    from face4d.datasets.source import choose_source
    from face4d.evaluation.benchmark import write_benchmark
    from face4d.evaluation.protocols import NO_CLASSIFIER, find_protocol, load_folds, subset_of
    from face4d.evaluation.scores import SCORES_VERSION
    from face4d.runtime.device import limit_threads
    from face4d.runtime.files import require_outside
    from face4d.runtime.incremental import array_digest, choose_missing, file_digest, making
    from face4d.runtime.lock import require_finished, sole_writer

    limit_threads(None, small=True)
    protocol = find_protocol(args.protocol)
    source = choose_source(
        dataset=protocol.dataset,
        landmarks=args.landmarks,
        actors=args.actors,
        flame=args.flame,
        landmark_embedding=args.landmark_embedding,
    )
    refuse_useless(args, protocol)
    folds = load_folds(protocol, source)
    if args.list:
        list_folds(folds)
        return
    test = [sequence for fold in folds for sequence in fold.split.test]
    output = args.output or source.entry.results / args.folder.resolve().name / f"benchmark_{protocol.name}"
    require_outside(output, args.folder, source.landmarks, args.meshes)
    require_finished(args.folder)
    samples, files = read_answers(args.folder, source, test)
    subset = subset_of(protocol, folds)
    count, sequences = samples.shape[:2]
    plan = f"{protocol.name}: {protocol.title}; {sequences} sequences" + (f", {count} answers each" * (count > 1))
    if args.dry_run:
        print(f"would score {args.folder} under {plan}, and write {output}")
        return
    classifiers = source.entry.results / "benchmark_classifiers"
    settings: dict[str, Any] = {
        "version of the scores": SCORES_VERSION,
        "protocol": protocol.as_dict(),
        "generated": array_digest(samples),
        "generated meshes": [own.digest() for own in files],
        "real": [fold.split.digest() for fold in folds],
        "meshes": real_meshes(args, source, test).digest() if args.meshes else None,
        "classifier": file_digest(args.classifier) if args.classifier else None,
        "derived": args.derived,
        "dense": [file_digest(decoder_path(args.dense, number)) for number in numbers(args.dense, folds)],
    }
    with sole_writer(output.parent, output.name):
        missing = choose_missing([(output, settings)], overwrite=args.overwrite)
        if missing:
            scores: list[Scores] = []
            begin = 0
            for number, fold in enumerate(folds, 1):
                rows = range(begin, begin := begin + len(fold.split.test))
                classifier = None
                if protocol.classifier != NO_CLASSIFIER:
                    classifier = load_fold_classifier(args, protocol, fold, source, classifiers)
                answers = samples[:, rows], tuple(own.select(rows) for own in files)
                scores.append(score_fold(args, protocol, number, fold, source, classifier, *answers))
            record = {
                "generated": str(args.folder),
                "landmarks": str(source.landmarks),
                "classifier": str(args.classifier or classifiers) if protocol.classifier != NO_CLASSIFIER else None,
                "meshes": str(args.meshes) if args.meshes else None,
                "dense": str(args.dense) if args.dense else None,
                "sequences": sequences,
                "frames": protocol.frames,
                "subset": subset,
                "derived": args.derived,
            }
            with making(output, settings) as folder:
                write_benchmark(folder, protocol, folds, scores, record)
    if not args.quiet:
        report(output, plan, protocol)
    cli.report_written([output], kept=not missing)


def note(text: str) -> None:
    """Print what a result is not to be read without."""
    print(f"note: {text}", file=sys.stderr)


def list_protocols() -> None:
    """Print name, sentence and test sets of every protocol."""
    from face4d.evaluation.protocols import known_protocols

    for protocol in known_protocols().values():
        tested = ", ".join(protocol.test_subjects) or f"four folds of {protocol.folds}"
        labels = len(protocol.labels) if protocol.labels else protocol.label_count
        print(f"{protocol.name:<16} {protocol.title}")
        print(f"{'':<16} {protocol.dataset}, {labels} labels, {protocol.frames} frames; tested: {tested}")


def list_folds(folds: Sequence[Fold]) -> None:
    """Print what every fold is tested on, as flags of a training script take it."""
    for fold in folds:
        subjects = sorted({sequence.subject for sequence in fold.split.test})
        labels = sorted({sequence.label for sequence in fold.split.test})
        some = f", of {len(labels)} labels" if labels == list(fold.labels) else f", labels {' '.join(labels)}"
        print(f"{fold.name}: {len(fold.split.test)} sequences of {' '.join(subjects)}{some}")


def refuse_useless(args: Namespace, protocol: Protocol) -> None:
    """Refuse flags without those that they need, and a classifier that could have seen the test set or is not asked."""
    from face4d.evaluation.protocols import NO_CLASSIFIER

    if args.dense and not args.meshes:
        raise InputError("--dense", "--meshes DIR, the real meshes, with it", "none")
    if args.classifier and protocol.folds:
        raise InputError("--classifier", f"none, since {protocol.name} trains one for every fold", str(args.classifier))
    if args.classifier and protocol.classifier == NO_CLASSIFIER:
        raise InputError("--classifier", f"none, since {protocol.name} is scored without one", str(args.classifier))
    if args.dense and FOLD not in args.dense.name and protocol.folds:
        note(f"one decoder for all folds of {protocol.name}; {FOLD} in its name stands for the number")


def read_answers(
    folder: Path, source: DataSource, test: Sequence[LandmarkSequence]
) -> tuple[np.ndarray, tuple[MeshFiles, ...]]:
    """Displacements (K, N, T+1, 68, 3) of the answers in the order of the test sequences; their meshes, if it is these
    that the folder holds, K of them.
    """
    import numpy as np

    from face4d.datasets.layout import landmark_paths
    from face4d.evaluation.generated import match_samples
    from face4d.evaluation.surfaces import match_mesh_samples

    if not folder.is_dir():
        raise InputError(folder, "a folder of landmarks (.npy) or of mesh sequences", "no such folder")
    if landmark_paths(folder):
        return match_samples(folder, test), ()
    files = match_mesh_samples(folder, source.embedding(), test)
    neutrals = np.stack([sequence.neutral for sequence in test])  # (N, 68, 3)
    return np.stack([own.landmarks() - neutrals[:, None] for own in files]), files


def real_meshes(args: Namespace, source: DataSource, test: Sequence[LandmarkSequence]) -> MeshFiles:
    """The real meshes of test sequences."""
    from face4d.evaluation.surfaces import find_meshes

    return find_meshes(args.meshes, source.embedding(), test)


def numbers(dense: Path | None, folds: Sequence[Fold]) -> range:
    """Numbers of the folds that have a decoder of their own: 1, 2, ...; only 1 where all share one."""
    return range(1, 1 + (0 if dense is None else len(folds) if FOLD in dense.name else 1))


def decoder_path(dense: Path, number: int) -> Path:
    """The decoder of a fold."""
    return dense.with_name(dense.name.replace(FOLD, str(number)))


def score_fold(
    args: Namespace,
    protocol: Protocol,
    number: int,
    fold: Fold,
    source: DataSource,
    classifier: Classifier | None,
    samples: np.ndarray,
    files: tuple[MeshFiles, ...],
) -> Scores:
    """Scores of the answers to one fold."""
    import numpy as np

    from face4d.dense.decode import load_decoder
    from face4d.evaluation.scores import score
    from face4d.evaluation.surfaces import RealSurfaces, decoded_surface
    from face4d.runtime.device import resolve_device

    surface: Surface | None = None
    real = None
    if args.meshes:
        subjects = tuple(sequence.subject for sequence in fold.split.test)
        real = RealSurfaces(real_meshes(args, source, fold.split.test), subjects, source.actors)
        if args.dense:
            decoder = load_decoder(decoder_path(args.dense, number), device=resolve_device(args.device))
            surface = decoded_surface(decoder, real)
            if decoder.kind not in ("neutral", "rbf") and "test/mm" not in decoder.metrics:
                note(f"{decoder.path} has learnt from all sequences, those of the test set too; {LEAVE_OUT}")
    scores = score(
        fold.split,
        fold.labels,
        samples,
        None if classifier is None else lambda batch: classifier.predict(batch).numpy(),
        None if classifier is None else lambda batch: classifier.features(batch).numpy(),
        surface=surface,
        generator=np.random.default_rng(protocol.seed),
    )
    if real is not None and files:
        measured = mesh_errors(args, fold, source, real, samples, files)
        for row in scores.rows:
            if row["method"] in measured:
                row["mesh_mm"], row["mesh_std"] = measured[row["method"]]
    return scores


def mesh_errors(
    args: Namespace,
    fold: Fold,
    source: DataSource,
    real: RealSurfaces,
    samples: np.ndarray,
    files: tuple[MeshFiles, ...],
) -> dict[str, MillimetreError]:
    """Errors per vertex of generated meshes, of the nearest of several answers, and of trivial ones, by method."""
    import numpy as np

    from face4d.evaluation import metrics
    from face4d.evaluation.surfaces import MeshFiles, RealSurfaces, class_mean_error

    measured = {"generated": real.errors_of(files[0]), "static neutral": real.still()}
    if len(files) > 1:
        wanted = np.stack([sequence.displacement for sequence in fold.split.test])
        chosen = metrics.best_of(samples[:, :, 1:], wanted[:, 1:]).tolist()
        paths = tuple(files[k].paths[number] for number, k in enumerate(chosen))
        measured[f"best of {len(files)}"] = real.errors_of(MeshFiles(paths, real.files.embedding))
    train_labels, test_labels = ([s.label for s in half] for half in (fold.split.train, fold.split.test))
    if set(test_labels) <= set(train_labels):
        subjects = tuple(sequence.subject for sequence in fold.split.train)
        train = RealSurfaces(real_meshes(args, source, fold.split.train), subjects, source.actors)
        measured["class mean"] = class_mean_error(train, train_labels, real, test_labels)
    return measured


def load_fold_classifier(
    args: Namespace, protocol: Protocol, fold: Fold, source: DataSource, folder: Path
) -> Classifier:
    """The classifier given, else the protocol's.

    Raises:
        InputError: a classifier of other labels.
    """
    from face4d.classification.classifier import load_classifier
    from face4d.evaluation.protocol_classifier import trained_classifier
    from face4d.runtime.device import resolve_device

    path = args.classifier or trained_classifier(protocol, fold, source, folder, device=args.device)
    classifier = load_classifier(path, device=resolve_device(args.device))
    tested = set(classifier.source.get("test_subjects") or ())
    if args.classifier and tested and not tested >= set(protocol.test_subjects):
        note(f"{path} was tested on {', '.join(sorted(tested))}, so it has learnt from others of the test set")
    if classifier.labels != fold.labels:
        expected = f"a classifier of the {len(fold.labels)} labels of {protocol.name}"
        raise InputError(path, expected, f"{len(classifier.labels)}")
    return classifier


def report(output: Path, plan: str, protocol: Protocol) -> None:
    """Print the tables of a benchmark that is on disk."""
    from face4d.evaluation.benchmark import RECORD
    from face4d.evaluation.published import PUBLISHED_COLUMNS, read_published
    from face4d.evaluation.results import score_tables
    from face4d.evaluation.tables import filled, text_table
    from face4d.runtime.fields import read_json

    found = read_json(output / RECORD)
    folds = found["folds"]
    print(plan + (f", means of {len(folds)} folds" if len(folds) > 1 else ""))
    if found["derived"]:
        print(f"derived data, not {protocol.dataset}: does not compare with scores on the data set itself")
    if found["subset"]:
        print(found["subset"])
    print()
    for columns, rows in score_tables(found["scores"], found["training"]).values():
        print(text_table(columns, rows))
    samples = [fold["samples"] for fold in folds if fold["samples"]]
    if samples:
        singles = [value for own in samples for value in own["mm_mean"]]
        best = sum(own["best_of"][-1] for own in samples) / len(samples)
        mean = sum(singles) / len(singles)
        spread = f"{min(singles):.3f} to {max(singles):.3f}"
        print(f"one answer: {mean:.3f} mm ({spread}); best of {samples[0]['count']}: {best:.3f} mm\n")
    if found["published"]:
        print("published under this protocol:\n")
        print(text_table(filled(PUBLISHED_COLUMNS, found["published"]), found["published"]))
    others = [row["method"] for row in read_published() if row["dataset"] == protocol.dataset and not row["protocol"]]
    if others and not found["derived"]:
        print(f"published with another or an unknown split: {', '.join(dict.fromkeys(others))} (published.csv)\n")
