r"""Step 7: decode landmark motion on a neutral mesh to PLY frames.

    python Sparse2Dense/test.py --checkpoint demo/models/dense_demo_regional.pt \
        --landmarks demo/Generated_Animation/demo --actors demo/actors
    python Sparse2Dense/test.py --checkpoint models/dense_coma_regional.pt --landmarks mouth-open_CH01.npy \
        --actor neutral.ply --output meshes
    python Sparse2Dense/test.py --checkpoint models/dense_coma_regional_identity1.pt \
        --landmarks Landmark_dataset_flame_aligned_coma/dataset_testing --actors actors --real sampling
    python Sparse2Dense/test.py --checkpoint checkpoint.pth.tar --downsampling downsampling_matrices.pkl \
        --landmarks motion.npy --actor neutral.ply

Landmarks are (frames, 68, 3) in metres, as steps 3 and 5 write them; their displacement from frame 0 moves the
neutral mesh. Writes <output>/<subject>/<label>/<label>.NNNNNN.ply, the layout of CoMA, and made.json, which records
how. Running the command again continues a stopped run. With --real the error per vertex against the meshes of the
same subject and label is printed: mean and standard deviation in millimetres.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from face4d.commands import cli
from face4d.datasets.entry import FLAME
from face4d.runtime.files import require_outside
from face4d.runtime.lock import Writing, sole_writer

if TYPE_CHECKING:
    import numpy as np
    import torch

    from face4d.dense.decode import DenseDecoder, DistanceSum

LandmarkMotion: TypeAlias = "tuple[str, str, np.ndarray]"  # label, subject, landmarks (T, 68, 3)


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="FILE",
        help="decoder of Sparse2Dense/main.py, or the authors' checkpoint.pth.tar",
    )
    parser.add_argument(
        "--landmarks",
        type=Path,
        required=True,
        metavar="PATH",
        help="one .npy, or a folder of <label>_<subject>.npy at any depth",
    )
    face = parser.add_argument_group("neutral face", "exactly one of these")
    which = face.add_mutually_exclusive_group(required=True)
    which.add_argument("--actor", type=Path, metavar="FILE", help="one neutral mesh (PLY, OBJ) for all, metres")
    which.add_argument(
        "--actors", type=Path, metavar="DIR", help="<subject>.ply neutral meshes, each for its own sequences"
    )
    cli.add_switch(
        parser,
        "from-first-frame",
        True,
        "displacements from frame 0 of the landmarks; else from the landmarks of the neutral mesh",
    )
    parser.add_argument(
        "--real",
        type=Path,
        metavar="DIR",
        help="ground truth: <subject>/<label>/ frames, or the frames of the one sequence",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: Generated_Animation/<name of --landmarks>_meshes"
    )
    published = parser.add_argument_group("only with the authors' checkpoint.pth.tar")
    published.add_argument("--downsampling", type=Path, metavar="FILE", help="their downsampling_matrices.pkl")
    published.add_argument("--flame", type=Path, metavar="DIR", default=FLAME, help="landmark embedding files")
    cli.add_run_flags(parser, "device", "threads", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)

    from face4d.runtime.device import limit_threads, resolve_device

    device = resolve_device(args.device)
    limit_threads(args.threads, small=False)
    decoder = load(args, device)
    sequences = landmark_sequences(args)
    output = args.output or Path("Generated_Animation") / f"{args.landmarks.resolve().stem}_meshes"
    require_outside(output, args.landmarks, args.actors, args.real)
    neutrals = {
        subject: read_neutral(args, decoder, subject)
        for subject in dict.fromkeys(subject for _, subject, _ in sequences)
    }
    real = real_frames(args, decoder, sequences)
    if args.dry_run:
        print(
            f"would decode {sum(len(landmarks) for _, _, landmarks in sequences)} frames of {len(sequences)} "
            f"sequences to {output}"
        )
        return
    with sole_writer(output) as writing:
        errors, made = write_all(args, decoder, sequences, neutrals, real, output, writing)
    if errors.count:
        print(f"error per vertex: {errors.mean:.4f} mm (std {errors.std:.4f}) over {sum(map(len, real))} frames")
    cli.report_written([output], kept=not made)


def load(args: Namespace, device: torch.device) -> DenseDecoder:
    """The decoder of a checkpoint of ours or of the authors'."""
    from face4d.dense.decode import load_decoder, load_published_decoder
    from face4d.errors import InputError
    from face4d.landmarks import load_flame_embedding

    if not args.checkpoint.name.endswith(".tar"):
        return load_decoder(args.checkpoint, device=device)
    if args.downsampling is None:
        raise InputError(args.checkpoint, "--downsampling downsampling_matrices.pkl with it", "none")
    return load_published_decoder(args.checkpoint, args.downsampling, load_flame_embedding(args.flame), device=device)


def landmark_sequences(args: Namespace) -> list[LandmarkMotion]:
    """(label, subject, landmarks (T, 68, 3)) of every sequence; of one file with a name of its own the subject is the
    actor.
    """
    from face4d.datasets.landmark_set import load_folder, read_landmarks, sequence_remarks
    from face4d.datasets.layout import parse_sequence_name
    from face4d.errors import InputError
    from face4d.mesh.plausibility import report

    if args.landmarks.suffix.lower() != ".npy":
        return [(sequence.label, sequence.subject, sequence.landmarks) for sequence in load_folder(args.landmarks)]
    try:
        label, subject = parse_sequence_name(args.landmarks)
    except InputError:
        if args.actors is not None:
            raise
        label, subject = args.landmarks.stem, args.actor.stem
    landmarks = read_landmarks(args.landmarks)
    report(args.landmarks, sequence_remarks(str(args.landmarks), landmarks))
    return [(label, subject, landmarks)]


def read_neutral(args: Namespace, decoder: DenseDecoder, subject: str) -> np.ndarray:
    """(V, 3) neutral vertices of a subject, in the decoder's topology."""
    from face4d.datasets.mesh_set import actor_path
    from face4d.landmarks import read_head

    return read_head(args.actor or actor_path(args.actors, subject), decoder.embedding)[0]


def real_frames(args: Namespace, decoder: DenseDecoder, sequences: Sequence[LandmarkMotion]) -> list[list[Path]]:
    """Mesh files of the ground truth of each sequence, which is looked at as training meshes are; empty lists without
    ``--real``.
    """
    from face4d.datasets.mesh_set import find_mesh_sequences
    from face4d.errors import InputError
    from face4d.landmarks import extract_files, read_head
    from face4d.mesh.plausibility import check_jumps, motion_remarks, report
    from face4d.mesh.sequence import frame_paths

    if args.real is None:
        return [[] for _ in sequences]
    found = {(sequence.label, sequence.subject): sequence.folder for sequence in find_mesh_sequences(args.real)}
    paths = []
    for label, subject, landmarks in sequences:
        folder = found.get((label, subject)) or (
            next(iter(found.values())) if len(found) == len(sequences) == 1 else None
        )
        if folder is None:
            raise InputError(args.real, f"meshes of {label} of {subject}", "none")
        paths.append(frame_paths(folder))
        if len(paths[-1]) != len(landmarks):
            raise InputError(folder, f"{len(landmarks)} frames as in the landmarks", f"{len(paths[-1])}")
        read_head(paths[-1][0], decoder.embedding)
        points = extract_files(decoder.embedding, paths[-1])
        check_jumps(paths[-1], points)
        report(folder, motion_remarks(label, points))
    return paths


def write_all(
    args: Namespace,
    decoder: DenseDecoder,
    sequences: Sequence[LandmarkMotion],
    neutrals: Mapping[str, np.ndarray],
    real: Sequence[Sequence[Path]],
    output: Path,
    writing: Writing,
) -> tuple[DistanceSum, int]:
    """Decode all sequences and write those that are not there yet; refuse before anything is written.

    Returns:
        The running error against the real ones, and the number of sequences written.
    """
    import numpy as np

    from face4d.dense.decode import DistanceSum
    from face4d.dense.extrapolation import note_extrapolation
    from face4d.dense.frames import read_vertices
    from face4d.landmarks import extract
    from face4d.mesh.ply import write_ply
    from face4d.runtime.incremental import array_digest, choose_missing, file_digest, making
    from face4d.runtime.progress import track

    checkpoint = {"checkpoint": file_digest(args.checkpoint), "from first frame": args.from_first_frame}
    wanted = [
        (
            output / subject / label,
            {**checkpoint, "landmarks": array_digest(landmarks), "neutral": array_digest(neutrals[subject])},
        )
        for label, subject, landmarks in sequences
    ]
    missing = choose_missing(wanted, overwrite=args.overwrite)
    if missing:
        writing.begin()
    starts = [
        landmarks[0] if args.from_first_frame else extract(decoder.embedding, neutrals[subject])
        for _, subject, landmarks in sequences
    ]
    moves = [
        (label, landmarks - start, neutrals[subject]) for (label, subject, landmarks), start in zip(sequences, starts)
    ]
    note_extrapolation(decoder, moves)
    errors = DistanceSum()
    needed = [number for number in range(len(sequences)) if number in set(missing) or real[number]]
    with track(
        "decoding", total=sum(len(sequences[number][2]) for number in needed), unit="frame", quiet=args.quiet
    ) as bar:
        for number in needed:
            (label, displacements, neutral), (place, settings) = moves[number], wanted[number]
            vertices = decoder.decode(displacements, neutral)  # (T, V, 3)
            if number in missing:
                with making(place, settings) as folder:
                    for frame, shape in enumerate(vertices, 1):
                        write_ply(folder / f"{label}.{frame:06d}.ply", shape, decoder.embedding.faces)
            for shape, path in zip(vertices, real[number]):
                errors.add(shape, np.asarray(read_vertices(path, len(neutral))))
            bar.update(len(vertices))
    return errors, len(missing)


if __name__ == "__main__":
    cli.run(main)
