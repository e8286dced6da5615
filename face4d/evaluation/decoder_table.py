"""The table that compares dense decoders over folds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from face4d.evaluation.tables import Column, Row, write_table

DECODER_COLUMNS = (
    Column("decoder", "decoder"),
    Column("fold", "test fold"),
    Column("mm", "error, mm", ".4f", "min"),
    Column("mm_std", "std, mm", ".4f"),
    Column("mm_noisy", "error to noisy vertices, mm", ".4f"),
    Column("frames", "test frames"),
    Column("train_frames", "training frames"),
    Column("strength", "strength, mm2", ".2g"),
    Column("seconds", "training, s", ".1f"),
    Column("ms_per_frame", "decoding, ms per frame", ".2f"),
)
_AVERAGED = ("mm", "mm_std", "mm_noisy", "seconds", "ms_per_frame")


def average(rows: Sequence[Row]) -> list[Row]:
    """One row per decoder: means over its folds (of the standard deviations too [S]), for decoders with several folds."""
    found: list[Row] = []
    for decoder in dict.fromkeys(row["decoder"] for row in rows):
        own = [row for row in rows if row["decoder"] == decoder]
        if len(own) > 1:
            means = {key: sum(row[key] for row in own) / len(own) for key in _AVERAGED if all(key in row for row in own)}
            found.append({"decoder": decoder, "fold": f"mean of {len(own)}", **means, "frames": sum(row["frames"] for row in own)})
    return found


def write_decoder_tables(folder: str | Path, rows: Sequence[Row]) -> list[Path]:
    """Write ``decoders.csv``, ``.md`` and ``.tex`` into ``folder``; decoders compete on the same test fold, and averages over as many folds."""
    return write_table(Path(folder) / "decoders", DECODER_COLUMNS, rows, contest=[row["fold"] for row in rows])
