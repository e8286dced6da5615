"""The record of one training run: configuration, curves, metrics."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from face4d import __version__
from face4d.errors import InputError
from face4d.runtime.atomic import write_json


def package_versions() -> dict[str, str]:
    """Versions that can change a number: python, face4d, torch, numpy."""
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "scipy")}
    return {"python": platform.python_version(), "face4d": __version__, **versions}


class RunFolder:
    """``runs/<run>/``: config.json, metrics.json and TensorBoard event files.

    Args:
        path: the folder; made when the first file is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._writer: Any = None

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.json: the full configuration, with package versions and the platform."""
        write_json(self.path / "config.json", {**config, "versions": package_versions(), "platform": platform.platform()})

    def read_config(self) -> dict[str, Any]:
        """Read config.json back.

        Raises:
            InputError: it is missing or damaged.
        """
        return read_json(self.path / "config.json")

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json."""
        write_json(self.path / "metrics.json", metrics)

    def clear_curves(self) -> None:
        """Remove the event files of an earlier run of this name; nothing else."""
        for path in self.path.glob("events.out.tfevents.*"):
            path.unlink(missing_ok=True)  # every process of a distributed run comes here

    def open_curves(self, first_step: int = 0) -> None:
        """Start the TensorBoard writer; points at or after ``first_step`` of an earlier, interrupted run are dropped."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import, needed by training only

        self.close()
        self._writer = SummaryWriter(str(self.path), purge_step=first_step or None)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Add one point to each curve."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Flush and close the curves."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: it is missing or not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(path, "a JSON file", "no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, "a JSON file", f"{error}") from None
