"""The command in a real terminal, in a real pipe, and how quickly it says what it can do."""

from __future__ import annotations

import codecs
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

SOURCE = Path(__file__).resolve().parents[2] / "src"
HUAYU = [sys.executable, "-m", "huayu"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SOURCE), "HUAYU_LANG": "en", "PYTHONIOENCODING": "utf-8", **more}


class Terminal:
    """A huayu process that believes it talks with a person."""

    def __init__(self, *arguments: str) -> None:
        import pty

        self.ours, theirs = pty.openpty()
        # Tests that a shell runs in the background have interrupts ignored; a child would inherit that.
        ours = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self.process = subprocess.Popen(
                [*HUAYU, *arguments],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env=environment(TERM="dumb", OMP_NUM_THREADS="1"),
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, ours)
        os.close(theirs)
        self.seen = ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a read may end within a character

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.ours)

    def until(self, pattern: str, seconds: float = 300) -> str:
        """Everything up to and with ``pattern``, which is then taken from what was seen."""
        import select

        end = time.monotonic() + seconds
        while (found := re.search(pattern, self.seen)) is None:
            if time.monotonic() > end or not select.select([self.ours], [], [], end - time.monotonic())[0]:
                raise AssertionError(f"{pattern!r} did not come; seen: {self.seen!r}")
            try:
                self.seen += self.decoder.decode(os.read(self.ours, 65536))
            except OSError as closed:
                raise AssertionError(f"{pattern!r} did not come; seen: {self.seen!r}") from closed
        text, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return text

    def say(self, line: str) -> None:
        os.write(self.ours, f"{line}\n".encode())

    def ended(self) -> int:
        """The exit code, once it has ended by itself."""
        return self.process.wait(timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a Unix thing")
def test_a_conversation_in_a_terminal(tiny_chat_folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(picture)
    arguments = ("chat", str(picture), "--model", str(tiny_chat_folder), "--max-new-tokens", "3000")
    with Terminal(*arguments) as terminal:
        assert "Loading" in terminal.until("stop ends")
        terminal.until("You: ")
        terminal.say("这是什么？")
        terminal.until(r"这是什么？\s+\S")  # the echo, then the answer begins
        terminal.process.send_signal(signal.SIGINT)
        assert "stopped" in terminal.until("You: ")
        assert terminal.process.poll() is None
        terminal.say("clear")
        assert "Forgotten" in terminal.until("You: ")
        terminal.say("红" * 4000)
        assert "huayu: The prompt has" in terminal.until("You: ")
        terminal.say("stop")
        assert terminal.ended() == 0


def test_help_is_quick_and_light() -> None:
    """Under half a second on a quiet machine; here only that nothing heavy is imported."""
    code = (
        "import sys\n"
        "from huayu.cli.main import main\n"
        "try:\n    main(['chat', '--help'])\n"
        "finally:\n    print([m for m in ('torch', 'transformers', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment(), timeout=60, check=True, encoding="utf-8"
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "看图说话" in done.stdout
    assert "--max-new-tokens" in done.stdout
