r"""Step 5: generate landmark sequences with a trained generator.

    python test.py --checkpoint demo/models/demo.pt                        # every sequence of the test set
    python test.py --checkpoint models/florence.pt --landmarks Landmark_dataset_flame_aligned
    python test.py --checkpoint models/florence.pt --actor neutral.ply --label Happy --frames 60 --intensity 1.2
    python test.py --checkpoint models/florence.pt --actor neutral.ply --label all
    python test.py --checkpoint models/florence.pt --actor neutral.ply --label Happy --dense --export glb,mp4,ply,gif
    python test.py --checkpoint models/florence.pt --label Happy --dense --export glb \
        --target my_head.obj --target-embedding my_head_embedding.npz      # a head of another topology, docs/export.md
    python test.py --checkpoint models/florence.pt --photo face.jpg --label Happy --dense --export glb,mp4
    python test.py --checkpoint models/flow.pt --samples 10 --seed 1       # ten motions per label, docs/flow.md
    python test.py --checkpoint models/controlled.pt --actor neutral.ply --label Happy --frames 80 \
        --apex 20 --hold 10 --strength 0.7                                 # main.py --controls, docs/controls.md
    python test.py --checkpoint models/flow.pt --actor neutral.ply --label Happy --keep Happy_CH01.npy --mask mouth
    python test.py --checkpoint demo/models/demo_controls.pt --actor demo/actors/Demo05.ply \
        --timeline docs/example_timeline.csv --dense                       # a scene, after bash run.sh demo
    python test.py --view                                                  # steer it in the browser, docs/viewer.md

Writes Generated_Animation/<run>/<subject>_<label>/<label>_<subject>.npy, (frames + 1, 68, 3) absolute landmarks in
metres with the start frame first, and a GIF (for the test set next to the ground truth). With --actor or --photo the
folder is Generated_Animation/<run>_own/. --dense adds the moving mesh in the formats of --export (docs/export.md);
the GLBs of several labels are also written as one, <subject>_all/<subject>_all.glb.
--samples K writes K complete sets, Generated_Animation/<run>/sample_00/<subject>_<label>/ and so on. Running the
command again continues a stopped run; made.json in each folder records how it was made.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.commands import cli, data_flags, motion_flags, viewer
from face4d.commands.own_face import decoder_path, face_of_photo, load_decoder, load_face
from face4d.controls import Controls, GivenControls
from face4d.datasets.source import DataSource
from face4d.runtime.files import require_outside
from face4d.runtime.lock import Writing, sole_writer
from face4d.view.export import FORMATS, DenseFace, export_labels, export_mesh, load_dense_face

if TYPE_CHECKING:
    import numpy as np

    from face4d.generation.sample import Generator


def build_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="generator of main.py, models/<run>.pt; --view finds them"
    )
    data_flags.add_data_flags(parser, training=False)
    own = parser.add_argument_group("one's own face")
    own.add_argument(
        "--actor", type=Path, metavar="FILE", help="neutral mesh (PLY, OBJ) or its 68 landmarks (npy), metres"
    )
    cli.add_switch(own, "register", False, "of an --actor that is a scan of any topology, docs/registration.md")
    own.add_argument(
        "--photo", type=Path, metavar="FILE", help="a photo of the face in place of --actor, docs/reconstruction.md"
    )
    cli.add_box_flag(own, "of the face in the photo, pixels (default: found)")
    own.add_argument(
        "--encoder",
        type=Path,
        metavar="FILE",
        help="of photos (default: models/deca_model.tar, else a fit where the networks are, else models/deca_demo.pt)",
    )
    own.add_argument("--label", nargs="+", metavar="NAME", help="expression, or all")
    motion = parser.add_argument_group("motion")
    motion.add_argument(
        "--frames",
        type=cli.integer(1, cli.MOST_FRAMES),
        metavar="N",
        help="frames after the neutral one (default: as trained)",
    )
    motion.add_argument(
        "--intensity", type=cli.number(-10, 10), default=1.0, metavar="X", help="factor on all displacements"
    )
    motion.add_argument(
        "--samples",
        type=cli.integer(1, 1000),
        default=1,
        metavar="K",
        help="answers of a stochastic generator, each in sample_NN/; default: 1, in none",
    )
    motion_flags.add_control_flags(parser)
    motion_flags.add_fill_flags(parser)
    motion.add_argument("--fps", type=cli.number(1, 240), default=25.0, help="of what is written; in a GIF at most 50")
    dense = parser.add_argument_group("moving meshes")
    dense.add_argument(
        "--dense", nargs="?", type=Path, const=True, metavar="CHECKPOINT",
        help="also move the whole surface, with a decoder of Sparse2Dense/main.py "
        "(default: models/dense_<dataset>_regional.pt); the test set needs --actors",
    )  # fmt: skip
    kinds = ", ".join(f"{name} ({meaning})" for name, meaning in FORMATS.items())
    dense.add_argument(
        "--export",
        type=cli.some_of(FORMATS),
        default=("gif",),
        metavar="LIST",
        help=f"some of {kinds}, with commas between (default: gif)",
    )
    dense.add_argument(
        "--size", type=cli.integer(16, 4096), default=512, metavar="PIXELS", help="side of the pictures of meshes"
    )
    dense.add_argument(
        "--target",
        type=Path,
        metavar="FILE",
        help="a head of another topology makes the motion; --actor may be left out",
    )
    dense.add_argument(
        "--target-embedding",
        type=Path,
        metavar="FILE",
        help="npz of python -m face4d landmarks for the target",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="default: Generated_Animation/<run>, for one's own face Generated_Animation/<run>_own",
    )
    cli.add_switch(parser, "gif", True, "write a GIF beside every sequence")
    viewer.add_viewer_flags(parser)
    cli.add_run_flags(parser, "seed", "device", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.actor and args.photo:
        parser.error("give --actor or --photo")
    if args.register and not args.actor:
        parser.error("--register belongs to --actor, a scan")
    if args.view:
        viewer.view(parser, args)
        return
    if args.checkpoint is None:
        parser.error("--checkpoint: expected a value, found none")
    own = own_face(args)
    if (own is None) != (args.label is None and args.timeline is None):
        parser.error("--label and --timeline belong together with --actor, --photo or --target")
    if args.dense is None and (args.target or args.export != ("gif",)):
        parser.error("--target and --export need --dense")
    motion_flags.check_control_flags(parser, args)
    motion_flags.check_fill_flags(parser, args)
    if args.gif or (args.dense and "gif" in args.export):
        from face4d.render.media import MAX_FPS

        if args.fps > MAX_FPS:
            parser.error(
                f"--fps: expected at most {MAX_FPS} in a GIF, found {args.fps:g}; more with --no-gif and, "
                "if --dense is given, --export without gif"
            )

    from face4d.errors import InputError
    from face4d.generation.sample import load_generator
    from face4d.runtime.device import resolve_device

    generator = load_generator(args.checkpoint, device=resolve_device(args.device))
    if args.samples > 1 and not generator.stochastic:
        raise InputError(
            args.checkpoint,
            f"a stochastic generator to draw {args.samples} samples from (main.py --model flow)",
            "one with a single answer to a label",
        )
    source = data_flags.data_source(args, generator.source, args.checkpoint)
    # Own faces apart from the test set, which is scored as a whole.
    args.output = args.output or source.entry.generated / (args.checkpoint.stem + ("_own" if own else ""))
    require_outside(args.output, *(() if own else (source.landmarks, source.actors)))
    if (args.photo or args.register) and args.dry_run:
        print(f"would move the face in {args.photo or args.actor} and write it to {args.output}")
        return
    with sole_writer(args.output, dry_run=args.dry_run) as writing:
        if args.photo:
            args.actor = face_of_photo(args, source)
        make = timeline_items if args.timeline else actor_items if own else test_set_items
        items = make(args, generator, source)
        made = write_all(args, items, writing)
    if not args.dry_run:
        cli.report_written([*map(place_of, items), *together(args, items)] if own else [args.output], kept=not made)
    if not own and not args.dry_run:
        models = source.entry.models
        judges = (source.companion(models / name) for name in (f"{source.dataset}_classifier.pt", "classifier.pt"))
        judge = next((path for path in judges if path.is_file()), None)
        if judge is None:
            cli.suggest_next(args, "Classification/main.py", *source.words(), "--run", f"{source.dataset}_classifier")
        else:
            cli.suggest_next(args, "Classification/test.py", "--checkpoint", judge, "--generated", args.output)


def own_face(args: Namespace) -> Path | None:
    """The file of one's own face, None where the test set moves."""
    return args.actor or args.photo or args.target


@dataclass(frozen=True)
class Item:
    """One sequence to be written.

    Attributes:
        folder: of its set.
        label, subject: whose folder in it it gets.
        neutral: (68, 3) landmarks of the neutral face.
        motions: gives the (B, T + 1, 68, 3) displacements of all generated with it.
        number: which of them is its own.
        reference: (T + 1, 68, 3) the real sequence, where it is comparable.
        face: what the motion moves; None without --dense.
        made_of: digests of what it all follows from.
    """

    folder: Path
    label: str
    subject: str
    neutral: np.ndarray
    motions: Callable[[], np.ndarray]
    number: int
    reference: np.ndarray | None
    face: DenseFace | None
    made_of: dict[str, Any]

    @property
    def moved(self) -> np.ndarray:
        """(T + 1, 68, 3) generated displacements."""
        return self.motions()[self.number]


def place_of(item: Item) -> Path:
    """The folder of a sequence."""
    return item.folder / f"{item.subject}_{item.label}"


def made_of(
    args: Namespace,
    source: DataSource,
    sample: int | None,
    label: str,
    start: Sequence[np.ndarray],
    face: DenseFace | None,
    reference: np.ndarray | None = None,
) -> dict[str, Any]:
    """What a sequence follows from: files and faces by digest, and the flags that change it."""
    from face4d.runtime.incremental import array_digest, file_digest

    settings = {
        "checkpoint": file_digest(args.checkpoint),
        "label": label,
        "frames": args.frames,
        "intensity": args.intensity,
    }
    settings |= motion_flags.steering(args) | {
        "seed": args.seed,
        "sample": sample,
        "start": array_digest(*start),
        "gif": args.gif,
        "fps": args.fps,
    }
    if args.gif:
        settings["shown beside"] = array_digest(reference)
    if face is not None:
        settings |= {
            "decoder": file_digest(decoder_path(args, source)),
            "face": array_digest(face.neutral, face.shown, face.faces),
            "colours": None if face.colours is None else array_digest(face.colours),
        }
        settings |= {
            "export": sorted(args.export),
            "size": args.size,
            "target": args.target_embedding and file_digest(args.target_embedding),
        }
    return settings


def actor_items(args: Namespace, generator: Generator, source: DataSource) -> list[Item]:
    """The wanted labels on one neutral face."""
    import numpy as np

    labels = (
        generator.labels
        if args.label == ["all"]
        else [generator.labels[generator.label_index(name)] for name in args.label]
    )
    controls, kept = motion_flags.given_controls(args), motion_flags.kept_motion(args)
    neutral, face = load_face(args, source)
    indices = np.array([generator.label_index(label) for label in labels])
    given, mask = kept or (np.zeros_like(neutral, np.float32), None)
    given = np.stack([given] * len(labels))
    subject = (args.target or args.actor).stem
    items = []
    for sample, folder in sample_folders(args, generator):
        motions = motions_of(args, generator, given, mask, indices, sample, controls)
        for number, label in enumerate(labels):
            settings = made_of(args, source, sample, label, [neutral], face)
            items.append(Item(folder, label, subject, neutral, motions, number, None, face, settings))
    return items


def motions_of(
    args: Namespace,
    generator: Generator,
    given: np.ndarray,
    mask: np.ndarray | None,
    indices: np.ndarray,
    sample: int | None,
    controls: Controls | GivenControls,
) -> Callable[[], np.ndarray]:
    """Motions (B, T + 1, 68, 3) of labels (B,): from start displacements ``given`` (B, 68, 3) or, with a mask, what is
    kept of sequences (B, T + 1, 68, 3) and the rest filled in. That takes a second each: they are made when the first
    is asked for.
    """
    how: dict[str, Any] = {"seed": args.seed, "sample": sample, "controls": controls, "guidance": args.guidance}
    if mask is not None:
        generator.require_fill(motion_flags.given_controls(args), len(mask) - 1)
        return cache(lambda: generator.fill(given, mask, indices, **how))
    moved = args.intensity * generator.generate(given, indices, args.frames, **how)
    return lambda: moved


def timeline_items(args: Namespace, generator: Generator, source: DataSource) -> list[Item]:
    """The scene of a timeline on one neutral face."""
    import numpy as np

    from face4d.errors import InputError
    from face4d.generation.timeline import play, read_timeline, scene_name

    scene, subject = scene_name(args.timeline), (args.target or args.actor).stem
    if args.samples > 1 and not generator.fills:
        raise InputError(args.checkpoint, "a flow for --samples of a timeline", "a generator with one answer to it")
    expressions = read_timeline(args.timeline, generator.labels, args.frames or cli.MOST_FRAMES)
    neutral, face = load_face(args, source)
    items = []
    for sample, folder in sample_folders(args, generator):
        how: dict[str, Any] = {"seed": args.seed, "sample": sample, "guidance": args.guidance}
        moved = args.intensity * play(generator, expressions, neutral, args.frames, **how)  # (T+1, 68, 3)
        settings = made_of(args, source, sample, scene, [neutral], face)
        items.append(Item(folder, scene, subject, neutral, partial(np.expand_dims, moved, 0), 0, None, face, settings))
    return items


def test_set_items(args: Namespace, generator: Generator, source: DataSource) -> list[Item]:
    """Every sequence of the test set from its own first frame."""
    from face4d.datasets.landmark_set import stack
    from face4d.datasets.mesh_set import actor_path
    from face4d.errors import InputError

    decoder = load_decoder(args, source)
    if decoder is not None and source.actors is None:
        raise InputError(
            "--dense", "--actors DIR with <subject>.ply neutral meshes, since landmarks have no surface", "none"
        )
    split = source.load(generator.labels)
    test = split.test
    if not test:
        raise InputError(
            source.landmarks, "faces to animate (--landmarks DIR, or --actor FILE --label NAME)", "curves without faces"
        )
    faces: dict[str, DenseFace | None] = dict.fromkeys(sequence.subject for sequence in test)
    if decoder is not None and source.actors is not None:
        for subject in faces:
            faces[subject] = load_dense_face(decoder, decoder.embedding, actor_path(source.actors, subject))
    real, indices = stack(test, generator.labels)
    controls = motion_flags.real_controls(split) if args.real_controls else motion_flags.given_controls(args)
    mask = motion_flags.kept_mask(args.mask, real.shape[1]) if args.keep else None
    length = len(mask) if mask is not None else (args.frames or generator.frames - 1) + 1
    given = real[:, 0] if mask is None else real
    items = []
    for sample, folder in sample_folders(args, generator):
        motions = motions_of(args, generator, given, mask, indices, sample, controls)
        for number, (sequence, start) in enumerate(zip(test, real[:, 0])):
            reference = sequence.landmarks if length == len(sequence.landmarks) else None
            label, neutral, face = sequence.label, sequence.neutral, faces[sequence.subject]
            settings = made_of(args, source, sample, label, [neutral, start], face, reference)
            items.append(Item(folder, label, sequence.subject, neutral, motions, number, reference, face, settings))
    return items


def sample_folders(args: Namespace, generator: Generator) -> list[tuple[int | None, Path]]:
    """Numbers and folders of the samples asked for; a single one has no folder of its own, and no number where it is
    the mean or typical one of a generator that follows controls.
    """
    from face4d.datasets.layout import sample_name

    if args.samples == 1:
        return [(None if generator.controlled else 0, args.output)]
    return [(sample, args.output / sample_name(sample)) for sample in range(args.samples)]


def write_all(args: Namespace, items: Sequence[Item], writing: Writing) -> int:
    """Write the sequences that are not there yet, and what holds several of them; refuse before anything is written.
    Returns the number of folders written.
    """
    import numpy as np

    from face4d.datasets.layout import sequence_name
    from face4d.dense.extrapolation import note_extrapolation
    from face4d.runtime.atomic import save_npy
    from face4d.runtime.incremental import choose_missing, making
    from face4d.runtime.progress import counted, track

    sets = list(together(args, items).items())
    wanted = [(place_of(item), item.made_of) for item in items]
    wanted += [(folder, {item.label: item.made_of for item, _ in moved}) for folder, moved in sets]
    numbers = choose_missing(wanted, overwrite=args.overwrite)
    missing = [items[number] for number in numbers if number < len(items)]
    missing_sets = [sets[number - len(items)] for number in numbers if number >= len(items)]
    if args.dry_run:
        print(
            f"would write {counted(len(missing), 'sequence')} to {args.output}, {len(items) - len(missing)} unchanged"
        )
        return 0
    for item in missing:
        item.motions()
    if numbers:
        writing.begin()
    moving = [(item.face, item.label, item.moved) for item in missing if item.face]
    if moving:
        note_extrapolation(moving[0][0].decoder, ((label, moved, face.neutral) for face, label, moved in moving))
    for item in track("generating", missing, unit="sequence", quiet=args.quiet):
        vertices, landmarks = None, item.neutral + item.moved
        if item.face is not None:
            vertices = item.face.move(item.moved)
            landmarks = item.face.moved_landmarks(item.moved, vertices)
        with making(place_of(item), item.made_of) as folder:
            path = folder / f"{sequence_name(item.label, item.subject)}.npy"
            save_npy(path, landmarks.astype(np.float32))
            write_pictures(args, item, landmarks, vertices, path.with_suffix(".gif"))
    for folder, moved in missing_sets:
        write_together(args, folder, moved)
    return len(numbers)


def write_pictures(args: Namespace, item: Item, landmarks: np.ndarray, vertices: np.ndarray | None, path: Path) -> None:
    """The GIF of a sequence's landmarks (T + 1, 68, 3) at ``path``, and beside it what shows its mesh (T + 1, V, 3)."""
    from face4d.render.landmarks import landmark_gif

    if args.gif:
        landmark_gif(path, landmarks, reference=item.reference, title=f"{item.label}, {item.subject}", fps=args.fps)
    if item.face is not None and vertices is not None:
        shown: dict[str, Any] = {"neutral": item.face.shown, "landmarks": landmarks, "fps": args.fps, "size": args.size}
        base, face = path.with_suffix(""), item.face
        export_mesh(base, item.label, vertices, face.faces, args.export, colours=face.colours, **shown)


def together(args: Namespace, items: Sequence[Item]) -> dict[Path, list[tuple[Item, DenseFace]]]:
    """What goes into one GLB, with an animation for every label, by its folder: where one face makes several."""
    sets: dict[Path, list[tuple[Item, DenseFace]]] = {}
    for item in items if own_face(args) and "glb" in args.export else ():
        if item.face is not None:
            sets.setdefault(item.folder / f"{item.subject}_all", []).append((item, item.face))
    return {folder: moved for folder, moved in sets.items() if len(moved) > 1}


def write_together(args: Namespace, folder: Path, moved: Sequence[tuple[Item, DenseFace]]) -> None:
    """One GLB with an animation for every label of a face."""
    from face4d.runtime.incremental import making

    motions = {item.label: face.move(item.moved) for item, face in moved}
    with making(folder, {item.label: item.made_of for item, _ in moved}) as place:
        export_labels(place / f"{folder.name}.glb", motions, moved[0][1], fps=args.fps)


if __name__ == "__main__":
    cli.run(main)
