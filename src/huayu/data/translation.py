"""Texts put into the other language: by a model of Hugging Face, one behind an endpoint, or a table of phrases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from huayu.checkpoints.find import locate, read_config
from huayu.checkpoints.library import from_folder
from huayu.errors import ModelError, OptionError, PromptError
from huayu.runtime.device import pick_device
from huayu.runtime.memory import guarded
from huayu.runtime.packages import require

INSTRUCTIONS = {
    "zh": "把下面的文字翻译成中文，只输出译文。\n\n{text}",
    "en": "Translate the following into English. Give the translation only.\n\n{text}",
}
# How models that know many languages name the two, the best name first.
_CODES = {"zh": ("zho_Hans", "zh_CN", "zh"), "en": ("eng_Latn", "en_XX", "en")}
_PREFIXES = {"zh": (">>cmn_Hans<<", ">>zho_Hans<<", ">>cmn<<", ">>zho<<"), "en": (">>eng<<",)}


class Translator(Protocol):
    """``name`` stands beside what it translated."""

    name: str

    def __call__(self, texts: Sequence[str], to: str) -> list[str]:
        """One text for each, in "zh" or "en". Raises PromptError for what it cannot translate."""
        ...


def open_translator(source: str, *, model: str | None = None, device: Any = None) -> Translator:
    """``source``: a ``.tsv`` table, the URL of an OpenAI-style endpoint (then ``model`` there), or a model's name.

    Raises OptionError, ModelError, CheckpointError.
    """
    if source.startswith(("http://", "https://")):
        if not model:
            raise OptionError("An endpoint needs the name of a model.", "使用接口时需给出模型名。")
        return EndpointTranslator(source, model)
    if model:
        raise OptionError("A model's name is for an endpoint.", "模型名只用于接口。")
    return PhraseTable(source) if source.endswith(".tsv") else ModelTranslator(source, device=device)


class PhraseTable:
    """A file of English and Chinese, a tab between them, a phrase a line; read in both directions.

    Raises OptionError for a file that is none.
    """

    def __init__(self, file: str | Path) -> None:
        path = Path(file)
        try:
            lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
            pairs: list[Any] = [[cell.strip() for cell in line.split("\t")] for line in lines]
            self.phrases = {"zh": dict(pairs), "en": {zh: en for en, zh in pairs}}
        except (OSError, ValueError) as problem:
            raise OptionError(
                f"{path} is no table of two columns: {problem}", f"{path} 不是两列的表：{problem}"
            ) from problem
        self.name = path.name

    def __call__(self, texts: Sequence[str], to: str) -> list[str]:
        found: Mapping[str, str] = self.phrases[to]
        if missing := next((text for text in texts if text.strip() not in found), None):
            raise PromptError(f"{self.name} has no {missing!r}.", f"{self.name} 中没有 {missing!r}。")
        return [found[text.strip()] for text in texts]


class EndpointTranslator:
    """A chat model behind an OpenAI-style endpoint; the key is OPENAI_API_KEY's. Needs the extra ``translate``."""

    def __init__(self, url: str, model: str) -> None:
        require("openai", "translate")
        import os

        from openai import OpenAI

        self.name, self.model = model, model
        self.client = OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY") or "none", max_retries=5)

    def __call__(self, texts: Sequence[str], to: str) -> list[str]:
        return [self._one(text, to) for text in texts]

    def _one(self, text: str, to: str) -> str:
        from openai import BadRequestError, OpenAIError

        said: Any = [{"role": "user", "content": INSTRUCTIONS[to].format(text=text)}]
        try:
            reply = self.client.chat.completions.create(model=self.model, messages=said, temperature=0)
        except BadRequestError as problem:
            raise PromptError(f"{self.name}: {problem}", f"{self.name}：{problem}") from problem
        except OpenAIError as problem:
            raise ModelError(f"{self.name}: {problem}", f"{self.name}：{problem}") from problem
        return (reply.choices[0].message.content or "").strip()


class ModelTranslator:
    """A sequence-to-sequence model (Marian, M2M100, NLLB, T5, …) or a language model that follows instructions.

    ``source``: folder or hub id. Greedy; no more than twice as many tokens as came, and a few. Raises CheckpointError.
    """

    def __init__(self, source: str | Path, *, device: Any = None) -> None:
        found = locate(source, kind="translator")
        self.name = found.path.name if Path(source).exists() else found.name
        self.paired = bool((read_config(found.folder) or {}).get("is_encoder_decoder"))
        self.tokenizer: Any = from_folder("AutoTokenizer", found.path)
        kind = "AutoModelForSeq2SeqLM" if self.paired else "AutoModelForCausalLM"
        self.model: Any = from_folder(kind, found.path).to(pick_device(device))
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def __call__(self, texts: Sequence[str], to: str) -> list[str]:
        import torch

        with torch.inference_mode(), guarded():
            given, options = self._paired(texts, to) if self.paired else (self._instructed(texts, to), {})
            inputs = given.to(self.model.device)
            length = inputs["input_ids"].shape[1]
            made = self.model.generate(
                **inputs, **options, do_sample=False, num_beams=1, max_new_tokens=2 * length + 16
            )
        fresh = made if self.paired else made[:, length:]
        return [text.strip() for text in self.tokenizer.batch_decode(fresh, skip_special_tokens=True)]

    def _paired(self, texts: Sequence[str], to: str) -> tuple[Any, dict[str, Any]]:
        """Models of many languages are told both, in whichever way they know."""
        known = getattr(self.tokenizer, "supported_language_codes", None) or ()
        prefix = next((f"{name} " for name in _PREFIXES[to] if name in known), "")
        options: dict[str, Any] = {}
        if hasattr(self.tokenizer, "src_lang"):
            self.tokenizer.src_lang = self._code("en" if to == "zh" else "zh")[0]
            options["forced_bos_token_id"] = self._code(to)[1]
        return self.tokenizer([prefix + text for text in texts], return_tensors="pt", padding=True), options

    def _code(self, language: str) -> tuple[str, int]:
        vocabulary = self.tokenizer.get_vocab()
        for name in _CODES[language]:
            if (number := vocabulary.get(name, vocabulary.get(f"__{name}__"))) is not None:
                return name, number
        raise ModelError(f"{self.name} does not know {language}.", f"{self.name} 不支持语言 {language}。")

    def _instructed(self, texts: Sequence[str], to: str) -> Any:
        wishes = [INSTRUCTIONS[to].format(text=text) for text in texts]
        self.tokenizer.padding_side = "left"
        if self.tokenizer.chat_template:
            said = [[{"role": "user", "content": wish}] for wish in wishes]
            return self.tokenizer.apply_chat_template(
                said, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
            )
        return self.tokenizer([f"{wish}\n\n" for wish in wishes], return_tensors="pt", padding=True)
