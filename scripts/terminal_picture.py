"""Record real commands in a pseudo-terminal and draw the session: docs/images/terminal.svg and .png (Linux, macOS).

    python scripts/terminal_picture.py [COMMAND …]

Without arguments it records the commands of the README. The PNG wants a monospaced font with Chinese on the system.
"""

from __future__ import annotations

import fcntl
import html
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import resvg_py
from rich.cells import cell_len
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "images" / "terminal.svg"
COLUMNS = 100
ASPECT = 0.55  # a cell's width in font heights
COMMANDS = (
    'huayu chat examples/dog.png "图里有什么？"',
    'huayu chat examples/dog.png "What colour is the background?"',
    'huayu chat examples/dog.png "它能吃吗？"',
    "huayu verify tests/golden/cases/beit3_queries",
)
BLACK, WHITE = (24, 26, 31), (220, 223, 228)
INKS = [
    BLACK,
    (224, 108, 117),
    (152, 195, 121),
    (229, 192, 123),
    (97, 175, 239),
    (198, 120, 221),
    (86, 182, 194),
    WHITE,
]
THEME = TerminalTheme(BLACK, WHITE, INKS, INKS)
FONTS = "Noto Sans Mono CJK SC, Sarasa Mono SC, PingFang SC, Microsoft YaHei, Menlo, Consolas, monospace"


def record(command: str) -> str:
    """What the command writes to a terminal, colours included. CalledProcessError when it fails."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "COLORTERM": "truecolor", "PATH": path}
    shell = ["/bin/sh", "-c", command]
    process = subprocess.Popen(shell, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output = bytearray()
    try:
        while chunk := os.read(ours, 65536):
            output += chunk
    except OSError:  # how Linux says that the other side has closed
        pass
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command, output.decode("utf-8", "replace"))
    lines = output.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    return "\n".join(line.rsplit("\r", 1)[-1] for line in lines).rstrip()


def draw(session: list[tuple[str, str]]) -> str:
    """The session as an SVG that fetches nothing."""
    console = Console(record=True, file=io.StringIO(), width=COLUMNS, force_terminal=True, color_system="truecolor")
    for command, output in session:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text.from_ansi(output), end="\n\n")
    svg = console.export_svg(title="huayu 画语", theme=THEME, font_aspect_ratio=ASPECT, unique_id="huayu")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;]*;", f"font-family: {FONTS};", svg)
    return re.sub(r'textLength="[^"]*"([^>]*)>([^<]*)<', by_cells, svg)


def by_cells(text: re.Match[str]) -> str:
    """rich counts characters where it should count cells: a Chinese one has two."""
    length = cell_len(html.unescape(text[2])) * 20 * ASPECT
    return f'textLength="{length:g}"{text[1]}>{text[2]}<'


def main(commands: tuple[str, ...]) -> None:
    svg = draw([(command, record(command)) for command in commands])
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(svg, encoding="utf-8")
    TARGET.with_suffix(".png").write_bytes(bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=1)))


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or COMMANDS)
