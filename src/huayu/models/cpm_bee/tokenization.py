"""The vocabulary as an ordinary Hugging Face tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizer

from huayu.models.cpm_bee.vocabulary import BeeVocabulary


class CpmBeeTokenizer(PreTrainedTokenizer):
    """Plain texts ⇄ ids with CPM-Bee's rules; nothing is added, normalised or stripped.

    Unknown text gives ``<unk>`` here: words of the request's own need :func:`huayu.models.cpm_bee.packing.pack`,
    which uses ``tokenizer.vocabulary``. Raises ValueError for a single ``<`` (see ``escape``); decoding does not
    double it.
    """

    vocab_files_names = {"vocab_file": "vocab.txt"}
    model_input_names = ["input_ids", "attention_mask"]
    padding_side = "left"

    def __init__(self, vocab_file: str, **kwargs: Any) -> None:
        self.vocabulary = BeeVocabulary.from_file(vocab_file)
        names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
        super().__init__(**{**names, **kwargs})

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    def get_vocab(self) -> dict[str, int]:
        return {**self.vocabulary.ids, **self.added_tokens_encoder}

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return [piece.text for piece in self.vocabulary.pieces(text)]

    def _convert_token_to_id(self, token: str) -> int:
        return self.vocabulary.ids.get(token, self.vocabulary.ids["<unk>"])

    def _convert_id_to_token(self, index: int) -> str:
        return self.vocabulary.tokens[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        return token_ids_0 + (token_ids_1 or [])

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        name = (f"{filename_prefix}-" if filename_prefix else "") + "vocab.txt"
        path = Path(save_directory) / name
        path.write_text("\n".join(self.vocabulary.lines()), encoding="utf-8", newline="\n")
        return (str(path),)
