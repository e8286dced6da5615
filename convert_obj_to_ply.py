"""Step 1: convert every OBJ mesh below a folder to binary PLY, with vertices and faces in the order of the file.

    python convert_obj_to_ply.py                                  # every OBJ below Dataset_FLAME_Aligned/
    python convert_obj_to_ply.py --dataset demo
    python convert_obj_to_ply.py --input MyMeshes --output MyPly --workers 8

Polygons are split into triangles. Files that are already converted and unchanged are skipped, so running the command
again continues a stopped run.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli, data_flags
from face4d.datasets.entry import ResampledMeshes


def parse_arguments(argv: Sequence[str] | None) -> Namespace:
    """Command line."""
    parser = cli.parser(__doc__)
    paths = parser.add_argument_group("data")
    data_flags.add_dataset_flag(paths, "picks the default --input", "default: florence")
    paths.add_argument(
        "--input", type=Path, metavar="DIR", help="folder with OBJ files at any depth (default: Dataset_FLAME_Aligned)"
    )
    paths.add_argument(
        "--output", type=Path, metavar="DIR", help="gets the same tree as PLY (default: the input folder)"
    )
    cli.add_run_flags(parser, "workers", "backend", "overwrite", "dry-run", "quiet")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    from face4d.mesh.conversion import convert_tree
    from face4d.runtime.parallel import cluster

    dataset = data_flags.chosen_dataset(arguments, "florence")
    meshes = dataset.to_convert()
    source = arguments.input or meshes.folder
    output = arguments.output or source
    with cluster(arguments.backend, arguments.scheduler, arguments.workers) as workers:
        summary = convert_tree(source, output, data_flags.write_options(arguments, workers))
    if arguments.dry_run or not arguments.quiet:
        print(f"{summary.sentence('PLY files', arguments.dry_run)} in {output}")
    if not arguments.dry_run:
        cli.report_written([output] if summary.written else [])
        following, usual = (
            ("sampling_coma.py", "coma")
            if isinstance(meshes, ResampledMeshes)
            else ("get_animation_landmark_ply.py", "florence")
        )
        words = data_flags.words_unless_usual(dataset=(dataset.name, usual), input=(output, meshes.folder))
        cli.suggest_next(arguments, following, *words)
    return 0


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
