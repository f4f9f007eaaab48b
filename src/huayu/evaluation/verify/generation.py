"""Golden cases of generation: the published search and chat, run through the code that answers users."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from huayu.chat.conversation import Turn
from huayu.chat.viscpm import published_context
from huayu.evaluation.verify.arrays import Row, check_rows, short_names, words_of
from huayu.evaluation.verify.cases import Case
from huayu.evaluation.verify.report import Report
from huayu.generation.beam import BeamSearch
from huayu.generation.options import BeamOptions
from huayu.generation.published import ModelStepper, beam_search, sentence_of, special_ids
from huayu.generation.records import BeamProgress
from huayu.models.cpm_bee.packing import PackedItem, pack
from huayu.models.viscpm_chat import published
from huayu.models.viscpm_chat.checkpoint import MAX_PROMPT_TOKENS, PUBLISHED_GENERATION
from huayu.models.viscpm_chat.processing import PLACEHOLDER

_SETTINGS = {"beam_size": "num_beams", "max_length": "max_new_tokens"}


@dataclass
class _Recorder:
    """A stepper that notes what was fed, and the first logits."""

    device: torch.device
    stepper: ModelStepper
    base_ids: list[int]
    keep: int
    fed: list[list[int]] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)

    def step(self, token_ids: Tensor, segment_ids: Tensor, position_ids: Tensor) -> Tensor:
        self.fed.append([self.base_ids[token] for token in token_ids.tolist()])
        logits = self.stepper.step(token_ids, segment_ids, position_ids)
        if len(self.logits) < self.keep:
            self.logits.append(logits)
        return logits

    def reorder(self, parents: Tensor) -> None:
        self.stepper.reorder(parents)


class _Talker:
    """The case's model with its picture."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.model: Any = case.chat_model()
        self.processor: Any = published.processor(self.model.config, case.path("vocab.txt"))
        with torch.inference_mode():
            self.image = self.model.get_image_features(self.processor.pixel_values([case.picture("img0.png")]))

    def prompt(self, texts: dict[str, Any]) -> tuple[PackedItem, dict[str, Tensor]]:
        """Pack context and question as chat does, with the picture's place in front."""
        item = {"image": PLACEHOLDER * self.case.config["query_num"], **texts, "<ans>": ""}
        packed = pack(item, self.case.vocabulary, for_generation=True, max_prompt_tokens=MAX_PROMPT_TOKENS)
        return packed, self.inputs(packed)

    def inputs(self, packed: PackedItem) -> dict[str, Tensor]:
        """What the model reads of a prompt."""
        return {**self.processor.collate([packed], padding="left"), "image_embeds": self.image[None]}

    @torch.inference_mode()
    def prompt_embeds(self, inputs: dict[str, Tensor]) -> Tensor:
        """The prompt's embeddings (1, P, D) with the picture spliced in."""
        embeds = self.model.language_model.model.embed(
            inputs["input_ids"], inputs.get("token_subscripts"), inputs.get("request_vocab")
        )
        return self.model.splice(embeds, inputs["image_embeds"], inputs["image_token_index"])


def generation(case: Case, report: Report) -> None:
    """Every run of ``results.json``, then every turn of ``chat.json`` where there is one."""
    talker = _Talker(case)
    report.close("vision_hidden_states", talker.image, case.take("vision_hidden_states"), case.tolerance)
    for number, run in enumerate(case.json("results.json")):
        _check_run(talker, report, f"run{number}.", run)
    if (case.folder / "chat.json").is_file():
        _check_chat(talker, report)


@torch.inference_mode()
def _check_run(talker: _Talker, report: Report, prefix: str, run: dict[str, Any]) -> None:
    case = talker.case
    packed, inputs = talker.prompt(run["prompt"])
    arrays = short_names(case.tensors, f"{prefix}in.", case)
    check_rows(report, [Row().add(packed)], arrays, f"{prefix}in.")
    report.exact(f"{prefix}in.ext_table", packed.request_vocab, words_of(arrays))
    report.exact(f"{prefix}ext_table", {str(key): text for key, text in packed.answer_words.items()}, run["ext_table"])
    report.close(
        f"{prefix}prompt_embeds", talker.prompt_embeds(inputs), case.take(f"{prefix}prompt_embeds"), case.tolerance
    )
    _check_search(talker, report, prefix, run, packed, inputs)
    _check_greedy(talker, report, prefix, run, packed, inputs)


def _check_search(
    talker: _Talker, report: Report, prefix: str, run: dict[str, Any], packed: PackedItem, inputs: dict[str, Tensor]
) -> None:
    case, vocabulary = talker.case, talker.case.vocabulary
    options = BeamOptions(**{_SETTINGS.get(name, name): value for name, value in run["settings"].items()})
    first_logits = case.take(f"{prefix}first_step_logits")
    special = special_ids(talker.model.config)
    base_ids = [*range(len(vocabulary)), *(base for base, _ in packed.request_vocab)]
    stepper = ModelStepper(talker.model, inputs, options.num_beams, options.max_new_tokens + 2)
    recorder = _Recorder(stepper.device, stepper, base_ids, len(first_logits))
    last = _last(BeamSearch(recorder, [sentence_of(packed, special.unk)], special, options))
    (result,) = last.results or ()
    best = result.hypotheses[0]
    text = vocabulary.decode(result.token_ids, packed.answer_words)
    report.close(f"{prefix}first_step_logits", torch.stack(recorder.logits), first_logits, case.tolerance)
    report.exact(f"{prefix}step_tokens", recorder.fed, case.take(f"{prefix}step_tokens"))
    report.exact(f"{prefix}token_ids", list(best.token_ids), run["token_ids"])
    report.exact(f"{prefix}ans_ids", [number for _, number in best.path], run["ans_ids"])
    report.exact(f"{prefix}answer", text, run["answer"])
    report.exact(f"{prefix}item", {**run["prompt"], "<ans>": text}, run["item"])
    ours, theirs = result.hypotheses, sorted(run["hypotheses"], key=lambda hypothesis: -hypothesis["score"])
    report.exact(f"{prefix}hypotheses", [list(h.token_ids) for h in ours], [h["tokens"] for h in theirs])
    scores, recorded = torch.tensor([h.score for h in ours]), torch.tensor([h["score"] for h in theirs])
    report.close(f"{prefix}scores", scores, recorded, case.tolerance)
    report.exact(f"{prefix}n_forward", last.num_steps + 1, run["n_forward"])


def _check_greedy(
    talker: _Talker, report: Report, prefix: str, run: dict[str, Any], packed: PackedItem, inputs: dict[str, Tensor]
) -> None:
    """Plain arg-max: nothing masked or penalised, ``max_length + 1`` tokens at most."""
    special = special_ids(talker.model.config)
    steps = run["settings"]["max_length"] + 1
    stepper = ModelStepper(talker.model, inputs, 1, steps)
    segment = torch.tensor([packed.predict_segments[0][0]])
    token, tokens, gaps = torch.tensor([special.bos]), [], []
    for step in range(steps):
        best, ids = stepper.step(token, segment, torch.tensor([step]))[0].topk(2)
        token = ids[:1]
        tokens.append(int(token))
        gaps.append(float(best[0] - best[1]))
        if tokens[-1] == special.eos:
            break
    shown = tokens[:-1] if tokens[-1] == special.eos else tokens
    report.exact(f"{prefix}greedy_token_ids", tokens, run["greedy_token_ids"])
    report.exact(f"{prefix}greedy_text", talker.case.vocabulary.decode(shown, packed.answer_words), run["greedy_text"])
    report.close(f"{prefix}greedy_min_gap", min(gaps), run["greedy_min_gap"], talker.case.tolerance)


def _check_chat(talker: _Talker, report: Report) -> None:
    """Turns with the published settings, each in the context of those before."""
    options, vocabulary = BeamOptions(**PUBLISHED_GENERATION), talker.case.vocabulary
    turns: list[Turn] = []
    for number, recorded in enumerate(talker.case.json("chat.json")):
        context, question = published_context(turns), recorded["question"]
        packed = talker.processor.pack_chat(1, context, question, max_prompt_tokens=MAX_PROMPT_TOKENS)
        last = _last(beam_search(talker.model, talker.inputs(packed), [packed], options, vocabulary=vocabulary))
        (result,) = last.results or ()
        turns.append(Turn(question, result.text or "", ""))
        report.exact(f"chat{number}.context_in", context, recorded["context_in"])
        report.exact(f"chat{number}.token_ids", list(result.hypotheses[0].token_ids), recorded["token_ids"])
        report.exact(f"chat{number}.answer", result.text, recorded["answer"])
        report.exact(f"chat{number}.context_out", published_context(turns), recorded["context_out"])


def _last(search: Iterable[BeamProgress]) -> BeamProgress:
    *_, last = search
    return last
