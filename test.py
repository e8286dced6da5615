"""Step 5: generate landmark sequences with a trained generator.

    python test.py --checkpoint demo/models/demo.pt                        # every sequence of the test set
    python test.py --checkpoint models/florence.pt --landmarks Landmark_dataset_flame_aligned
    python test.py --checkpoint models/florence.pt --actor neutral.ply --label Happy --frames 60 --intensity 1.2
    python test.py --checkpoint models/florence.pt --actor neutral.ply --label all
    python test.py --checkpoint models/florence.pt --actor neutral.ply --label Happy --dense --export glb,mp4,ply,gif
    python test.py --checkpoint models/florence.pt --label Happy --dense --target my_head.obj --target-embedding my_head_embedding.npz --export glb
    python test.py --checkpoint models/florence.pt --photo face.jpg --label Happy --dense --export glb,mp4
    python test.py --checkpoint models/gan.pt --samples 10 --seed 1        # ten answers of a stochastic generator, docs/motion3dgan.md

Writes Generated_Animation/<run>/<subject>_<label>/<label>_<subject>.npy, (frames + 1, 68, 3) absolute landmarks in metres with the
start frame first, and a GIF beside it (for the test set next to the ground truth). One's own face goes to Generated_Animation/<run>_own/.
With --dense the moving mesh lies beside them in the formats of --export (docs/export.md).
With --samples K each answer is a set of its own: Generated_Animation/<run>/sample_00/<subject>_<label>/ and so on.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from face4d.datasets import flags
from face4d.datasets.layout import DATASETS
from face4d.runtime import cli
from face4d.view.export import FORMATS, export_mesh, load_dense_decoder, load_dense_face, parse_formats


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="generator of main.py, models/<run>.pt")
    flags.add_data_flags(parser, training=False)
    own = parser.add_argument_group("one's own face")
    own.add_argument("--actor", type=Path, metavar="FILE", help="neutral mesh (PLY, OBJ) or its 68 landmarks (npy), metres")
    own.add_argument("--photo", type=Path, metavar="FILE", help="a photo of the face in place of --actor, docs/reconstruction.md")
    box = ("LEFT", "TOP", "RIGHT", "BOTTOM")
    own.add_argument("--box", nargs=4, type=float, metavar=box, help="of the face in the photo, pixels (default: found)")
    own.add_argument("--encoder", type=Path, metavar="FILE", help="of photos (default: models/deca_model.tar, else models/deca_demo.pt)")
    own.add_argument("--label", nargs="+", metavar="NAME", help="expression, or all")
    motion = parser.add_argument_group("motion")
    motion.add_argument("--frames", type=cli.positive_int, metavar="N", help="frames after the neutral one (default: as trained)")
    motion.add_argument("--intensity", type=float, default=1.0, metavar="X", help="factor on all displacements")
    motion.add_argument(
        "--samples", type=cli.positive_int, default=1, metavar="K", help="answers of a stochastic generator, each in sample_NN/; default: 1, in none"
    )
    motion.add_argument("--fps", type=cli.positive_float, default=25.0, help="of what is written")
    dense = parser.add_argument_group("moving meshes")
    dense.add_argument(
        "--dense", nargs="?", type=Path, const=True, metavar="CHECKPOINT",
        help="also move the whole surface, with a decoder of Sparse2Dense/main.py (default: models/dense_<dataset>_regional.pt); "
        "the test set needs --actors",
    )  # fmt: skip
    kinds = ", ".join(f"{name} ({meaning})" for name, meaning in FORMATS.items())
    dense.add_argument("--export", type=parse_formats, default=("gif",), metavar="LIST", help=f"some of {kinds}, with commas between (default: gif)")
    dense.add_argument("--size", type=cli.positive_int, default=512, metavar="PIXELS", help="side of the pictures of meshes")
    dense.add_argument("--target", type=Path, metavar="FILE", help="a head of another topology makes the motion; --actor may be left out")
    dense.add_argument("--target-embedding", type=Path, metavar="FILE", help="npz of python -m face4d.landmarks --fit-embedding for the target")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: Generated_Animation/<run>, for one's own face Generated_Animation/<run>_own"
    )
    cli.add_switch(parser, "gif", True, "write a GIF beside every sequence")
    cli.add_run_flags(parser, "seed", "device", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    own = args.actor or args.photo or args.target
    if (own is None) != (args.label is None):
        parser.error("--label belongs together with --actor, --photo or --target")
    if args.actor and args.photo:
        parser.error("give --actor or --photo")
    if args.dense is None and (args.target or args.export != ("gif",)):
        parser.error("--target and --export need --dense")

    from face4d.errors import InputError
    from face4d.generation.sample import load_generator
    from face4d.runtime.device import resolve_device

    generator = load_generator(args.checkpoint, device=resolve_device(args.device))
    if args.samples > 1 and not generator.stochastic:
        raise InputError(args.checkpoint, f"a stochastic generator to draw {args.samples} samples from", "one with a single answer to a label")
    source = flags.DataSource.from_flags(args, generator.source, args.checkpoint)
    # Own faces apart from the test set, which is scored as a whole.
    args.output = args.output or DATASETS[source.dataset].generated / (args.checkpoint.stem + ("_own" if own else ""))
    if args.photo:
        args.actor = face_of_photo(args, source)
    written = animate_actor(args, generator, source) if own else animate_test_set(args, generator, source)
    cli.report_written(written)
    if not own and not args.dry_run:
        models = DATASETS[source.dataset].models
        judge = next((path for path in (models / f"{source.dataset}_classifier.pt", models / "classifier.pt") if path.is_file()), None)
        if judge is None:
            cli.suggest_next(args, "Classification/main.py", "--dataset", source.dataset, "--run", f"{source.dataset}_classifier")
        else:
            cli.suggest_next(args, "Classification/test.py", "--checkpoint", judge, "--generated", args.output)


def face_of_photo(args: Namespace, source: flags.DataSource) -> Path:
    """The neutral face in the photo, as a mesh in the output folder."""
    from face4d.mesh.ply import write_ply
    from face4d.reconstruction.deca import neutral_from_photo
    from face4d.reconstruction.photo import FaceBox

    path = args.output / f"{args.photo.stem}.ply"
    cli.refuse_overwrite(path, args.overwrite)
    vertices, faces, _ = neutral_from_photo(args.photo, photo_encoder(args, source), face=FaceBox(*args.box) if args.box else None)
    write_ply(path, vertices, faces)
    return path


def photo_encoder(args: Namespace, source: flags.DataSource):
    """The encoder given, else one beside the generator, if there is any: the first that makes faces of the topology of the generator's landmarks.

    Its face model is its own or, where that is not there, the one of --flame.
    """
    from dataclasses import replace

    from face4d.datasets.companions import Topology, find, require_fit
    from face4d.reconstruction.checkpoints import OWN_FILE, PUBLISHED_FILE, load_encoder
    from face4d.reconstruction.face_model import DEMO

    places = [args.encoder] if args.encoder else [path for path in map(source.companion, (PUBLISHED_FILE, OWN_FILE)) if path.is_file()]
    encoders = [load_encoder(place) for place in places]
    if not encoders:
        return None
    wanted = source.topology()
    encoder = next((one for one in encoders if wanted is None or one.num_vertices == wanted.vertices), encoders[0])
    if wanted is not None:
        require_fit(args.checkpoint, wanted, encoder.path, Topology(encoder.num_vertices), "makes", "--encoder FILE")
    if args.flame and encoder.face_model != DEMO and not find(encoder.path, encoder.face_model):
        return replace(encoder, face_model=str(args.flame))
    return encoder


def load_decoder(args: Namespace, source: flags.DataSource):
    """The decoder that --dense names, else the one beside the generator; None without --dense."""
    if args.dense is None:
        return None
    from face4d.datasets.companions import Topology, require_fit
    from face4d.dense.config import DEFAULT_DECODER
    from face4d.runtime.device import resolve_device

    name = DATASETS[source.dataset].models / f"dense_{source.dataset}_{DEFAULT_DECODER}.pt"
    path = source.companion(name) if args.dense is True else args.dense
    decoder, wanted = load_dense_decoder(path, resolve_device(args.device)), source.topology()
    if wanted is not None:
        require_fit(args.checkpoint, wanted, path, Topology(decoder.embedding.num_vertices), "moves", "--dense FILE")
    return decoder


def animate_actor(args: Namespace, generator, source: flags.DataSource) -> list[Path]:
    """Generate the wanted labels on one neutral face."""
    import numpy as np

    from face4d.datasets.actors import neutral_landmarks, read_points

    labels = generator.labels if args.label == ["all"] else [generator.labels[generator.label_index(name)] for name in args.label]
    decoder, face = load_decoder(args, source), None
    if decoder is not None:
        face = load_dense_face(decoder, decoder.embedding, args.actor, target=args.target, target_embedding=args.target_embedding)
        neutral = face.landmarks
    elif args.actor.suffix.lower() == ".npy":
        neutral = read_points(args.actor)
    else:
        neutral = neutral_landmarks(args.actor, source.embedding())  # (68, 3)
    indices = np.array([generator.label_index(label) for label in labels])
    start = np.zeros((len(labels), *neutral.shape), np.float32)
    subject = (args.target or args.actor).stem
    items = []
    for sample, folder in sample_folders(args):
        displacement = args.intensity * generator.generate(start, indices, args.frames, seed=args.seed, sample=sample)  # (B, T+1, 68, 3)
        items += [(folder, label, subject, neutral, moved, None, face) for label, moved in zip(labels, displacement)]
    return write_all(args, items)


def animate_test_set(args: Namespace, generator, source: flags.DataSource) -> list[Path]:
    """Generate every sequence of the test set from its own first frame."""
    from face4d.datasets.actors import actor_path
    from face4d.datasets.landmark_set import stack
    from face4d.errors import InputError

    decoder = load_decoder(args, source)
    if decoder is not None and source.actors is None:
        raise InputError("--dense", "--actors DIR with <subject>.ply neutral meshes, since landmarks have no surface", "none")
    test = source.load(generator.labels).test
    if not test:
        raise InputError(source.landmarks, "faces to animate (--landmarks DIR, or --actor FILE --label NAME)", "curves without faces")
    faces = dict.fromkeys(sequence.subject for sequence in test)
    for subject in faces if decoder is not None else ():
        faces[subject] = load_dense_face(decoder, decoder.embedding, actor_path(source.actors, subject))
    real, indices = stack(test, generator.labels)
    items = []
    for sample, folder in sample_folders(args):
        displacement = args.intensity * generator.generate(real[:, 0], indices, args.frames, seed=args.seed, sample=sample)  # (N, T+1, 68, 3)
        for sequence, moved in zip(test, displacement):
            comparable = len(moved) == len(sequence.landmarks)
            reference = sequence.landmarks if comparable else None
            items.append((folder, sequence.label, sequence.subject, sequence.neutral, moved, reference, faces[sequence.subject]))
    write_all(args, items)
    return [args.output]


def sample_folders(args: Namespace) -> list[tuple[int, Path]]:
    """Numbers and folders of the samples asked for; a single one has no folder of its own."""
    if args.samples == 1:
        return [(0, args.output)]
    return [(sample, args.output / f"sample_{sample:02d}") for sample in range(args.samples)]


def write_all(args: Namespace, items) -> list[Path]:
    """Write items; refuse before anything is written.

    Args:
        items: (folder, label, subject, neutral landmarks, displacement, ground truth or None, dense face or None).
    """
    from face4d.runtime.progress import track
    from face4d.runtime.words import counted

    from face4d.generation.sample import write_sequence
    from face4d.view.landmark_view import landmark_gif

    places = [folder / f"{subject}_{label}" for folder, label, subject, *_ in items]
    for place in places:
        cli.refuse_overwrite(place, args.overwrite)
    if args.dry_run:
        print(f"would write {counted(len(items), 'sequence')} to {args.output}")
        return []
    for folder, label, subject, neutral, moved, reference, face in track("generating", items, unit="sequence", quiet=args.quiet):
        vertices = face and face.move(moved)
        landmarks = face.moved_landmarks(moved, vertices) if face else neutral + moved

        def pictures(path: Path) -> None:
            if args.gif:
                landmark_gif(path, landmarks, reference=reference, title=f"{label}, {subject}", fps=args.fps)
            if face:
                shown = {"neutral": face.shown, "landmarks": landmarks, "fps": args.fps, "size": args.size}
                export_mesh(path.with_suffix(""), label, vertices, face.faces, args.export, **shown)

        write_sequence(folder, label, subject, landmarks, picture=pictures if args.gif or face else None)
    return places


if __name__ == "__main__":
    cli.run(main)
