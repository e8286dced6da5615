"""Step 2: resample every mesh sequence to the same number of frames, equally spaced over its duration.

    python sampling_coma.py                                       # Dataset_FLAME_Aligned_COMA -> sampling, 41 frames
    python sampling_coma.py --dataset demo
    python sampling_coma.py --input MyData --output MySampling --frames 61
    python sampling_coma.py --method thesis                       # as published: may drop up to half of a sequence

Reads <subject>/<label>/*.ply at any depth, writes <output>/<subject>/<label>/<label>.000000.ply and so on. The first
and the last frame are kept exactly. Sequences that exist and are unchanged are skipped, so running the command again
continues a stopped run.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli, data_flags


def parse_arguments(argv: Sequence[str] | None) -> Namespace:
    """Command line."""
    parser = cli.parser(__doc__)
    paths = parser.add_argument_group("data")
    data_flags.add_dataset_flag(paths, "picks the default --input, --output, --frames", "default: coma")
    paths.add_argument(
        "--input", type=Path, metavar="DIR", help="folder with PLY sequences (default: Dataset_FLAME_Aligned_COMA)"
    )
    paths.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the resampled sequences (default: sampling)"
    )
    paths.add_argument(
        "--labels", nargs="+", metavar="LABEL", default=["all"], help="only these expressions (default: all found)"
    )
    sampling = parser.add_argument_group("resampling")
    sampling.add_argument(
        "--frames",
        type=cli.integer(1, cli.MOST_FRAMES),
        metavar="N",
        help="frames per sequence, the neutral one included (default: 41)",
    )
    sampling.add_argument(
        "--method",
        choices=("linear", "thesis"),
        default="linear",
        help="linear: equally spaced over the whole duration",
    )
    data_flags.add_gap_flag(sampling)
    cli.add_run_flags(parser, "workers", "backend", "overwrite", "dry-run", "quiet")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    from face4d.datasets.sampling import Resampling, sample_tree
    from face4d.runtime.parallel import cluster

    dataset = data_flags.chosen_dataset(arguments, "coma")
    meshes = dataset.to_resample()
    output = arguments.output or meshes.resampled
    with cluster(arguments.backend, arguments.scheduler, arguments.workers) as workers:
        summary = sample_tree(
            arguments.input or meshes.folder,
            output,
            Resampling(arguments.frames or meshes.frames, arguments.method, arguments.skip_gaps),
            data_flags.write_options(arguments, workers),
            labels=arguments.labels,
        )
    if arguments.dry_run or not arguments.quiet:
        print(f"{summary.sentence('frames', arguments.dry_run)} in {output}")
    if not arguments.dry_run:
        cli.report_written([output] if summary.written else [])
        words = data_flags.words_unless_usual(dataset=(dataset.name, "coma"), input=(output, meshes.resampled))
        cli.suggest_next(arguments, "get_landmark_coma.py", *words)
    return 0


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
