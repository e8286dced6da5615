"""Step 3, CoMA_Florence: extract 68 landmarks of every frame and split the sequences by subject as in the thesis.

    python get_animation_landmark_ply.py                    # Dataset_FLAME_Aligned -> Landmark_dataset_flame_aligned
    python get_animation_landmark_ply.py --dataset demo
    python get_animation_landmark_ply.py --input MyMeshes --output MyLandmarks --test-subjects S05 S06
    python get_animation_landmark_ply.py --landmark-embedding my_topology.npz       # npz with face_idx, bary, faces
    python get_animation_landmark_ply.py --plot                 # also a GIF of every sequence

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
    data_flags.add_dataset_flag(paths, "picks defaults for all of these", "default: florence")
    paths.add_argument(
        "--input", type=Path, metavar="DIR", help="folder with PLY sequences (default: Dataset_FLAME_Aligned)"
    )
    paths.add_argument(
        "--output", type=Path, metavar="DIR", help="landmark folder (default: Landmark_dataset_flame_aligned)"
    )
    paths.add_argument(
        "--labels", nargs="+", metavar="LABEL", help="only these expressions, or all (default: the thesis' ten)"
    )
    paths.add_argument("--test-subjects", nargs="+", metavar="NAME", help="test set (default: CH01 CH02)")
    data_flags.add_extraction_flags(parser)
    cli.add_run_flags(parser, "workers", "backend", "overwrite", "dry-run", "quiet")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    from face4d.datasets.sampling import Resampling

    dataset = data_flags.chosen_dataset(arguments, "florence")
    meshes = dataset.to_use_as_they_are()
    source, output = arguments.input or meshes.folder, arguments.output or meshes.landmarks
    extract_landmarks(arguments, dataset, source, output, Resampling(skip_gaps=arguments.skip_gaps), fps=30)
    return 0


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
