"""Scans registered from a command line: the files that are written, and an actor that is a scan."""

from __future__ import annotations

import shlex
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.datasets.source import DataSource
from face4d.errors import InputError

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    from face4d.registration.pipeline import Registration
    from face4d.registration.template import Template

REPORT = (".png", ".json", "_scan.ply")  # beside the registered head, after its stem
RECORD = "registration.json"  # in a folder of registered heads


def files_of(head: Path) -> list[Path]:
    """The registered head's file (.ply), and those that are written beside it."""
    return [head, *(head.with_name(f"{head.stem}{name}") for name in REPORT)]


def print_registration(scan: Path, found: Registration, template: Template) -> None:
    """Unit, place, and residuals by region."""
    print(f"{scan}: in {found.unit}, {found.turned}; {100 * found.size:.0f} % of the size of {template.name}")
    print("distance from the scan (mm)  median   95 %  covered")
    for name, residual in found.residuals.items():
        numbers = [f"{value:6.2f}" if value is not None else "     -" for value in (residual.median, residual.worst)]
        print(f"{name:<27}  {' '.join(numbers)}  {100 * residual.covered:5.0f} %")


def write_registration(head: Path, scan: Path, found: Registration, template: Template) -> list[Path]:
    """Write the registered head last, what is beside it before; returns the paths, see :func:`files_of`."""
    from face4d.mesh.ply import write_ply
    from face4d.registration.picture import registration_picture
    from face4d.render.pictures import save_picture
    from face4d.runtime.atomic import write_json

    paths = files_of(head)
    _, picture, record, cleaned = paths
    write_ply(cleaned, found.scan.vertices.astype("float32"), found.scan.faces.astype("int32"))
    save_picture(picture, registration_picture(found, template) / 255)
    made_of = {"scan": str(scan), "made_of": _made_of(scan, template)}
    write_json(record, made_of | _place(found, template) | {"residuals_mm": _residuals(found)})
    write_ply(head, found.vertices, template.faces)
    return paths


def _place(found: Registration, template: Template) -> dict[str, Any]:
    return {
        "template": template.name,
        "unit": found.unit,
        "metres": found.placed.scale,
        "rotation": found.placed.rotation.tolist(),
        "translation": found.placed.translation.tolist(),
        "size": found.size,
    }


def _residuals(found: Registration) -> dict[str, Any]:
    return {name: asdict(residual) for name, residual in found.residuals.items()}


def track_folder(output: Path, paths: list[Path], first: Registration, template: Template, *, quiet: bool) -> None:
    """Register the later scans of a sequence and write all heads, PLY files of the scans' names, with the record
    registration.json and pictures of the first frame and of the one farthest from its scan.
    """
    import time

    import numpy as np

    from face4d.mesh.ply import write_ply
    from face4d.registration.picture import registration_picture
    from face4d.registration.scan import read_scan
    from face4d.registration.tracking import track
    from face4d.render.pictures import save_picture
    from face4d.runtime.atomic import replacing_folder, write_json
    from face4d.runtime.progress import counted
    from face4d.runtime.progress import track as progress

    start = time.perf_counter()
    made = [old.name for pattern in ("*.ply", "registration*.png", RECORD) for old in output.glob(pattern)]
    with replacing_folder(output, made) as folder:
        write_ply(folder / f"{paths[0].stem}.ply", first.vertices, template.faces)
        residuals = {paths[0].name: _residuals(first)}
        worst, led = (paths[0], first), 0
        scans = ((path, read_scan(path)) for path in progress("track", paths[1:], unit="scan", quiet=quiet))
        for path, (found, by_points) in zip(paths[1:], track(first, template, scans)):
            write_ply(folder / f"{path.stem}.ply", found.vertices, template.faces)
            residuals[path.name] = _residuals(found)
            led += by_points
            if _on_face(found) > _on_face(worst[1]):
                worst = path, found
        save_picture(folder / "registration.png", registration_picture(first, template) / 255)
        if worst[0] != paths[0]:
            save_picture(folder / f"registration_{worst[0].stem}.png", registration_picture(worst[1], template) / 255)
        write_json(folder / RECORD, _place(first, template) | {"frames": residuals})
    seconds = (time.perf_counter() - start) / max(len(paths) - 1, 1)
    medians = [one["face"]["median"] for one in residuals.values() if one["face"]["median"] is not None]
    print(
        f"{counted(len(paths), 'frame')}, the face seen in {led} of the later ones; on it, from the scan: "
        f"median {np.median(medians):.2f} mm, worst {_on_face(worst[1]):.2f} mm ({worst[0].name}); "
        f"{seconds:.1f} s per frame"
    )


def _on_face(found: Registration) -> float:
    median = found.residuals["face"].median
    return float("inf") if median is None else median


def _made_of(scan: Path, template: Template) -> dict[str, str]:
    from face4d.runtime.incremental import array_digest, file_digest

    return {"scan": file_digest(scan), "template": array_digest(template.vertices, template.faces)}


def template_words(source: DataSource) -> list[str]:
    """The flags of Reconstruction/register.py for a template of the topology of the source's landmarks.

    Raises:
        InputError: a topology of one's own of which no head is at hand.
    """
    if source.landmark_embedding is None:
        return ["--flame", str(source.flame)]
    from face4d.datasets.mesh_set import actor_paths

    if source.actors is None:
        raise InputError("--actors", "a folder with a neutral head to start the registration from", "none")
    first = next(iter(actor_paths(source.actors).values()))
    return ["--template", str(first), "--landmark-embedding", str(source.landmark_embedding)]


def register_command(actor: Path, source: DataSource) -> str:
    """The command that registers an actor for a generator."""
    try:
        words = template_words(source)
    except InputError:
        words = ["--template", "HEAD.ply", "--landmark-embedding", str(source.landmark_embedding)]
    output = actor.with_name(f"{actor.stem}_registered.ply")
    return shlex.join(["python", "Reconstruction/register.py", str(actor), "--output", str(output), *words])


def registered_actor(args: Namespace, source: DataSource) -> Path:
    """The head of ``--actor``, a scan, in the topology of the source's landmarks: registered into the output folder, or
    found there where an earlier call has registered the same scan to the same template.

    Raises:
        InputError: a scan that cannot be registered, or another file of that name without ``--overwrite``.
    """
    from face4d.registration.pipeline import register_scan
    from face4d.registration.scan import read_scan
    from face4d.registration.template import load_template
    from face4d.registration.views import view_anchors

    words = template_words(source)
    flags = dict(zip(words[::2], words[1::2]))
    template = load_template(flags.get("--flame", ""), flags.get("--template"), flags.get("--landmark-embedding"))
    head = args.output / f"{args.actor.stem}.ply"
    if head.resolve() == args.actor.resolve():
        raise InputError(args.actor, "a scan outside of the folder that the registered head is written to", "--output")
    if head.exists():
        if _is_registered(head, args.actor, template):
            print(f"{args.actor}: registered before, {head} is used")
            return head
        if not args.overwrite:
            raise InputError(
                head, "no file of that name, or the registered head of this scan (--overwrite replaces it)", "another"
            )
    scan = read_scan(args.actor)
    found = register_scan(args.actor, scan, template, view_anchors(args.actor, scan, template))
    print_registration(args.actor, found, template)
    write_registration(head, args.actor, found, template)
    print(f"{args.actor}: the registered head is {head}, its picture {files_of(head)[1]}")
    return head


def _is_registered(head: Path, scan: Path, template: Template) -> bool:
    from face4d.runtime.fields import read_json

    try:
        record = read_json(files_of(head)[2])
    except InputError:
        return False
    return isinstance(record, dict) and record.get("made_of") == _made_of(scan, template)
