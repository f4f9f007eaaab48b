"""The report, in English or Chinese: the text is in report.en.md and report.zh.md, every figure is from the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from huayu.experiments.transfer.arms import ARMS, LITTLE, REFERENCES
from huayu.experiments.transfer.discussion import CLAIMS, VERDICTS, claims
from huayu.experiments.transfer.figures import mean, percent
from huayu.experiments.transfer.talk import SKILLS

SKILL_NAMES = {
    "name": "名称", "background": "背景", "count": "数量", "place": "位置", "yesno": "有无", "category": "类别",
    "list": "列举",
}  # fmt: skip
ASKED = ("en", "zh", "zh shifted")
Say = Callable[[str, str], str]


def text(found: Mapping[str, Any], language: str, picture: str, results: str = "transfer.json") -> str:
    """The whole page as Markdown; ``picture`` and ``results`` are linked from it."""

    def say(en: str, zh: str) -> str:
        return zh if language == "zh" else en

    setting = found["setting"]
    page = files("huayu.experiments.transfer").joinpath(f"report.{language}.md").read_text("utf-8")
    return page.format(
        setting=setting["name"],
        picture=picture,
        results=results,
        things=setting["things"],
        layers=setting["layers"],
        width=setting["width"],
        seeds=found["seeds"],
        sight=f"{found['sight']['thing']:.0%}",
        chance=f"{1 / setting['things']:.0%}",
        little=f"{LITTLE:.0%}",
        texts=setting["text_steps"] * setting["batch"],
        instructions=setting["instruct_steps"] * setting["batch"],
        minutes=f"{found['core_minutes']:.0f}",
        verdicts=_verdicts(found, say),
        arms=_arms(say),
        answers=_answers(found, say),
        skills=_skills(found, say),
        painting=_painting(found, say),
        space=_space(found, say),
        looks=_looks(found, say),
        claims=claims(found, say),
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """Markdown; the first ``words`` columns are of words, the others of figures."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * words + "|---:" * (len(head) - words) + "|", *lines[1:]])


def _verdicts(found: Mapping[str, Any], say: Say) -> str:
    head = (say("published claim", "已发表的论断"), say("here", "本实验"))
    return table(head, [(say(*CLAIMS[c]), f"**{say(*VERDICTS[v])}**") for c, v in found["verdicts"].items()], 2)


def _arms(say: Say) -> str:
    head = (say("arm", "组"), say("trained on", "训练数据"), say("Chinese in pairs", "图文对中的中文"),
            say("Chinese in instructions", "指令中的中文"))  # fmt: skip
    rows = []
    for one in ARMS:
        shares = ("–" if share is None else f"{share:.0%}" for share in (one.pairs, one.instructions))
        rows.append((one.key, say(one.en, one.zh), *shares))
    return table(head, rows, 2)


def _answers(found: Mapping[str, Any], say: Say) -> str:
    head = (
        say("arm", "组"), say("seeds", "种子数"), say("en exact", "英：完全正确"), say("zh exact", "中：完全正确"),
        say("en content", "英：内容"), say("zh content", "中：内容"), say("en in English", "英：用英文"),
        say("zh in Chinese", "中：用中文"), say("not in Chinese, yet right", "未用中文但内容正确"),
    )  # fmt: skip
    rows = []
    for key in (*REFERENCES, *(one.key for one in ARMS)):
        if key not in found["arms"]:
            continue
        one = found["arms"][key]
        en, zh = (one["summary"][language]["all"] for language in ("en", "zh"))
        name = f"*{say(*REFERENCES[key])}*" if key in REFERENCES else key
        cells = [cell[measure] for measure in ("exact", "content", "language") for cell in (en, zh)]
        rows.append((name, str(len(one["seeds"])), *map(percent, (*cells, zh.get("translated")))))
    return table(head, rows)


def _skills(found: Mapping[str, Any], say: Say) -> str:
    rows = []
    for key in [key for key in ("words", *(one.key for one in ARMS)) if key in found["arms"]]:
        summary = found["arms"][key]["summary"]
        chinese = [summary["zh"][skill] for skill in SKILLS]
        rows.append((f"{key} zh", *(f"{mean(cell['content'])} / {mean(cell['language'])}" for cell in chinese)))
        rows.append((f"{key} en", *(mean(summary["en"][skill]["exact"]) for skill in SKILLS)))
    return table((say("arm", "组"), *(say(skill, SKILL_NAMES[skill]) for skill in SKILLS)), rows)


def _painting(found: Mapping[str, Any], say: Say) -> str:
    head = (say("language model", "语言模型"), say("seeds", "种子数"), say("thing, en", "事物，英"),
            say("thing, zh", "事物，中"), say("thing, zh shifted", "事物，中，平移"), say("colour, en", "颜色，英"),
            say("colour, zh", "颜色，中"), say("colour, zh shifted", "颜色，中，平移"))  # fmt: skip
    names = {
        "paint": say("languages joined in text", "文本连接两种语言"),
        "paint-apart": say("never joined", "从不连接"),
    }
    rows = []
    for key, name in names.items():
        if key in found:
            cells = [found[key]["summary"][k][what] for what in ("thing", "ground") for k in ASKED]
            rows.append((name, str(len(found[key]["seeds"])), *map(percent, cells)))
    return table(head, rows)


def _space(found: Mapping[str, Any], say: Say) -> str:
    names = {
        "language": ("languages joined in text", "文本连接两种语言"),
        "language-apart": ("never joined", "从不连接"),
    }
    lines = [(name, found["space"][key]) for key, name in names.items() if found["space"][key]]
    return "\n".join(f"- {say(*name)}: " + " → ".join(f"{mean(f)} %" for f in layers) for name, layers in lines)


def _looks(found: Mapping[str, Any], say: Say) -> str:
    names = {"pairs-en": "a", "pairs-both": say("e, before instructions", "e，指令之前"), "pairs-apart": "apart"}
    rows = [
        (name, percent(found["looks_like"][job]["en"]), percent(found["looks_like"][job]["zh"]))
        for job, name in names.items()
        if job in found["looks_like"]
    ]
    return table((say("arm", "组"), say("English name", "英文名称"), say("Chinese name", "中文名称")), rows)
