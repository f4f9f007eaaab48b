"""The SentencePiece vocabulary of ChatGLM-6B as a Hugging Face tokenizer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from transformers import PreTrainedTokenizer

LONGEST_BLANK = 80
_SPECIAL = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<sop>",
    "eos_token": "<eop>",
    "mask_token": "[MASK]",
}
_SPELLED = re.compile(rf"\n|\t| {{2,{LONGEST_BLANK}}}")
_PIECES = re.compile(r"<n>|<\|tab\|>|<\|blank_(\d+)\|>")


class ChatGLMTokenizer(PreTrainedTokenizer):
    """Texts ⇄ ids by the published rules: newline, tab and runs of spaces are pieces of their own.

    With special tokens added a text is ``text [gMASK] <sop>``, a pair ``text [gMASK] <sop> pair <eop>``. Padding is on
    the left; where something is padded, ``attention_mask`` and ``position_ids`` (2, T) are returned too. What a user
    types stays text: ``strict`` reads ``<sop>``, ``<eop>``, ``[MASK]``, ``<pad>`` and ``<unk>`` in it as those tokens,
    as the published code did. Decoding leaves out padding and ids beyond the vocabulary, and as published takes the
    space before ``. , ? !`` (``clean_up_tokenization_spaces=False`` keeps it).

    Raises ValueError for ``num_image_tokens`` above 0: the vocabulary of the first ChatGLM-6B.

    Source: spec visualglm §5.
    """

    vocab_files_names = {"vocab_file": "ice_text.model"}
    model_input_names = ["input_ids", "position_ids"]
    padding_side = "left"

    def __init__(
        self,
        vocab_file: str,
        *,
        strict: bool = False,
        num_image_tokens: int = 0,
        remove_space: bool = False,
        do_lower_case: bool = False,
        gmask_token: str = "[gMASK]",
        end_token: str = "</s>",
        **kwargs: Any,
    ) -> None:
        if num_image_tokens:
            raise ValueError(f"num_image_tokens is {num_image_tokens}; only vocabularies without image tokens are read")
        self.pieces = SentencePieceProcessor(model_file=str(vocab_file))
        self.strict, self.remove_space, self.do_lower_case = strict, remove_space, do_lower_case
        self.gmask_token_id, self.end_token_id = self._known(gmask_token), self._known(end_token)
        own: dict[str, Any] = {"strict": strict, "remove_space": remove_space, "do_lower_case": do_lower_case}
        own |= {"gmask_token": gmask_token, "end_token": end_token}
        super().__init__(**{"clean_up_tokenization_spaces": True, **_SPECIAL, **kwargs})
        self.init_kwargs |= own

    def _known(self, piece: str) -> int:
        index: int = self.pieces.piece_to_id(piece)
        if index == self.pieces.unk_id():
            raise ValueError(f"the vocabulary has no {piece}: it is not that of ChatGLM-6B")
        return index

    @property
    def vocab_size(self) -> int:
        return int(self.pieces.vocab_size())

    def get_vocab(self) -> dict[str, int]:
        known = {self.pieces.id_to_piece(index): index for index in range(self.vocab_size)}
        return {**known, **self.added_tokens_encoder}

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """Pieces of ``text``; ``strict`` as given to the tokenizer unless named here."""
        if not kwargs.get("strict", self.strict):
            return self._cut(text)
        found: list[str] = []
        parts = re.split(f"({'|'.join(re.escape(getattr(self, name)) for name in _SPECIAL)})", text)
        for number, part in enumerate(parts):
            if number % 2:
                found.append(part)
                continue
            part = part.lstrip() if number else part
            part = part.rstrip() if number + 1 < len(parts) else part
            found += self._cut(part) if part else []
        return found

    def _cut(self, text: str) -> list[str]:
        text = " ".join(text.split()) if self.remove_space else text
        text = text.lower() if self.do_lower_case else text
        pieces: list[str] = self.pieces.encode(_SPELLED.sub(_piece_of, text), out_type=str)
        return pieces

    def as_bytes(self) -> tuple[list[bytes], set[int]]:
        """What each id adds to a text, and the ids that add nothing."""
        pieces, special = self.pieces, set(self.all_special_ids) | {self.gmask_token_id, self.end_token_id}
        tokens = []
        for index in range(self.vocab_size):
            piece = pieces.id_to_piece(index)
            if pieces.is_control(index) or pieces.is_unknown(index) or pieces.is_unused(index):
                special.add(index)
            if pieces.is_byte(index):
                tokens.append(bytes([int(piece[3:5], 16)]))
            else:
                tokens.append(_PIECES.sub(_spelled, piece.replace("\u2581", " ")).encode())
        return tokens, special

    def _convert_token_to_id(self, token: str) -> int:
        return int(self.pieces.piece_to_id(token))

    def _convert_id_to_token(self, index: int) -> str:
        return str(self.pieces.id_to_piece(index))

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        text: str = self.pieces.decode([self._convert_token_to_id(token) for token in tokens])
        return _PIECES.sub(_spelled, text)

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **kwargs: Any,
    ) -> str:
        left_out = set(self.all_special_ids) if skip_special_tokens else {self.pad_token_id}
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        known = [int(i) for i in ids if i not in left_out and 0 <= i < self.vocab_size]
        text = _PIECES.sub(_spelled, self.pieces.decode(known)) if known else ""
        clean = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        return self.clean_up_tokenization(text) if clean else text

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        prompt = [*token_ids_0, self.gmask_token_id, self.bos_token_id]
        return prompt if token_ids_1 is None else [*prompt, *token_ids_1, self.eos_token_id]

    def position_rows(self, ids: list[int]) -> list[list[int]]:
        """Both position numbers, (2, T), of ids without padding; all is context when there is no ``<sop>``."""
        tokens = len(ids)
        start = ids.index(self.bos_token_id) if self.bos_token_id in ids else tokens
        masks = [token for token in (self.gmask_token_id, self.mask_token_id) if token in ids]
        held = ids.index(masks[0]) if masks else start
        return [
            [*range(start), *[held] * (tokens - start)],
            [*[0] * start, *range(1, tokens - start + 1)],
        ]

    def _pad(self, encoded_inputs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        names = ("max_length", "padding_strategy", "pad_to_multiple_of", "padding_side", "return_attention_mask")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if str(given.get("padding_strategy", "do_not_pad")) in ("do_not_pad", "PaddingStrategy.DO_NOT_PAD"):
            return super()._pad(encoded_inputs, **given)
        ids = list(encoded_inputs["input_ids"])
        rows = encoded_inputs.get("position_ids") or self.position_rows(ids)
        padded = super()._pad(encoded_inputs, **{**given, "return_attention_mask": True})
        zeros = [0] * (len(padded["input_ids"]) - len(ids))
        left = (given.get("padding_side") or self.padding_side) == "left"
        padded["position_ids"] = [[*zeros, *row] if left else [*row, *zeros] for row in rows]
        return padded

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        name = (f"{filename_prefix}-" if filename_prefix else "") + self.vocab_files_names["vocab_file"]
        path = Path(save_directory) / name
        path.write_bytes(self.pieces.serialized_model_proto())
        return (str(path),)


def _piece_of(found: re.Match[str]) -> str:
    return {"\n": "<n>", "\t": "<|tab|>"}.get(found[0]) or f"<|blank_{len(found[0])}|>"


def _spelled(found: re.Match[str]) -> str:
    return " " * int(found[1]) if found[1] else {"<n>": "\n", "<|tab|>": "\t"}[found[0]]
