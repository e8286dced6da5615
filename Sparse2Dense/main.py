r"""Step 7: train decoders from 68 landmarks to all vertices on mesh sequences, and compare them on faces or expressions
they have not seen.

    python Sparse2Dense/main.py --dataset demo                                  # the default decoder on all sequences
    python Sparse2Dense/main.py --dataset demo --split identity --fold 1 --decoder neutral ridge regional
    python Sparse2Dense/main.py --dataset coma --split identity --fold all --decoder all --frame-step 4 --run comparison
    python Sparse2Dense/main.py --dataset coma --decoder s2d --split identity --fold 1 --epochs 30 --resume
    python Sparse2Dense/main.py --dataset coma --split identity --fold all --noise-landmarks-mm 0.5 \
        --noise-vertices-mm 0.3

Four folds of subjects (identity) or labels (expression) take turns as test set; --fold none learns from everything and
gives the decoder for Sparse2Dense/test.py. Prints the error per vertex in millimetres, mean and standard deviation, per
fold and averaged. Writes models/<run>[...].pt and runs/<run>[...]/ for every decoder and fold, and
results/<run>/decoders.csv, .md and .tex. docs/dense.md compares the decoders.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from face4d.commands import cli, data_flags
from face4d.datasets import flags
from face4d.datasets.entry import Dataset

FOLDS = ("1", "2", "3", "4", "all", "none")


def build_parser() -> ArgumentParser:
    from face4d.dense.config import DECODERS, DEFAULT_DECODER, DenseConfig

    default = DenseConfig()
    parser = cli.parser(__doc__)
    data = parser.add_argument_group("data")
    data_flags.add_dataset_flag(
        data, "picks the defaults of all flags of this group", "default: coma, with --meshes own"
    )
    data.add_argument(
        "--meshes", type=Path, metavar="DIR", help="<subject>/<label>/ folders of numbered PLY or OBJ frames, metres"
    )
    data.add_argument("--labels", nargs="+", metavar="NAME", help="only these expressions (default: all found)")
    data_flags.add_face_flags(data)
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument(
        "--split", choices=("identity", "expression"), default="identity", help="what the test set has unseen"
    )
    protocol.add_argument(
        "--fold",
        choices=FOLDS,
        default="none",
        help="of four; all = each in turn, none = learn from everything, score nothing",
    )
    protocol.add_argument(
        "--frame-step",
        type=cli.integer(1, 10_000),
        default=1,
        metavar="N",
        help="learn from every N-th frame of a sequence",
    )
    protocol.add_argument(
        "--test-frame-step",
        type=cli.integer(1, 10_000),
        default=1,
        metavar="N",
        help="score every N-th frame; 1 = the protocol",
    )
    protocol.add_argument(
        "--subjects-fraction",
        type=cli.share,
        default=1.0,
        metavar="X",
        help="part of the training subjects to learn from",
    )
    protocol.add_argument(
        "--noise-landmarks-mm",
        type=cli.number(0, 100),
        default=0.0,
        metavar="MM",
        help="sd per coordinate, on all landmarks",
    )
    protocol.add_argument(
        "--noise-vertices-mm",
        type=cli.number(0, 100),
        default=0.0,
        metavar="MM",
        help="sd per coordinate, on training vertices",
    )
    decoder = parser.add_argument_group("decoder")
    names = (*DECODERS, "all")
    decoder.add_argument(
        "--decoder", nargs="+", choices=names, default=[DEFAULT_DECODER], help=f"default: {DEFAULT_DECODER}"
    )
    decoder.add_argument(
        "--strength",
        type=cli.number(0, 1e12, above=True),
        metavar="MM2",
        help="regularisation of closed forms (default: chosen on held-out training data)",
    )
    decoder.add_argument(
        "--components", type=cli.integer(1, 10_000), default=default.components, metavar="K", help="of pca"
    )
    cli.add_switch(decoder, "size-aware", default.size_aware, "regional: see all faces in the size of the mean face")
    cli.add_switch(
        decoder,
        "denoise",
        default.denoise,
        "regional: expect noise on the landmarks if held-out training data are decoded better so",
    )
    network = parser.add_argument_group("training of s2d")
    network.add_argument(
        "--lr", type=cli.number(0, 10, above=True), default=default.lr, help="learning rate of Adam in the first epoch"
    )
    network.add_argument("--lr-decay", type=cli.share, default=default.lr_decay, help="factor on it after every epoch")
    network.add_argument("--weight-decay", type=cli.number(0, 10), default=default.weight_decay, help="of Adam")
    network.add_argument(
        "--epochs", type=cli.integer(1, 1_000_000), default=default.epochs, help="passes over the training frames"
    )
    network.add_argument(
        "--batch-size", type=cli.integer(1, 65_536), default=default.batch_size, metavar="B", help="frames per batch"
    )
    network.add_argument(
        "--validate-every",
        type=cli.integer(1, 1_000_000),
        default=default.validate_every,
        metavar="EPOCHS",
        help="points of the test curve",
    )
    network.add_argument(
        "--vertex-weights",
        type=Path,
        metavar="FILE",
        help="npy of V weights in the loss (default: by distance to the landmarks)",
    )
    network.add_argument(
        "--downsampling",
        type=Path,
        metavar="FILE",
        help="the authors' downsampling_matrices.pkl (default: a hierarchy of the template)",
    )
    parser.add_argument("--results", type=Path, metavar="DIR", help="folder of tables (default: results)")
    flags.add_output_flags(parser, run="dense_<dataset>[_<decoder>][_<split><fold>]", seed=default.seed, grid=False)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    from face4d.dense.frames import load_frames, make_fold
    from face4d.dense.train import train
    from face4d.evaluation.tables import DECODER_COLUMNS, average, text_table, write_decoder_tables
    from face4d.runtime.device import limit_threads

    dataset = data_flags.chosen_dataset(args, "coma", by_hand=args.meshes is not None)
    meshes, actors = args.meshes or dataset.mesh_sequences().folder, args.actors or dataset.actors
    name = args.run or f"dense_{dataset.name}"
    results = (args.results or dataset.results) / name
    jobs = list(plan(args, name, dataset))
    limit_threads(args.threads, small=False)
    embedding = dataset.landmark_embedding(args.flame, args.landmark_embedding)
    source = {"dataset": dataset.name, "meshes": str(meshes), "actors": actors and str(actors)}
    with flags.claimed(args, *(run for _, run in jobs)):
        if args.dry_run:
            for config, run in jobs:
                print(
                    f"would train {config.decoder}, fold {config.fold or 'none'} of {config.split}, as {run.checkpoint}"
                )
            return
        frames = load_frames(meshes, embedding, labels=args.labels, actors=actors, quiet=args.quiet)
        if args.noise_landmarks_mm or args.noise_vertices_mm:
            frames = frames.with_noise(args.noise_landmarks_mm, args.noise_vertices_mm, args.seed)
        rows, folds, before = [], {}, {run: run.finished_at for _, run in jobs}
        hierarchy = (
            load_hierarchy(frames, args.downsampling, args.models or dataset.models, meshes)
            if any(config.decoder == "s2d" for config, _ in jobs)
            else None
        )
        for config, run in jobs:
            if config.fold not in folds:
                options = {
                    key: getattr(config, key) for key in ("frame_step", "test_frame_step", "subjects_fraction", "seed")
                }
                folds = {config.fold: make_fold(frames, config.split, config.fold or None, **options)}
            fold = folds[config.fold]
            metrics = train(fold, config, run, hierarchy=hierarchy, vertex_weights=args.vertex_weights, source=source)
            rows.append({"decoder": config.decoder, "fold": fold.name, **metrics})
            if not args.quiet:
                error = (
                    f"{metrics['mm']:.3f} mm (std {metrics['mm_std']:.3f}) over {metrics['frames']} frames, "
                    if "mm" in metrics
                    else ""
                )
                print(f"{config.decoder}, {fold.name}: {error}{metrics['seconds']:.0f} s", flush=True)
        tables = []
        if args.fold != "none":
            rows = rows + average(rows)
            tables = write_decoder_tables(results, rows)
            print(text_table(DECODER_COLUMNS, rows))
    flags.report_runs(before)
    cli.report_written(tables)
    if args.fold == "none":
        words = (
            "--checkpoint",
            dataset.models / f"{dataset.name}.pt",
            "--actor",
            dataset.neutral[0],
            "--label",
            "all",
            "--dense",
            jobs[0][1].checkpoint,
        )
        cli.suggest_next(args, "test.py", *words, "--export", "glb,mp4")


def plan(args: Namespace, name: str, dataset: Dataset) -> Iterator[tuple]:
    """Configuration and run of every decoder on every fold; a name gets what tells it from the others."""
    from face4d.dense.config import DECODERS, DenseConfig
    from face4d.runtime.device import resolve_device

    device = resolve_device(args.device)
    decoders = DECODERS if "all" in args.decoder else tuple(dict.fromkeys(args.decoder))
    numbers = {"all": (1, 2, 3, 4), "none": (0,)}.get(args.fold) or (int(args.fold),)
    for number in numbers:
        for decoder in decoders:
            config = DenseConfig().with_flags({**vars(args), "decoder": decoder, "fold": number})
            parts = [name]
            parts += [decoder] if len(decoders) > 1 or args.run is None else []
            parts += [f"{args.split}{number}"] if number and (len(numbers) > 1 or args.run is None) else []
            yield config, flags.training_run(args, "_".join(parts), device, dataset.name)


def load_hierarchy(frames, matrices: Path | None, models: Path, source: Path):
    """Of the authors' file, or of the mean of all faces."""
    from face4d.dense.fit import mean_face
    from face4d.dense.hierarchy import template_hierarchy
    from face4d.runtime.atomic import remove_leftovers

    cache = models / "template_cache"
    remove_leftovers(cache)
    return template_hierarchy(
        mean_face(frames)[0], frames.embedding.faces, matrices=matrices, cache=cache, source=source
    )


if __name__ == "__main__":
    cli.run(main)
