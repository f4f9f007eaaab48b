"""Whether a model is what it should be: fidelity to what was published, and how well it answers."""

from __future__ import annotations

from pathlib import Path

from huayu.errors import ModelError

_EMBEDDED = {"mini-chat": "huayu-chat-mini", "mini-glm": "huayu-glm-mini"}


def run(task: str, *, model: str | None = None, limit: int | None = None, output: Path | None = None) -> None:
    """Measure ``model`` (None: the embedded one) on a task and print the table; ``output`` gets the files.

    ``limit``: questions of each kind. Raises ModelError for an unknown task.
    """
    if task in _EMBEDDED:
        from huayu.evaluation import mini_chat, plans

        taught = plans.ONE_PICTURE if task == "mini-glm" else plans.ALL
        mini_chat.evaluate(model or _EMBEDDED[task], limit or 100, output, taught)
    elif task == "mini-paint":
        from huayu.evaluation import mini_paint

        mini_paint.evaluate(model, limit, output)
    elif task == "beyond":
        from huayu.evaluation import beyond

        beyond.evaluate(model, limit or 100, output)
    else:
        known = ", ".join([*_EMBEDDED, "mini-paint", "beyond"])
        raise ModelError(f"No task {task!r}; there are: {known}.", f"没有名为 {task!r} 的任务；现有：{known}。")
