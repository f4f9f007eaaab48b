"""Pictures of the results. Chinese labels need a font of the system that has them; without one they are in English."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huayu.experiments.transfer.arms import ARMS

BARS = {  # name → (language of the question, measure, English, Chinese)
    "en exact": ("en", "exact", "English question: exact", "英文提问：完全正确"),
    "zh exact": ("zh", "exact", "Chinese question: exact", "中文提问：完全正确"),
    "zh content": ("zh", "content", "Chinese question: content right", "中文提问：内容正确"),
    "zh language": ("zh", "language", "Chinese question: answer in Chinese", "中文提问：以中文回答"),
}
COLOURS = ("#9aa5b1", "#c8102e", "#f0a030", "#2a6f97")


def chinese_font() -> str | None:
    """The name of a font with Chinese letters that matplotlib finds."""
    from matplotlib import font_manager

    names = {font.name for font in font_manager.fontManager.ttflist}
    known = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "SimHei",
             "Microsoft YaHei", "PingFang SC", "Heiti TC")  # fmt: skip
    return next((name for name in known if name in names), None)


def draw(found: Mapping[str, Any], picture: Path, language: str) -> None:
    """Arms; the answers' language while instructions are learned; painting. As one PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    font = chinese_font() if language == "zh" else None
    chinese = font is not None

    def say(en: str, zh: str) -> str:
        return zh if chinese else en

    with matplotlib.rc_context({"font.family": [font or "DejaVu Sans"], "axes.unicode_minus": False, "font.size": 9}):
        figure = Figure(figsize=(11, 3.9), layout="constrained")
        arms, way, paint = figure.subplots(1, 3, width_ratios=(5, 3, 2))
        _arms(arms, found, say)
        _on_the_way(way, found, say)
        _paint(paint, found, say)
        figure.savefig(picture, dpi=100)


def _bars(axis: Any, place: float, figure: Mapping[str, float], colour: str, width: float, label: str | None) -> None:
    mean = figure["mean"]
    if figure.get("n") == 1:
        axis.bar(place, 100 * mean, width, color=colour, label=label)
        return
    error = [[100 * (mean - figure["low"])], [100 * (figure["high"] - mean)]]
    axis.bar(place, 100 * mean, width, yerr=error, color=colour, label=label, capsize=2)


def _arms(axis: Any, found: Mapping[str, Any], say: Any) -> None:
    keys = [key for key in ("words", "blind", *(one.key for one in ARMS)) if key in found["arms"]]
    for number, key in enumerate(keys):
        for bar, (language, measure, en, zh) in enumerate(BARS.values()):
            figure = found["arms"][key]["summary"][language]["all"][measure]
            label = say(en, zh) if number == 0 else None
            _bars(axis, number + 0.2 * (bar - 1.5), figure, COLOURS[bar], 0.18, label)
    names = {"words": say("words", "文字"), "blind": say("blind", "未看"), "apart": say("a, apart", "a，分隔")}
    axis.set_xticks(range(len(keys)), [names.get(key, key) for key in keys])
    axis.set_title(say("what is answered, by arm (%)", "各组的回答（%）"))
    axis.set_ylim(0, 128)
    axis.legend(fontsize=7, loc="upper center", ncols=2, frameon=False)


def _on_the_way(axis: Any, found: Mapping[str, Any], say: Any) -> None:
    colours = ("#c8102e", "#f0a030", "#2a6f97", "#5c8001", "#7b2d8b", "#111111")
    for colour, (key, per_seed) in zip(colours, found["on_the_way"].items(), strict=False):
        rows = list(per_seed.values())
        for measure, line in (("content", "-"), ("language", ":")):
            if rows:
                steps = [row["step"] for row in rows[0]]
                shares = [100 * sum(seed[i][f"zh/{measure}"] for seed in rows) / len(rows) for i in range(len(steps))]
                axis.plot(steps, shares, line, marker=".", color=colour, label=key if measure == "content" else None)
    axis.set_title(say("Chinese questions during instructions:\ncontent right (—), in Chinese (···), %",
                       "学习指令期间的中文提问：\n内容正确（—）、用中文（···），%"))  # fmt: skip
    axis.set_xlabel(say("steps", "步数"))
    axis.set_ylim(-3, 106)
    axis.legend(fontsize=8, ncols=2)


def _paint(axis: Any, found: Mapping[str, Any], say: Any) -> None:
    keys = [key for key in ("paint", "paint-apart") if key in found]
    for number, key in enumerate(keys):
        for bar, (language, name) in enumerate(
            (("en", say("English prompt", "英文提示")), ("zh", say("Chinese prompt", "中文提示")))
        ):
            figure = found[key]["summary"][language]["thing"]
            _bars(axis, number + 0.4 * (bar - 0.5), figure, COLOURS[bar], 0.36, name if number == 0 else None)
    names = {"paint": say("joined", "相连"), "paint-apart": say("apart", "分隔")}
    axis.set_xticks(range(len(keys)), [names[key] for key in keys])
    axis.set_title(say("English captions only:\nrecognised (%)", "只学英文提示的绘画：\n被认出（%）"))
    axis.set_ylim(0, 122)
    axis.legend(fontsize=7, loc="upper center", frameon=False)
