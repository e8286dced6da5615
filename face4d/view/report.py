"""One page with everything: figures, tables, configurations, all inside it; no network, no other files."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from face4d.photos.picture_files import read_picture
from face4d.runtime.atomic import write_text

SCREEN_SCALE = 0.6  # of the 200 dots per inch of print
COLOURS = 128

_STYLE = """
:root { --ink: #1d2226; --soft: #59636b; --paper: #fff; --raised: #fff; --rule: #d9dee2; --accent: #0b6bab; }
:root { --on-accent: #fff; --hover: #f3f7fa; --code: #f5f6f7; color-scheme: light; }
:root { --stage: radial-gradient(ellipse at 50% 35%, #fdfdfd, #d8dde1); }
[data-theme="dark"] { --ink: #e6eaed; --soft: #9aa6af; --paper: #14181b; --raised: #1e2428; --rule: #353d43; }
[data-theme="dark"] { --accent: #5db3ea; --on-accent: #0c1318; --hover: #20282d; --code: #1b2125; }
[data-theme="dark"] { --stage: radial-gradient(ellipse at 50% 35%, #353d43, #14181b); color-scheme: dark; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
body { margin: 0 auto; padding: 1rem; max-width: 78rem; overflow-x: hidden; }
h1 { font-size: 1.6rem; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; border-bottom: 2px solid var(--accent); padding-bottom: .2rem; }
h3 { font-size: 1.02rem; margin: 1.4rem 0 .4rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; font-size: .9rem; } a { color: var(--accent); }
figure { margin: .8rem 0; } figcaption { color: var(--soft); font-size: .88rem; max-width: 46rem; }
img { max-width: 100%; height: auto; }
[data-theme="dark"] img { background: #fff; border-radius: .3rem; filter: brightness(.92); }
.table { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .7rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--rule); }
thead th { border-bottom: 1.5px solid var(--soft); white-space: normal; vertical-align: bottom; }
.number { text-align: right; } tbody tr:hover { background: var(--hover); }
details { margin: .3rem 0; } summary { cursor: pointer; color: var(--accent); }
pre { overflow-x: auto; font-size: .8rem; background: var(--code); padding: .6rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: .4rem 1rem; }
"""


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        blocks: HTML in order.
    """

    title: str
    blocks: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self.blocks.append(f"<h3>{html.escape(text)}</h3>\n")

    def text(self, text: str) -> None:
        self.blocks.append(f"<p>{html.escape(text)}</p>\n")

    def table(self, table: str) -> None:
        """Add a table as HTML."""
        self.blocks.append(f'<div class="table">{table}</div>\n')

    def grid(self, pictures: Sequence[str]) -> None:
        """Add pictures (of :func:`embedded`, or "") side by side where there is room."""
        self.blocks.append(f'<div class="grid">{"".join(pictures)}</div>\n')

    def details(self, title: str, text: str) -> None:
        """Add preformatted text that opens when asked for."""
        self.blocks.append(
            f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>\n"
        )


def embedded(path: str | Path, caption: str) -> str:
    """A picture file as a ``<figure>`` that holds it; a PNG in the size and colours that a screen needs.

    Args:
        caption: shown below, and read to those who do not see the picture.
    """
    path = Path(path)
    content = smaller(path) if path.suffix == ".png" else path.read_bytes()
    return _figure(data_uri(content, f"image/{path.suffix[1:]}"), path, caption)


def _figure(source: str, path: Path, caption: str) -> str:
    escaped = html.escape(caption, quote=True)
    below = f"<figcaption>{escaped}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{escaped or html.escape(path.stem)}" loading="lazy">{below}</figure>\n'


def smaller(path: Path) -> bytes:
    """A PNG in print resolution as one of screen resolution and few colours."""
    image = read_picture(path).image
    size = [max(1, round(side * SCREEN_SCALE)) for side in image.size]
    reduced = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    reduced.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as a ``data:`` address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@dataclass(frozen=True)
class Top:
    """What comes before the sections.

    Attributes:
        style: CSS.
        body: HTML.
        scripts: HTML for the end of the page.
    """

    style: str
    body: str
    scripts: str


def page(title: str, introduction: str, sections: Sequence[Section], top: Top | None = None) -> str:
    """The HTML of a page; everything is inside it."""
    links = "".join(
        f'<a href="#part{number}">{html.escape(section.title)}</a>' for number, section in enumerate(sections)
    )
    parts = "".join(
        f'<h2 id="part{number}">{html.escape(section.title)}</h2>\n{"".join(section.blocks)}'
        for number, section in enumerate(sections)
    )
    top = top or Top("", "", "")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" '
        'content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}{top.style}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n"
        f"<p>{html.escape(introduction)}</p>\n{top.body}<nav>{links}</nav>\n{parts}{top.scripts}</body>\n</html>\n"
    )


def write_page(
    path: str | Path, title: str, introduction: str, sections: Sequence[Section], top: Top | None = None
) -> None:
    """Write :func:`page`, whole or not at all."""
    write_text(path, page(title, introduction, sections, top))
