"""The claims one by one: what was claimed, what was found, and the verdict by the rule that was set beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from huayu.experiments.transfer.figures import Figure, percent
from huayu.experiments.transfer.statistics import MOSTLY, NEARLY

Say = Callable[[str, str], str]
VERDICTS = {
    "confirmed": ("confirmed", "得到证实"),
    "partly": ("partly confirmed", "部分得到证实"),
    "open": ("left open: seeds too few or too unlike", "尚无定论：种子太少或相差过大"),
    "refuted": ("refuted", "被推翻"),
}
CLAIMS = {
    "understands": (
        "Sight learned from English pairs alone understands Chinese questions",
        "只用英文图文对学会的“看”，听得懂中文提问",
    ),
    "speaks": (
        "After English instructions Chinese questions are answered in English, until a little Chinese is added",
        "只学英文指令后，中文提问得到英文回答；加入少量中文指令才改过来",
    ),
    "speaks+": ("The same, where the language model is tuned harder (b+, c+)", "同上，语言模型调得更多时（b+、c+）"),
    "paints": (
        "Trained on English captions alone, it paints from Chinese prompts",
        "只用英文提示训练，也能按中文提示作画",
    ),
}


def claims(found: Mapping[str, Any], say: Say) -> str:
    """A paragraph for each claim that has a verdict."""
    parts = {"understands": _understands, "speaks": _speaks, "speaks+": _tuned_harder, "paints": _paints}
    return "\n\n".join(
        say("**{}. {}: {}.** {}", "**{}. {}：{}。** {}").format(
            number, say(*CLAIMS[claim]), say(*VERDICTS[verdict]), parts[claim](found, say)
        )
        for number, (claim, verdict) in enumerate(found["verdicts"].items(), 1)
    )


def _all(found: Mapping[str, Any], arm: str, language: str, measure: str) -> Figure:
    figure: Figure = found["arms"][arm]["summary"][language]["all"][measure]
    return figure


def _understands(found: Mapping[str, Any], say: Say) -> str:
    zh, en, blind = (
        percent(_all(found, *where, "content")) for where in (("a", "zh"), ("a", "en"), ("blind", "zh"))
    )  # fmt: skip
    said = say(
        f"The eye of arm a met no Chinese character in its pairs. Asked in Chinese, {zh} per cent of its answers are "
        f"right in content; asked in English, {en}; before any pair, {blind}. Rule: Chinese above blind by the "
        f"intervals, and at least {NEARLY:.0%} of English.",
        f"a 组的眼睛在图文对中没有见过一个汉字。用中文提问，{zh}% 的回答内容正确；"
        f"用英文提问，{en}%；未学图文对之前，{blind}%。判据：中文的区间高于“未看”，且不低于英文的 {NEARLY:.0%}。",
    )
    if "apart" not in found["arms"]:
        return said
    apart, apart_en = (_all(found, "apart", language, "content") for language in ("zh", "en"))
    most = apart["mean" if apart.get("n") == 1 else "high"]
    bridged = most < _all(found, "a", "zh", "content")["low"]
    figures = say(
        " Where it comes from: with a language model whose texts never join the languages, the same pairs give "
        f"{percent(apart)} in Chinese and {percent(apart_en)} in English. ",
        "来由：若语言模型的文本从不把两种语言连起来，"
        f"同样的图文对只得中文 {percent(apart)}%、英文 {percent(apart_en)}%。",
    )
    if bridged:
        return said + figures + say(
            "It is text that joins the languages which carries sight over.", "把“看”带过去的，正是连接两种语言的文本。"
        )  # fmt: skip
    return said + figures + say("Text that joins the languages is not needed here.", "这里并不需要连接两种语言的文本。")


def _speaks(found: Mapping[str, Any], say: Say) -> str:
    speaks = {arm: percent(_all(found, arm, "zh", "language")) for arm in ("a", "b", "c", "d")}
    right = {arm: percent(_all(found, arm, "zh", "content")) for arm in ("a", "b", "c")}
    english = percent(_all(found, "b", "en", "content"))
    said = say(
        "Chinese questions answered in Chinese, per cent: " + _listed(speaks) + ". Rule: c above b by the intervals; b "
        f"under a half, and c at least {MOSTLY:.0%}. Right in content, in whatever language: "
        + _listed(right)
        + f"; English questions of b {english}.",
        "中文提问以中文回答的比例（%）：" + _listed(speaks, "，") + "。判据：c 的区间高于 b；b 低于一半，"
        f"c 不低于 {MOSTLY:.0%}。内容正确，不论语言（%）：" + _listed(right, "，") + f"；b 的英文提问 {english}。",
    )
    b, c = (found["arms"][arm]["seeds"] for arm in "bc")
    if all(c[seed]["zh"]["all"]["content"] > b[seed]["zh"]["all"]["content"] for seed in c.keys() & b.keys()):
        said += say(
            " So what a little Chinese mends here is above all what is said.",
            "可见少量中文在这里首先改善的是回答的内容。",
        )
    return said


def _tuned_harder(found: Mapping[str, Any], say: Say) -> str:
    keys = ("b+", "c+")
    speaks = {key: percent(_all(found, key, "zh", "language")) for key in keys}
    right = {key: percent(_all(found, key, "zh", "content")) for key in keys}
    english = {key: percent(_all(found, key, "en", "content")) for key in keys}
    return say(
        "With twice the steps and the language model at its full rate, answered in Chinese: "
        + _listed(speaks)
        + "; right in content: "
        + _listed(right)
        + "; English questions right: "
        + _listed(english)
        + ". The rule is the same.",
        "步数加倍、语言模型用全学习率时，以中文回答："
        + _listed(speaks, "，")
        + "；内容正确："
        + _listed(right, "，")
        + "；英文提问内容正确："
        + _listed(english, "，")
        + "。判据相同。",
    ) + _forgotten(found, say)


def _forgotten(found: Mapping[str, Any], say: Say) -> str:
    """Whether what is lost with the language is the understanding too."""
    b, start = (_all(found, arm, "zh", "content") for arm in ("b+", "a"))
    if b["mean"] > NEARLY * start["mean"]:
        return say(
            " What is lost is the language of the answer, not the understanding.", "丢失的是回答的语言，而不是理解。"
        )
    return say(
        " More than the language of the answer is lost: the model no longer tells what a Chinese question asks.",
        "丢失的不只是回答的语言：模型已分不清中文问题在问什么。",
    )


def _listed(shares: Mapping[str, str], mark: str = ", ") -> str:
    return mark.join(f"{arm} {share}" for arm, share in shares.items())


def _paints(found: Mapping[str, Any], say: Say) -> str:
    summary = found["paint"]["summary"]
    en, zh, shifted = (percent(summary[asked]["thing"]) for asked in ("en", "zh", "zh shifted"))
    each = ", ".join(f"{100 * seed['zh']['thing']:.0f}" for seed in found["paint"]["seeds"].values())
    said = say(
        f"Of Chinese prompts {zh} per cent are recognised (seed by seed: {each}), of English ones {en}. Rule: Chinese "
        f"above chance by its interval, and at least {NEARLY:.0%} of English. A painter reads the states of the "
        "language model and not its answers. Moving the states of Chinese prompts by the difference between the two "
        f"languages' means, and nothing else, gives {shifted}",
        f"中文提示被认出 {zh}%（各种子：{each}），英文提示 {en}%。"
        f"判据：中文的区间高于随机，且不低于英文的 {NEARLY:.0%}。"
        f"绘画读的是语言模型的状态，不是它的回答。仅把中文提示的状态平移两种语言均值之差，就得 {shifted}%",
    )
    if summary["zh shifted"]["thing"]["low"] > summary["zh"]["thing"]["high"]:
        said += say(
            ": the two languages lie side by side in its space, a step apart, and the painter never learned that step.",
            "：两种语言在其空间中并排而立，相隔一步，而绘画从未学过这一步。",
        )
    else:
        said += say(
            ": where the languages differ in its space is more than one step.", "：两种语言在其空间中的差别不只一步。"
        )
    if "paint-apart" not in found:
        return said
    apart = percent(found["paint-apart"]["summary"]["zh"]["thing"])
    return said + say(f" With languages never joined in text: {apart}.", f"若文本从不连接两种语言：{apart}%。")
