"""The arguments of ``huayu chat``; the work is in :mod:`huayu.cli.chat`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from huayu.cli.common import AsJson, Device, Dtype, Vocab
from huayu.errors import OptionError

_MODEL = "Name, folder, file or hub id · 模型名、文件夹、文件或 hub id"


def chat(
    picture: Annotated[str | None, typer.Argument(help="Path or URL · 图片路径或网址")] = None,
    question: Annotated[str | None, typer.Argument(help="Asked first · 第一个问题")] = None,
    model: Annotated[str | None, typer.Option("--model", "--from-pretrained", help=_MODEL)] = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Annotated[str | None, typer.Option("--quantize", "--quant", help="int8 (8), int4 (4) · 量化")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Faster after a slow start · 编译，先慢后快")] = False,
    vocab: Vocab = None,
    more: Annotated[list[str] | None, typer.Option("--picture", help="One more picture · 再加一张图片")] = None,
    search: Annotated[str | None, typer.Option(help="beam, greedy, sample · 搜索方式")] = None,
    beams: Annotated[int | None, typer.Option(help="Beams of the search · 束宽")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy · 温度，0 为贪心")] = None,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k likeliest · 前 k 个")] = None,
    top_p: Annotated[float | None, typer.Option(help="Sample from this share · 累积概率")] = None,
    min_p: Annotated[float | None, typer.Option(help="Least share of the likeliest · 相对最小概率")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1: less repetition · 重复惩罚")] = None,
    length_penalty: Annotated[float | None, typer.Option(help="Of beams; above 0: longer · 长度惩罚")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer · 答案最大长度")] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest prompt and answer · 提示与答案总长度")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same sample · 随机种子")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End the answer before this · 遇此文本即止")] = None,
    lang: Annotated[str, typer.Option(help="auto, zh, en: of the answer · 答案语言")] = "auto",
    english: Annotated[bool, typer.Option("--english", help="The same as --lang en · 同 --lang en")] = False,
    prompt_zh: Annotated[str | None, typer.Option(help="First question when none is given · 默认首问")] = None,
    prompt_en: Annotated[str | None, typer.Option(help="The same, with --english · 同上，用于 --english")] = None,
    tiles: Annotated[int | None, typer.Option(help="2 … 6: look at overlapping parts, too · 分块细看")] = None,
    ocr: Annotated[bool, typer.Option("--ocr", help="Read the text in it for the model · 识别图中文字")] = False,
    second_look: Annotated[bool, typer.Option("--second-look", help="Ask about each thing again · 再看一眼")] = False,
    image_size: Annotated[int | None, typer.Option(help="Read pictures larger · 以更大尺寸读图")] = None,
    safety: Annotated[str, typer.Option(help="off, block, blur, allow · 安全检查")] = "off",
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Answers only · 只输出答案")] = False,
) -> None:
    """Talk about a picture · 看图说话

    `huayu chat photo.jpg "图里有什么？"`. In a terminal it goes on asking: `clear` forgets, `stop` ends.
    From a pipe it answers each line.
    """
    from huayu.chat.options import ChatOptions
    from huayu.cli import chat as command

    lang = _language(lang, english)
    question = _first(question, lang, prompt_zh, prompt_en)
    # ChatOptions itself checks what came from the command line.
    given: dict[str, Any] = {
        "search": search, "num_beams": beams, "temperature": temperature, "top_k": top_k, "top_p": top_p,
        "min_p": min_p, "repetition_penalty": repetition_penalty, "length_penalty": length_penalty,
        "max_new_tokens": max_new_tokens, "seed": seed, "stop": tuple(stop or ()), "answer_language": lang,
        "max_length": max_length, "tiles": tiles, "ocr": ocr, "second_look": second_look,
    }  # fmt: skip
    options = ChatOptions(**given)
    loading = {
        "device": device,
        "dtype": dtype,
        "quantize": quantize,
        "vocab": vocab,
        "safety": safety,
        "image_size": image_size,
        "compile": compile,
    }
    pictures = [source for source in (picture, *(more or ())) if source]
    command.run(pictures, question, model, loading, options, as_json=as_json, quiet=quiet)


def _language(lang: str, english: bool) -> str:
    if english and lang not in ("auto", "en"):
        raise OptionError(
            f"--english and --lang {lang} exclude each other.", f"--english 与 --lang {lang} 不能同时使用。"
        )
    return "en" if english else lang


def _first(question: str | None, lang: str, prompt_zh: str | None, prompt_en: str | None) -> str | None:
    """What is asked first. Raises OptionError for a prompt that would not be."""
    if prompt_zh is not None and lang == "en":
        raise OptionError("--prompt-zh has no effect with --english.", "--prompt-zh 与 --english 同用时无效。")
    if prompt_en is not None and lang != "en":
        raise OptionError("--prompt-en has no effect without --english.", "--prompt-en 只在使用 --english 时有效。")
    prompt = prompt_zh if prompt_en is None else prompt_en
    if question is not None and prompt is not None:
        name = "--prompt-zh" if prompt_en is None else "--prompt-en"
        raise OptionError(f"{name} has no effect: a question is given.", f"{name} 无效：已经给出了问题。")
    return question if prompt is None else prompt
