"""Whose face moves: the neutral face of a photo, and the decoder that moves its surface."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from face4d.datasets.source import DataSource
from face4d.view.export import DenseFace, load_dense_decoder, load_dense_face

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    import numpy as np

    from face4d.deca.checkpoints import LoadedEncoder
    from face4d.dense.decode import DenseDecoder
    from face4d.fitting.photos import PhotoFitter


def face_of_photo(args: Namespace, source: DataSource) -> Path:
    """The neutral face in the photo, as a mesh in the output folder.

    By DECA's encoder or one that is named, where it is there; else by fitting a face model of the generator's topology
    to the points of the landmark network, where both are there; else by an encoder of one's own.
    """
    import numpy as np

    from face4d.errors import InputError
    from face4d.mesh.geometry import connected_components
    from face4d.mesh.textured import coloured_ply_bytes
    from face4d.runtime.atomic import write_bytes
    from face4d.view.looks import byte_colours, painted_colours

    path = args.output / f"{args.photo.stem}.ply"
    vertices, faces, colours = neutral_face(args, source)
    piece = connected_components(len(vertices), faces)
    loose = piece != np.bincount(piece).argmax()  # eyeballs and teeth, which photos show small and in shadow
    painted = byte_colours(painted_colours(vertices[None].astype(np.float64), faces)) / 255
    colours = np.where(loose[:, None], painted, colours)
    mesh = coloured_ply_bytes(vertices, faces, colours)
    if path.exists() and not args.overwrite and path.read_bytes() != mesh:
        raise InputError(
            path, "no file of that name, or the face in this photo (--overwrite replaces it)", "another one"
        )
    write_bytes(path, mesh)
    return path


def neutral_face(args: Namespace, source: DataSource) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3) metres, faces (F, 3) and colours (V, 3) 0..1 of the neutral face in the photo."""
    from face4d.deca.checkpoints import PUBLISHED_FILE
    from face4d.deca.reconstruction import coloured, neutral_from_photo
    from face4d.photos import face_networks
    from face4d.photos.crops import FaceBox, read_photo
    from face4d.photos.faces import FaceFinder

    if not args.encoder and not source.companion(PUBLISHED_FILE).is_file() and face_networks.installed():
        fitter = photo_fitter(args, source)
        if fitter is not None:
            photo = read_photo(args.photo)
            found = fitter.fit(photo, FaceFinder(args.box).points(photo, args.photo).points)
            return coloured(found, fitter.face)
    box = FaceBox(*args.box) if args.box else None
    vertices, faces, info = neutral_from_photo(args.photo, photo_encoder(args, source), face=box)
    return vertices, faces, info["colours"]


def photo_fitter(args: Namespace, source: DataSource) -> PhotoFitter | None:
    """A face model to fit to a photo: of the generator's landmark files (--flame), else of the usual places beside it,
    else the demo head; the first of the topology of its landmarks. None where there is none.
    """
    from face4d.deca.face_model import DEMO, load_face_model
    from face4d.fitting.photos import OWN_MODELS, PhotoFitter
    from face4d.flame.model import has_model
    from face4d.mesh.triangles import same_topology

    wanted = source.topology()
    places = [args.flame or source.flame, *(source.companion(Path(place)) for place in OWN_MODELS)]
    for place in [*(place for place in places if place is not None and has_model(place)), DEMO]:
        face = load_face_model(place)
        same_count = wanted is None or wanted.vertices == face.model.num_vertices
        if same_count and (wanted is None or wanted.faces is None or same_topology(wanted.faces, face.model.faces)):
            return PhotoFitter(face)
    return None


def photo_encoder(args: Namespace, source: DataSource) -> LoadedEncoder | None:
    """The encoder given, else one beside the generator, if there is any: the first that makes faces of the topology of
    the generator's landmarks.

    Its face model is its own or, where that is not there, the one of --flame.
    """
    from dataclasses import replace

    from face4d.datasets.companions import Topology, find, require_fit
    from face4d.deca.checkpoints import OWN_FILE, PUBLISHED_FILE, load_encoder
    from face4d.deca.face_model import DEMO

    places = (
        [args.encoder]
        if args.encoder
        else [path for path in map(source.companion, (PUBLISHED_FILE, OWN_FILE)) if path.is_file()]
    )
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


def load_decoder(args: Namespace, source: DataSource) -> DenseDecoder | None:
    """The decoder that --dense names, else the one beside the generator; None without --dense."""
    if args.dense is None:
        return None
    from face4d.datasets.companions import Topology, require_fit
    from face4d.runtime.device import resolve_device

    path = decoder_path(args, source)
    decoder, wanted = load_dense_decoder(path, resolve_device(args.device)), source.topology()
    if wanted is not None:
        require_fit(
            args.checkpoint,
            wanted,
            path,
            Topology(decoder.embedding.num_vertices, decoder.embedding.faces),
            "moves",
            "--dense FILE",
        )
    return decoder


def load_face(args: Namespace, source: DataSource) -> tuple[np.ndarray, DenseFace | None]:
    """The face of --actor or --target: its neutral landmarks (68, 3), metres, and what moves its surface, None without
    --dense.

    Raises:
        InputError: see :func:`face4d.landmarks.read_head`; of another topology, without --register, it says which
            command registers a scan.
    """
    from face4d.commands.scans import register_command, registered_actor
    from face4d.errors import InputError
    from face4d.mesh.triangles import OtherTopologyError

    try:
        return _load_face(args, source)
    except OtherTopologyError as error:
        if error.path != str(args.actor):
            raise
        if not args.register:
            ways = f"a scan gets it by --register here, or by: {register_command(args.actor, source)}"
            raise InputError(error.path, f"{error.expected}; {ways}", error.found) from None
    args.actor = registered_actor(args, source)
    return _load_face(args, source)


def _load_face(args: Namespace, source: DataSource) -> tuple[np.ndarray, DenseFace | None]:
    from face4d.datasets.mesh_set import neutral_landmarks, read_points

    decoder = load_decoder(args, source)
    if decoder is not None:
        face = load_dense_face(
            decoder, decoder.embedding, args.actor, target=args.target, target_embedding=args.target_embedding
        )
        return face.landmarks, face
    if args.actor.suffix.lower() == ".npy":
        return read_points(args.actor), None
    return neutral_landmarks(args.actor, source.embedding()), None


def decoder_path(args: Namespace, source: DataSource) -> Path:
    """The checkpoint of --dense, by default the one beside the generator."""
    from face4d.dense.config import DEFAULT_DECODER

    name = source.entry.models / f"dense_{source.dataset}_{DEFAULT_DECODER}.pt"
    return source.companion(name) if args.dense is True else args.dense
