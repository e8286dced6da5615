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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.commands import cli, data_flags, training_flags
from face4d.dense.config import DECODERS, DEFAULT_DECODER, DenseConfig

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    import numpy as np

    from face4d.datasets.entry import Dataset
    from face4d.dense.frames import Fold
    from face4d.dense.hierarchy import Hierarchy
    from face4d.runtime.run_folder import Run
    from face4d.runtime.session import Task

FOLDS = {"1": (1,), "2": (2,), "3": (3,), "4": (4,), "all": (1, 2, 3, 4), "none": (0,)}


def train_s2d(fold: Fold, run: Run, task: Task, hierarchy: Hierarchy, vertex_weights: np.ndarray) -> dict[str, Any]:
    """Train the Sparse2Dense decoder: data, network, optimiser, loop [S].

    Args:
        hierarchy: of the template.
        vertex_weights: (V,) weights of the vertices in the loss.

    Returns:
        What metrics.json holds: of the test frames ``mm``, ``mm_std``, ``frames``, ``ms_per_frame``; epoch, seconds.
    """
    import torch

    from face4d.dense.decode import score
    from face4d.dense.decoders import SpiralDecoder
    from face4d.dense.s2d import S2DDecoder, s2d_loss
    from face4d.dense.train import fold_scores, validation_frames
    from face4d.runtime.device import seed_everything
    from face4d.runtime.session import Session, set_learning_rate

    session, config = Session(run, task), task.config
    assert isinstance(config, DenseConfig)
    if session.metrics is not None:
        return session.metrics  # trained already
    device, data = run.device, fold.train
    shown = validation_frames(fold.test) if fold.test else None
    random = seed_everything(config.seed)
    network = S2DDecoder(hierarchy).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    weights = torch.from_numpy(vertex_weights).to(device)
    session.start(network, optimizer, random)

    for epoch in session.epochs():
        set_learning_rate(optimizer, config.lr * config.lr_decay ** (epoch - 1))
        total = torch.zeros((), device=device)
        for chosen in session.batches(len(data)):
            rows = chosen.cpu().numpy()
            landmarks = torch.from_numpy(data.landmarks[rows]).to(device)  # (B, 68, 3) displacements
            vertices = torch.from_numpy(data.vertices(rows)).to(device)  # (B, V, 3), read from disk
            loss = s2d_loss(network(landmarks), vertices, weights)
            optimizer.zero_grad()
            total += session.backward(loss)
            optimizer.step()
        session.log({"train/loss": total.item() / -(-len(data) // config.batch_size)})
        if session.validates:
            scores = {} if shown is None else {"test/mm": score(SpiralDecoder(network), shown, device=device)["mm"]}
            network.train()
            session.validated(scores, rank=tuple(scores.values()))
    return session.finish(fold_scores(SpiralDecoder(session.kept()), fold, run))


def build_parser() -> ArgumentParser:
    parser, presets = cli.parser(__doc__), {"default": DenseConfig()}
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
        "--fold",
        choices=FOLDS,
        default="none",
        help="of four; all = each in turn, none = learn from everything, score nothing",
    )
    sets = ("split", "frame_step", "test_frame_step", "subjects_fraction", "noise_landmarks_mm", "noise_vertices_mm")
    training_flags.add_setting_flags(protocol, presets, *sets)
    decoder = parser.add_argument_group("decoder")
    decoder.add_argument(
        "--decoder",
        nargs="+",
        choices=(*DECODERS, "all"),
        default=[DEFAULT_DECODER],
        help=f"default: {DEFAULT_DECODER}",
    )
    training_flags.add_setting_flags(decoder, presets, "strength", "components", "size_aware", "denoise")
    network = parser.add_argument_group("training of s2d")
    training_flags.add_setting_flags(
        network, presets, "lr", "lr_decay", "weight_decay", "epochs", "batch_size", "validate_every"
    )
    training_flags.add_setting_flags(network, presets, "vertex_weights", "downsampling")
    parser.add_argument("--results", type=Path, metavar="DIR", help="folder of tables (default: results)")
    run = "dense_<dataset>[_<decoder>][_<split><fold>]"
    training_flags.add_output_flags(parser, run=run, seed=presets["default"].seed, grid=False)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    from face4d.dense.fit import mean_face
    from face4d.dense.frames import load_frames, make_fold
    from face4d.dense.s2d import vertex_weights
    from face4d.dense.train import fit_closed_form, load_hierarchy, task_of
    from face4d.evaluation.tables import DECODER_COLUMNS, average, table_row, text_table, write_decoder_tables
    from face4d.runtime.device import limit_threads
    from face4d.runtime.run_folder import claimed

    dataset = data_flags.chosen_dataset(args, "coma", by_hand=args.meshes is not None)
    meshes, actors = args.meshes or dataset.mesh_sequences().folder, args.actors or dataset.actors
    name = args.run or f"dense_{dataset.name}"
    results = (args.results or dataset.results) / name
    jobs = plan(args, name, dataset)
    limit_threads(args.threads, small=False)
    embedding = dataset.landmark_embedding(args.flame, args.landmark_embedding)
    source = {"dataset": dataset.name, "meshes": str(meshes), "actors": actors and str(actors)}
    if args.dry_run:
        for config, run in jobs:
            print(f"would train {config.decoder}, fold {config.fold or 'none'} of {config.split}, as {run.checkpoint}")
        return
    with claimed(*(run for _, run in jobs)):
        frames = load_frames(meshes, embedding, labels=args.labels, actors=actors, quiet=args.quiet)
        first = jobs[0][0]
        if first.noise_landmarks_mm or first.noise_vertices_mm:
            frames = frames.with_noise(first.noise_landmarks_mm, first.noise_vertices_mm, args.seed)
        rows, folds, before = [], {}, {run: run.finished_at for _, run in jobs}
        hierarchy = None
        if any(config.decoder == "s2d" for config, _ in jobs):
            hierarchy = load_hierarchy(frames, args.downsampling, args.models or dataset.models, meshes)
        for config, run in jobs:
            if config.fold not in folds:
                folds = {config.fold: make_fold(frames, config)}
            fold = folds[config.fold]
            if config.decoder == "s2d" and hierarchy is not None:
                weights = vertex_weights(mean_face(fold.train)[0], embedding, config.vertex_weights)
                metrics = train_s2d(fold, run, task_of(fold, config, source, hierarchy), hierarchy, weights)
            else:
                metrics = fit_closed_form(fold, config, run, task_of(fold, config, source))
            rows.append(table_row(config.decoder, fold.name, metrics))
            if not args.quiet:
                row, error = rows[-1], ""
                if "mm" in row:
                    error = f"{row['mm']:.3f} mm (std {row['mm_std']:.3f}) over {row['frames']} frames, "
                print(f"{config.decoder}, {fold.name}: {error}{row['seconds']:.0f} s", flush=True)
        tables = []
        if args.fold != "none":
            rows = rows + average(rows)
            tables = write_decoder_tables(results, rows)
            print(text_table(DECODER_COLUMNS, rows))
    training_flags.report_runs(before)
    cli.report_written(tables)
    if args.fold == "none":
        generator, face = dataset.models / f"{dataset.name}.pt", dataset.neutral[0]
        words = ["--checkpoint", generator, "--actor", face, "--label", "all", "--dense", jobs[0][1].checkpoint]
        cli.suggest_next(args, "test.py", *words, "--export", "glb,mp4")


def plan(args: Namespace, name: str, dataset: Dataset) -> list[tuple[DenseConfig, Run]]:
    """Configuration and run of every decoder on every fold; a name gets what tells it from the others."""
    from face4d.runtime.device import resolve_device

    device = resolve_device(args.device)
    decoders = DECODERS if "all" in args.decoder else tuple(dict.fromkeys(args.decoder))
    jobs = []
    for number in FOLDS[args.fold]:
        for decoder in decoders:
            config = DenseConfig().with_settings({**vars(args), "decoder": decoder, "fold": number})
            parts = [name]
            parts += [decoder] if len(decoders) > 1 or args.run is None else []
            parts += [f"{config.split}{number}"] if number and (len(FOLDS[args.fold]) > 1 or args.run is None) else []
            jobs.append((config, training_flags.training_run(args, "_".join(parts), device, dataset.name)))
    training_flags.refuse_ignored(args, [config for config, _ in jobs])
    return jobs


if __name__ == "__main__":
    cli.run(main)
