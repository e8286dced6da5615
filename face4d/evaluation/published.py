"""Scores that others have published, in ``published.csv`` beside this module: what is not known is empty."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from face4d.evaluation.tables import Column

FILE = Path(__file__).with_name("published.csv")
SCORES = (
    "accuracy",
    "mm_mean",
    "mm_std",
    "mesh_mm",
    "mesh_std",
    "mse",
    "l1",
    "fid",
    "diversity",
    "multimodality",
)
COUNTS = ("subjects", "labels", "frames")
PUBLISHED_COLUMNS = (
    Column("method", "method"),
    Column("reference", "reference", long=True),
    Column("result", "where", long=True),
    Column("split", "split"),
    Column("subjects", "people"),
    Column("labels", "labels"),
    Column("frames", "frames"),
    Column("data", "data", long=True),
    Column("accuracy", "accuracy", ".1%"),
    Column("mm_mean", "mean (mm)", ".3f"),
    Column("mm_std", "std (mm)", ".3f"),
    Column("mesh_mm", "mesh mean (mm)", ".3f"),
    Column("mesh_std", "mesh std (mm)", ".3f"),
    Column("mse", "MSE (m²)", ".3e"),
    Column("l1", "L1 (m)", ".3e"),
    Column("fid", "FID", ".3f"),
    Column("diversity", "diversity", ".2f"),
    Column("multimodality", "multimodality", ".3f"),
    Column("note", "note", long=True),
)


def read_published() -> list[dict[str, Any]]:
    """All rows: text, numbers, and None where nothing is known. ``protocol`` is None for results of an unknown split,
    which compare with no protocol.
    """
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    convert = {**dict.fromkeys(SCORES, float), **dict.fromkeys(COUNTS, int)}
    return [{key: convert.get(key, str)(value) if value else None for key, value in row.items()} for row in rows]


def published_beside(protocol: str) -> list[dict[str, Any]]:
    """Rows of a protocol."""
    return [row for row in read_published() if row["protocol"] == protocol]
