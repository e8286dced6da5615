"""Measure the live viewer in Chromium: opening, frames per second, how long a change of the label takes.

    python benchmarks/viewer.py --checkpoint demo/models/demo_controls.pt   # after bash run.sh demo
    python benchmarks/viewer.py --checkpoint demo/models/demo_controls.pt --repeat 5 --gpu

Starts test.py --view on this machine, so that browser and viewer share it. Opening: from asking for the address to
the first picture with a head, and to the first that differs from it, looked at every tenth of a second. Change: from
choosing a label to the next picture that differs, of the motion standing still; made: the part of it that the viewer
takes. Needs pip install viser, and what benchmarks/page.py needs.
"""

from __future__ import annotations

import io
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from face4d.commands import cli
from face4d.errors import InputError

_SCRIPT = Path(__file__).resolve().parents[1] / "test.py"
_FACE = {"x": 150, "y": 200, "width": 450, "height": 400}  # of the window
_LONGEST = 60  # seconds of waiting

_FRAMES = """async (seconds) => {
  const begun = performance.now();
  let drawn = 0, now = begun;
  while (now - begun < 1000 * seconds) {
    now = await new Promise((done) => requestAnimationFrame(() => done(performance.now())));
    drawn += 1;
  }
  return 1000 * drawn / (now - begun);
}"""


def parse_arguments(argv: Sequence[str] | None) -> Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="FILE", help="a generator")
    parser.add_argument("--repeat", type=cli.integer(1, 100), default=3, metavar="N", help="times it is opened")
    parser.add_argument("--seconds", type=cli.number(0.1, 600), default=4.0, metavar="S", help="seconds of counting")
    cli.add_switch(parser, "--gpu", False, "draw by the graphics card, not in software")
    return parser.parse_args(argv)


def picture(page: Any) -> np.ndarray:
    """(H, W, 3) of where the face is."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=_FACE))).convert("RGB"), np.int16)


def waited(page: Any, seen: Callable[[np.ndarray], bool]) -> float:
    """Seconds until something is seen."""
    begun = time.perf_counter()
    while not seen(picture(page)):
        if time.perf_counter() - begun > _LONGEST:
            raise InputError("the viewer", "another picture", f"none in {_LONGEST} s")
        page.wait_for_timeout(100)
    return time.perf_counter() - begun


def differs(before: np.ndarray) -> Callable[[np.ndarray], bool]:
    return lambda after: float((np.abs(after - before).max(axis=2) > 12).mean()) > 0.002


def measure(browser: Any, address: str, seconds: float) -> dict[str, float]:
    """Numbers of one opening, in a window of 1280 x 900."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    begun = time.perf_counter()
    page.goto(address)
    waited(page, lambda shown: float((shown < 200).any(axis=2).mean()) > 0.05)
    found = {"head": time.perf_counter() - begun}
    waited(page, differs(picture(page)))
    found["motion"] = time.perf_counter() - begun
    found["fps"] = page.evaluate(_FRAMES, seconds)
    page.get_by_role("button", name="Pause", exact=True).click()
    before = picture(page)
    while differs(before)(picture(page)):
        before = picture(page)
    page.wait_for_timeout(2000)
    before = picture(page)
    label = page.locator("strong").first.inner_text()
    page.locator(f'input[value="{label}"]').first.click()
    page.get_by_role("option").filter(has_not_text=label).first.click()
    found["change"] = waited(page, differs(before))
    made = re.search(r"made in ([\d.]+) s", page.locator("strong").first.locator("xpath=..").inner_text())
    found["made"] = float(made[1]) if made else float("nan")
    page.context.close()
    return found


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)

    from page import started_browser  # beside this file
    from run import table

    command = [sys.executable, str(_SCRIPT), "--view", "--checkpoint", str(args.checkpoint), "--port", "8780"]
    runs = []
    with started_browser(args.gpu) as browser:
        for _ in range(args.repeat):  # a new viewer each time, so that nothing is there already
            running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})
            assert running.stdout is not None
            address = re.search(r"http://\S+", running.stdout.readline())
            if address is None:
                raise InputError(args.checkpoint, "a viewer that starts", "what it says above")
            try:
                runs.append(measure(browser, address[0], args.seconds))
            finally:
                running.send_signal(signal.SIGINT)
                running.wait()
        print(f"Chromium {browser.version}, {'graphics card' if args.gpu else 'software'}, medians of {args.repeat}\n")
    names = {
        "head": "opening to the head, s",
        "motion": "to the first motion, s",
        "fps": "frames per second",
        "change": "change of the label, s",
        "made": "of it made, s",
    }
    values = [f"{statistics.median(run[name] for run in runs):.1f}" for name in names]
    print(table([tuple(names.values()), tuple(values)]))


if __name__ == "__main__":
    cli.run(main)
