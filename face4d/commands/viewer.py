"""The live viewer of ``test.py --view``: which generators and faces it offers, and where it is reached."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from face4d.commands import cli, data_flags
from face4d.commands.own_face import face_of_photo, load_face
from face4d.datasets.source import DataSource
from face4d.errors import InputError, printable

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    from face4d.generation.sample import Generator
    from face4d.view.export import DenseFace
    from face4d.view.live import Wish

# Where generators lie: of training on data of one's own working folder, and of data sets with a folder of their own.
_PLACES = ("models/*.pt", "*/models/*.pt")
_USED = {
    *("view", "host", "port", "checkpoint", "dataset", "landmarks", "test_subjects", "labels", "actors", "flame"),
    *("landmark_embedding", "actor", "register", "photo", "box", "encoder", "target", "target_embedding", "dense"),
    *("label", "timeline", "frames", "seed", "fps", "size", "device", "quiet"),
}


def add_viewer_flags(parser: ArgumentParser) -> None:
    """Add ``--view``, ``--host`` and ``--port``."""
    group = parser.add_argument_group("live viewer", "in the browser, by the package viser; docs/viewer.md")
    group.add_argument(
        "--view", action="store_true", help="steer moving heads in the browser; nothing is written to disk"
    )
    group.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 lets other machines in, without a password"
    )
    group.add_argument("--port", type=cli.integer(1, 65535), default=8080, metavar="N", help="or the next free one")


def view(parser: cli.Parser, args: Namespace) -> None:
    """Serve the viewer until Ctrl-C.

    Raises:
        InputError: no generator, no face, or one that cannot be used; viser is not installed.
    """
    unused = parser.words({name: value for name, value in vars(args).items() if name not in _USED})
    if unused:
        parser.error(f"{unused[0]}: --view has no use for it; what is not on its panel cannot be steered there")
    if len(args.label or ()) > 1 or args.label == ["all"]:
        parser.error("--label: with --view expected one to begin with, found several; all are on its panel")
    if not args.host:
        parser.error("--host: expected an address, found an empty one (0.0.0.0 lets other machines in)")
    from face4d.generation.timeline import read_timeline, timeline_text
    from face4d.view.live import MOST_FRAMES, LiveMotions, Wish
    from face4d.view.live_page import Offer
    from face4d.view.live_server import serve

    if (args.frames or 0) > MOST_FRAMES:
        parser.error(f"--frames: with --view expected at most {MOST_FRAMES}, found {args.frames}")
    with TemporaryDirectory() as folder:
        choice = Choice(parser, args, Path(folder))
        choice.find_faces()
        live = LiveMotions(choice.generators.__getitem__, choice.load_face, args.fps)
        name, generator = next(iter(choice.generators.items()))
        label = generator.labels[generator.label_index(args.label[0])] if args.label else _expressive(generator.labels)
        scene = None
        if args.timeline:
            scene = timeline_text(read_timeline(args.timeline, generator.labels, args.frames or MOST_FRAMES))
        frames = args.frames if scene else args.frames or min(generator.frames - 1, MOST_FRAMES)
        first = Wish(name, next(iter(choice.faces)), label, frames, seed=args.seed, scene=scene)
        offer = Offer(list(choice.generators), list(choice.faces), first, choice.add_photo, choice.command, args.size)
        serve(live, offer, host=args.host, port=args.port, ready=_say)


def _say(address: str) -> None:
    print(f"open {address} (Ctrl-C ends it)", flush=True)


def _expressive(labels: Sequence[str]) -> str:
    """A label that most people look at first, where there is one of that name."""
    return next((label for label in labels if label.lower() in ("happy", "high-smile", "smile")), labels[0])


class Choice:
    """Generators and faces by the names that the viewer shows.

    Args:
        parser: whose flags make the commands that it shows.
        args: as typed.
        folder: for photos of visitors and the faces fitted to them.

    Attributes:
        generators: by name, the one that was named first.
        faces: neutral meshes by name.
    """

    def __init__(self, parser: cli.Parser, args: Namespace, folder: Path) -> None:
        self._parser, self._args, self._folder = parser, args, folder
        self._photos: dict[str, Path] = {}  # by the name of the face that was fitted
        self._numbers = count(1)
        self.generators = _generators(args)
        self.faces: dict[str, Path | None] = {}

    def load_face(self, generator: str, face: str) -> DenseFace:
        """The face of that name with what moves it, by the decoder that goes with the generator."""
        args, source = self._with(generator, actor=self.faces[face])
        found = load_face(args, source)[1]
        assert found is not None  # with --dense
        return found

    def find_faces(self) -> None:
        """Fill :attr:`faces`: those that flags name, else those of a generator's data set; it becomes the first.

        Raises:
            InputError: there is none; one that cannot be used.
        """
        for name, generator in self.generators.items():
            args, source = self._with(name)
            if args.target:
                self.faces[args.target.stem] = args.actor
            elif args.photo:
                self.faces[args.photo.stem] = face_of_photo(args, source)
                self._photos[args.photo.stem] = args.photo
            else:
                self.faces |= {args.actor.stem: args.actor} if args.actor else _faces_of(source)
            if self.faces:
                self.generators = {name: generator, **self.generators}
                return
        expected = "a neutral face (--actor FILE, --actors DIR with <subject>.ply, or --photo FILE)"
        raise InputError("--view", expected, f"none, and no {source.entry.neutral[0]}")

    def add_photo(self, generator: str, name: str, content: bytes) -> str:
        """Fit a face to a visitor's photo, for the topology of a generator; the name of the face."""
        from face4d.photos.picture_files import HEIC_SUFFIXES, SUFFIXES

        number = next(self._numbers)
        shown = f"{printable(Path(name).stem)[:40]} ({number})"
        suffix = Path(name).suffix.lower()
        place = self._folder / f"{number:06d}"
        place.mkdir()
        photo = place / f"photo{suffix if suffix in (*SUFFIXES, *HEIC_SUFFIXES) else ''}"
        photo.write_bytes(content)
        try:
            args, source = self._with(generator, photo=photo, output=place, box=None)
            self.faces[shown] = face_of_photo(args, source)
        except InputError as error:
            raise InputError(
                error.path.replace(str(photo), printable(Path(name).name)), error.expected, error.found
            ) from None
        finally:
            photo.unlink()
        self._photos[shown] = Path(Path(name).name)
        return shown

    def command(self, wish: Wish) -> str:
        """What one types for the motion of a wish; a visitor's photo by its name."""
        said = vars(self._args) | {
            "view": False,
            "host": self._parser.get_default("host"),
            "port": self._parser.get_default("port"),
            "checkpoint": self.generators[wish.generator].path,
            "actor": None if wish.face in self._photos else self.faces[wish.face],
            "photo": self._photos.get(wish.face),
            "label": None if wish.scene else [wish.label],
            "timeline": Path("timeline.csv") if wish.scene else None,
            "frames": wish.frames,
            "intensity": wish.intensity,
            **asdict(wish.controls),
            "seed": wish.seed,
            "samples": 2 if wish.drawn else 1,  # a single one is the typical one
            "dense": self._args.dense or True,
            "export": ("glb", "mp4"),
        }
        lines = [cli.command()]
        for word in map(shlex.quote, self._parser.words(said)):
            if word.startswith("--"):
                lines.append(word)
            else:
                lines[-1] += f" {word}"
        return " \\\n    ".join(lines)

    def _with(self, generator: str, **changed: object) -> tuple[Namespace, DataSource]:
        """The flags for one generator, with others changed, and the data that it goes with."""
        found = self.generators[generator]
        args = Namespace(**{**vars(self._args), "checkpoint": found.path, **changed})
        args.dense = args.dense or True
        args.output = args.output or self._folder
        return args, data_flags.data_source(args, found.source, found.path)


def _faces_of(source: DataSource) -> dict[str, Path]:
    """Neutral meshes of a data set by name: its actors, and those that are moved where no other is named."""
    from face4d.datasets.mesh_set import actor_paths

    known = source.actors is not None and ("actors" in source.given or source.actors.is_dir())
    usual = [source.companion(path) for path in source.entry.neutral]
    paths = [*(actor_paths(source.actors).values() if known and source.actors else ()), *usual[::-1]]
    return {path.stem: path for path in paths if path.is_file()}


def _generators(args: Namespace) -> dict[str, Generator]:
    """Generators by the names that tell them apart: the one that is named and those beside it, else those of the usual
    places, the newest first.

    Raises:
        InputError: the one that is named is none; there are none.
    """
    from face4d.generation.sample import load_generator
    from face4d.runtime.device import resolve_device

    device = resolve_device(args.device)
    if args.checkpoint:
        found = [load_generator(args.checkpoint, device=device)]
        paths = sorted(args.checkpoint.parent.glob("*.pt"))
    else:
        found, paths = [], [path for pattern in _PLACES for path in Path().glob(pattern)]
        paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        if not path.name.endswith(".last.pt") and path != args.checkpoint:
            with suppress(InputError):  # a checkpoint of something else
                found.append(load_generator(path, device=device))
    if not found:
        expected = "a generator (--checkpoint FILE; bash run.sh demo trains one)"
        raise InputError("--view", expected, f"none in {' and '.join(_PLACES)}")
    names = [one.path.stem for one in found]
    return {one.path.stem if names.count(one.path.stem) == 1 else str(one.path): one for one in found}
