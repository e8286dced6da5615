"""Scans registered from a command line: the files that are written, and an actor that is a scan."""

from __future__ import annotations

import shlex
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from face4d.datasets.source import DataSource
from face4d.errors import InputError

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    from face4d.registration.pipeline import Registration
    from face4d.registration.template import Template

REPORT = (".png", ".json", "_scan.ply")  # beside the registered head, after its stem


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
    write_json(
        record,
        {
            "scan": str(scan),
            "made_of": _made_of(scan, template),
            "template": template.name,
            "unit": found.unit,
            "metres": found.placed.scale,
            "rotation": found.placed.rotation.tolist(),
            "translation": found.placed.translation.tolist(),
            "size": found.size,
            "residuals_mm": {name: asdict(residual) for name, residual in found.residuals.items()},
        },
    )
    write_ply(head, found.vertices, template.faces)
    return paths


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
