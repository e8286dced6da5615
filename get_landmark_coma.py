"""Step 3, CoMA: extract 68 landmarks of every frame and split the sequences by subject as in the thesis.

    python get_landmark_coma.py                                 # sampling -> Landmark_dataset_flame_aligned_coma
    python get_landmark_coma.py --dataset demo
    python get_landmark_coma.py --frames 41                     # steps 2 and 3 in one, no meshes written
    python get_landmark_coma.py --input MySampling --output MyLandmarks --test-subjects S05 S06
    python get_landmark_coma.py --landmark-embedding my_topology.npz       # npz with face_idx, bary, faces
    python get_landmark_coma.py --plot                          # also a GIF of every sequence

Reads PLY sequences <subject>/<label>/*.ply at any depth, writes <output>/dataset_training and
<output>/dataset_testing with <label>_<subject>.npy, (frames, 68, 3) in metres. Files that exist with the same content
are kept.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli, data_flags
from face4d.commands.extraction import extract_landmarks


def parse_arguments(argv: Sequence[str] | None) -> Namespace:
    """Command line."""
    parser = cli.parser(__doc__)
    paths = parser.add_argument_group("data")
    data_flags.add_dataset_flag(paths, "picks defaults for all of these", "default: coma")
    paths.add_argument(
        "--input",
        type=Path,
        metavar="DIR",
        help="folder with PLY sequences (default: sampling; with --frames Dataset_FLAME_Aligned_COMA)",
    )
    paths.add_argument(
        "--output", type=Path, metavar="DIR", help="landmark folder (default: Landmark_dataset_flame_aligned_coma)"
    )
    paths.add_argument(
        "--labels", nargs="+", metavar="LABEL", help="only these expressions, or all (default: all found)"
    )
    paths.add_argument("--test-subjects", nargs="+", metavar="NAME", help="test set (default: the last three of CoMA)")
    sampling = parser.add_argument_group(
        "resampling on the way", "the landmarks are those of sampling_coma.py's meshes"
    )
    sampling.add_argument(
        "--frames",
        type=cli.integer(1, cli.MOST_FRAMES),
        metavar="N",
        help="frames per sequence, the neutral one included (default: as they are)",
    )
    sampling.add_argument(
        "--method", choices=("linear", "thesis"), default="linear", help="see sampling_coma.py; needs --frames"
    )
    data_flags.add_extraction_flags(parser)
    cli.add_run_flags(parser, "workers", "backend", "overwrite", "dry-run", "quiet")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    from face4d.datasets.sampling import Resampling

    dataset = data_flags.chosen_dataset(arguments, "coma")
    meshes = dataset.to_resample()
    source = arguments.input or (meshes.folder if arguments.frames else meshes.resampled)
    output = arguments.output or meshes.landmarks
    resampling = Resampling(arguments.frames, arguments.method, arguments.skip_gaps)
    extract_landmarks(arguments, dataset, source, output, resampling, fps=20)
    return 0


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
