"""Measure the page of moving heads in Chromium: size, opening, frames per second, time that a frame takes to compute.

    python benchmarks/page.py demo/figures/report.html                     # after bash run.sh demo
    python benchmarks/page.py before.html after.html --repeat 3            # pages in turns, medians
    python benchmarks/page.py demo/figures/report.html --gpu               # drawn by the graphics card

Frames are counted by requestAnimationFrame, after --settle seconds of playing. Morph: motion and normals of all heads
of a frame seen before, and seen for the first time, without drawing. Pace: how fast the motion runs; 1 is real time.
Pixels: share of the screen's pixels per side that are drawn. Needs chromium (or CHROMIUM=PATH) and
pip install -e '.[browser]'.
"""

from __future__ import annotations

import os
import shutil
import statistics
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from face4d.commands import cli
from face4d.errors import InputError

HEADS = (1, 2, 4)
SOFTWARE = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")

# the moment of the first motion, milliseconds after the page began to load
_FIRST_MOTION = """
const look = () => {
  if (window.face4d && face4d.state.time > 0) window.firstMotion = performance.now();
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""

_FRAMES = """async ([heads, settle, seconds]) => {
  const { state, panels } = face4d, wait = (s) => new Promise((done) => setTimeout(done, 1000 * s));
  face4d.play(false);
  face4d.setLayout(heads);
  face4d.seek(0);
  face4d.play(true);
  await wait(settle);
  const end = Math.max(...panels.slice(0, heads).map((panel) => panel.motion.frames - 1));
  const begun = performance.now();
  let drawn = 0, moved = 0, at = state.time, now = begun;
  while (now - begun < 1000 * seconds) {
    now = await new Promise((done) => requestAnimationFrame(() => done(performance.now())));
    moved += (state.time - at + end) % end;
    at = state.time;
    drawn += 1;
  }
  const passed = (now - begun) / 1000, canvas = document.getElementById("canvas");
  const pixels = canvas.width / canvas.clientWidth / devicePixelRatio;
  face4d.play(false);
  return { fps: drawn / passed, pace: moved / passed / 25, pixels };
}"""

_MORPH = """([heads]) => {
  const { state, panels } = face4d, shown = panels.slice(0, heads);
  const end = Math.min(...shown.map((panel) => panel.motion.frames - 1)), kept = state.time;
  const all = (offset) => {
    const begun = performance.now();
    for (let frame = 0; frame < end; frame++) {
      state.time = frame + offset;
      for (const panel of shown) panel.update();
    }
    return (performance.now() - begun) / end;
  };
  for (const panel of shown) {
    panel.motion.cache.length = 0;
    if (panel.reference && panel.reference.cache) panel.reference.cache.length = 0;
  }
  const first = all(0), again = [0.25, 0.5, 0.75].map(all).sort((a, b) => a - b)[1];
  state.time = kept;
  return { first, again };
}"""


def parse_arguments(argv: Sequence[str] | None) -> Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("pages", nargs="+", type=Path, metavar="FILE", help="pages that figures.py wrote")
    parser.add_argument("--repeat", type=cli.integer(1, 100), default=3, metavar="N", help="times each page is opened")
    parser.add_argument(
        "--settle", type=cli.number(0, 60), default=3.0, metavar="S", help="seconds of playing before counting"
    )
    parser.add_argument("--seconds", type=cli.number(0.1, 600), default=4.0, metavar="S", help="seconds of counting")
    cli.add_switch(parser, "--gpu", False, "draw by the graphics card, not in software")
    return parser.parse_args(argv)


@contextmanager
def started_browser(gpu: bool) -> Iterator[Any]:
    """Chromium, drawing by the graphics card or in software.

    Raises:
        InputError: playwright or chromium is not there.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise InputError("playwright", "the package (pip install -e '.[browser]')", "none") from None
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise InputError("chromium", "a browser (apt-get install chromium, or CHROMIUM=PATH)", "none")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", *(() if gpu else SOFTWARE)])
        yield browser
        browser.close()


def measure(browser: Any, path: Path, args: Namespace) -> dict[str, float]:
    """Numbers of one opening, in a window of 1280 x 900."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.add_init_script(_FIRST_MOTION)
    page.goto(path.resolve().as_uri())
    try:
        page.wait_for_function("window.firstMotion", timeout=60_000)
    except Exception as error:
        raise InputError(path, "a page of moving heads that plays", str(error).splitlines()[0]) from None
    found = {"opening": page.evaluate("window.firstMotion") / 1000}
    page.evaluate("face4d.ready")
    for heads in HEADS:
        numbers = page.evaluate(_FRAMES, [heads, args.settle, args.seconds]) | page.evaluate(_MORPH, [heads])
        found |= {f"{name} {heads}": value for name, value in numbers.items()}
    context.close()
    return found


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)

    from run import table  # beside this file

    for path in args.pages:
        if not path.is_file():
            raise InputError(path, "a page that figures.py wrote", "no such file")
    runs: dict[Path, list[dict[str, float]]] = {path: [] for path in args.pages}
    with started_browser(args.gpu) as browser:
        for _ in range(args.repeat):
            for path in args.pages:
                runs[path].append(measure(browser, path, args))
        print(f"Chromium {browser.version}, {'graphics card' if args.gpu else 'software'}, medians of {args.repeat}\n")
    rows = [("page", "heads", "frames per second", "pace", "pixels", "morph", "first time")]
    for path, found in runs.items():
        median = {name: statistics.median(one[name] for one in found) for name in found[0]}
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {median['opening']:.2f} s from opening to the first motion")
        for heads in HEADS:
            fps = sorted(one[f"fps {heads}"] for one in found)
            rows.append((
                path.name, str(heads), f"{median[f'fps {heads}']:.1f} ({fps[0]:.1f} to {fps[-1]:.1f})",
                f"{median[f'pace {heads}']:.2f}", f"{median[f'pixels {heads}']:.2f}",
                f"{median[f'again {heads}']:.2f} ms", f"{median[f'first {heads}']:.2f} ms",
            ))  # fmt: skip
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    cli.run(main)
