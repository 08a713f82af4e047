"""Draw what a command printed as a picture of a terminal: the one in the README.

make demo 2>&1 | tee demo.log
.venv/bin/python scripts/demo_picture.py demo.log docs/demo.svg "make demo"
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

_WIDTH = 120
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono"
_STYLES = (
    (re.compile(r"^\[\d+/\d+\].*: ok, .*$", re.MULTILINE), "green"),
    (re.compile(r"^answer (before|after):.*$", re.MULTILINE), "bold"),
)


def main(log: str, picture: str, title: str) -> None:
    lines = Path(log).read_text().replace(str(Path.home()), "~").splitlines()
    ended = {line.partition(": ok")[0] for line in lines if ": ok" in line}
    lines = [line for line in lines if line.removesuffix(" …") not in ended]  # the end of a step tells of its beginning
    text = Text("\n".join(lines))
    for pattern, style in _STYLES:
        text.highlight_regex(pattern, style)
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(text)
    svg = console.export_svg(title=title)
    # Rich loads its font from the web; a picture in a repository should need nothing but itself.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code", _FONT)
    Path(picture).write_text(svg)


if __name__ == "__main__":
    main(*sys.argv[1:])
