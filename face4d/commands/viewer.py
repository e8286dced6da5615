"""The live viewer of ``test.py --view``: which generators and faces it offers, and where it is reached."""

from __future__ import annotations

import argparse
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
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
_UNUSED = ("output", "keep", "mask", "real_controls", "dry_run", "overwrite")


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
    for name in _UNUSED:
        if getattr(args, name):
            parser.error(f"--view writes nothing and keeps nothing: give no --{name.replace('_', '-')}")
    from face4d.generation.timeline import read_timeline
    from face4d.view.live import MOST_FRAMES, LiveMotions, Wish
    from face4d.view.live_page import Offer, serve

    with TemporaryDirectory() as folder:
        choice = Choice(parser, args, Path(folder))
        live = LiveMotions(choice.load_generator, choice.load_face, args.fps)
        name = next(iter(choice.generators))
        generator = live.generator(name)
        choice.find_faces(generator)
        label = generator.labels[generator.label_index(args.label[0])] if args.label else _expressive(generator.labels)
        scene = None
        if args.timeline:
            read_timeline(args.timeline, generator.labels, args.frames or MOST_FRAMES)
            scene = args.timeline.read_text("utf-8-sig")
        frames = args.frames if scene else min(args.frames or generator.frames - 1, MOST_FRAMES)
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
        generators: their checkpoints by name, the one that was named first.
        faces: neutral meshes by name.
    """

    def __init__(self, parser: cli.Parser, args: Namespace, folder: Path) -> None:
        self._parser, self._args, self._folder = parser, args, folder
        self._loaded: dict[str, Generator] = {}
        self._uploaded: set[str] = set()
        self.generators = _generators(args)
        self.faces: dict[str, Path | None] = {}

    def load_generator(self, name: str) -> Generator:
        """The generator of that name, loaded once."""
        from face4d.generation.sample import load_generator
        from face4d.runtime.device import resolve_device

        if name not in self._loaded:
            self._loaded[name] = load_generator(self.generators[name], device=resolve_device(self._args.device))
        return self._loaded[name]

    def load_face(self, generator: str, face: str) -> DenseFace:
        """The face of that name with what moves it, by the decoder that goes with the generator."""
        args, source = self._with(generator, actor=self.faces[face])
        found = load_face(args, source)[1]
        assert found is not None  # with --dense
        return found

    def find_faces(self, generator: Generator) -> None:
        """Fill :attr:`faces`: those that flags name, else those of the data set.

        Raises:
            InputError: there is none.
        """
        args, source = self._with(next(iter(self.generators)))
        if args.target:
            self.faces[args.target.stem] = args.actor
        elif args.photo:
            args.output = self._folder
            self.faces[args.photo.stem] = face_of_photo(args, source)
            self._uploaded.add(args.photo.stem)
        else:
            usual = [source.companion(path) for path in source.entry.neutral]
            folder = sorted(source.actors.glob("*.ply")) if source.actors else []
            for path in [args.actor] if args.actor else [*folder, *(path for path in usual if path.is_file())]:
                self.faces.setdefault(path.stem, path)
        if not self.faces:
            expected = "a neutral face (--actor FILE, --actors DIR with <subject>.ply, or --photo FILE)"
            raise InputError("--view", expected, f"none, and no {source.entry.neutral[0]}")

    def add_photo(self, generator: str, name: str, content: bytes) -> str:
        """Fit a face to a visitor's photo, for the topology of a generator; the name of the face."""
        from face4d.photos.picture_files import HEIC_SUFFIXES, SUFFIXES

        shown = f"{printable(Path(name).stem)[:40]} ({len(self._uploaded) + 1})"
        self._uploaded.add(shown)
        suffix = Path(name).suffix.lower()
        place = self._folder / f"{len(self._uploaded):06d}"
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
        return shown

    def command(self, wish: Wish) -> str | None:
        """What one types for the motion of a wish; None where the face is one that a visitor brought."""
        if wish.face in self._uploaded:
            return None
        args = self._args
        said = {
            "checkpoint": self.generators[wish.generator],
            "frames": wish.frames,
            "intensity": wish.intensity,
            "seed": wish.seed,
            "samples": 2 if wish.drawn else 1,  # a single one is the typical one
            "fps": args.fps,
            "dense": None if args.dense is True else args.dense,
            "target": args.target,
            "target_embedding": args.target_embedding,
            "actor": self.faces[wish.face],
            **({"label": [wish.label]} if wish.scene is None else {"timeline": "timeline.csv"}),
            **asdict(wish.controls),
        }
        words = self._parser.words(said) + ([] if args.dense else ["--dense"])
        return f"{cli.command()} {shlex.join([*words, '--export', 'glb,mp4'])}"

    def _with(self, generator: str, **changed: object) -> tuple[Namespace, DataSource]:
        """The flags for one generator, with others changed, and the data that it goes with."""
        checkpoint = self.generators[generator]
        args = argparse.Namespace(**{**vars(self._args), "checkpoint": checkpoint, **changed})
        args.dense = args.dense or True
        args.output = args.output or self._folder
        return args, data_flags.data_source(args, self.load_generator(generator).source, checkpoint)


def _generators(args: Namespace) -> dict[str, Path]:
    """Checkpoints of generators by the names that tell them apart: the one that is named and those beside it, else
    those of the usual places, the newest first.

    Raises:
        InputError: the one that is named is none; there are none.
    """
    from face4d.generation.sample import load_generator

    if args.checkpoint:
        load_generator(args.checkpoint)
        found = [args.checkpoint, *sorted(args.checkpoint.parent.glob("*.pt"))]
    else:
        found = [path for pattern in _PLACES for path in Path().glob(pattern)]
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    paths = [path for path in dict.fromkeys(found) if not path.name.endswith(".last.pt") and _is_generator(path)]
    if not paths:
        expected = "a generator (--checkpoint FILE; bash run.sh demo trains one)"
        raise InputError("--view", expected, f"none in {' and '.join(_PLACES)}")
    names = [path.stem for path in paths]
    return {path.stem if names.count(path.stem) == 1 else str(path): path for path in paths}


def _is_generator(path: Path) -> bool:
    from face4d.generation.sample import load_generator

    try:
        load_generator(path)
    except InputError:
        return False
    return True
