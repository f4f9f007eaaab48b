"""The published beam search, step by step, against anything that can feed tokens and return logits.

S sentences, B beams per sentence, R = S × B rows, V vocabulary, W = V + request words of the batch.
Source: viscpm specification, section 4 (letters a to h in comments are its steps).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from huayu.errors import Cancelled
from huayu.generation.hypotheses import Hypotheses, Path
from huayu.generation.options import BeamOptions
from huayu.generation.records import BeamProgress, BeamResult, Sentence, SpecialIds, Stepper
from huayu.generation.scores import best_candidates, mask_logits, penalize_repetition


@dataclass(frozen=True)
class Beam:
    """A live beam: the tokens chosen so far, their summed log probability, and what it feeds next."""

    path: Path = ()
    score: float = 0.0
    answer: int = 0
    token: int = 0
    segment: int = 0
    position: int = 0
    row: int = 0


@dataclass
class _Track:
    """One sentence during the search."""

    sentence: Sentence
    beams: list[Beam]
    closed: Hypotheses
    done: bool = False
    stable: list[int] = field(default_factory=list)

    def settle(self, eos: int) -> None:
        """Extend ``stable`` by what all live beams and the best closed answer agree on."""
        best = self.closed.best
        if self.done and best:
            self.stable = list(_without_eos(best.path, eos)[0])
            return
        paths = [beam.path for beam in self.beams] + ([best.path] if best else [])
        shortest = min(map(len, paths))
        while (at := len(self.stable)) < shortest and all(path[at] == paths[0][at] for path in paths):
            self.stable.append(paths[0][at][0])


def _without_eos(path: Path, eos: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids and answer numbers of a closed answer, less its trailing eos."""
    kept = path[:-1] if path and path[-1][0] == eos else path
    return tuple(token for token, _ in kept), tuple(number for _, number in kept)


class BeamSearch:
    """A running search; iterate over it. Raises Cancelled when ``cancel`` is set before a step."""

    def __init__(
        self,
        stepper: Stepper,
        sentences: Sequence[Sentence],
        special: SpecialIds,
        options: BeamOptions,
        cancel: threading.Event | None = None,
    ) -> None:
        self.stepper, self.special, self.options, self.cancel = stepper, special, options, cancel
        self.last_step = options.max_new_tokens + 1
        self.num_steps = 0
        self.tracks = [self._start(index, sentence) for index, sentence in enumerate(sentences)]
        rows = len(self.tracks) * options.num_beams
        self.fed = torch.zeros(rows, self.last_step + 1, dtype=torch.long, device=stepper.device)
        self.forbidden: tuple[Tensor, Tensor] | None = None

    def __iter__(self) -> Iterator[BeamProgress]:
        for step in range(self.last_step + 1):
            if self.cancel is not None and self.cancel.is_set():
                raise Cancelled
            if not self._advance(step):
                break
            yield self._progress()
        for track in self.tracks:
            track.done = True
            track.settle(self.special.eos)
        yield replace(self._progress(), results=tuple(map(self._result, self.tracks)))

    def _start(self, index: int, sentence: Sentence) -> _Track:
        """The beams of a sentence before step 0; all but the first are out of the running until it has split."""
        first = Beam(token=self.special.bos, segment=sentence.answers[0][0], row=index * self.options.num_beams)
        others = [replace(first, score=-1e9, row=first.row + beam) for beam in range(1, self.options.num_beams)]
        return _Track(sentence, [first, *others], Hypotheses(self.options.num_beams, self.options.length_penalty))

    @torch.inference_mode()
    def _advance(self, step: int) -> bool:
        """One step for all sentences; False when all were done, which is only seen after feeding (3a)."""
        beams = [beam for track in self.tracks for beam in track.beams]
        logits = self._feed(beams, step)
        if all(track.done for track in self.tracks):
            return False
        logits = mask_logits(logits, *self._forbidden(logits.shape[1]))
        window = self.options.repetition_window or step + 1
        logits = penalize_repetition(
            logits, self.fed[:, max(0, step + 1 - window) : step + 1], self.options.repetition_penalty
        )
        scores = torch.tensor(
            [beam.score for beam in beams],
            dtype=torch.promote_types(logits.dtype, torch.float32),
            device=logits.device,
        )
        values, indices = best_candidates(logits, scores, self.options.temperature, len(self.tracks))
        for track, track_values, track_indices in zip(self.tracks, values, indices, strict=True):
            self._choose(track, track_values, track_indices, step, logits.shape[1])
            track.settle(self.special.eos)
        self._reorder(step)
        return True

    def _feed(self, beams: list[Beam], step: int) -> Tensor:
        """Feed every beam's next token (3a) and note its base id for the repetition penalty."""
        words = [word for track in self.tracks for word in (track.sentence.words,) * len(track.beams)]
        size = self.special.vocab_size
        base = [b.token if b.token < size else known[b.token - size] for b, known in zip(beams, words, strict=True)]
        columns = torch.tensor(
            [[b.token for b in beams], [b.segment for b in beams], [b.position for b in beams], base],
            device=self.stepper.device,
        )
        self.fed[:, step] = columns[3]
        self.num_steps += 1
        return self.stepper.step(columns[0], columns[1], columns[2])

    def _forbidden(self, width: int) -> tuple[Tensor, Tensor]:
        """Row and column of every logit that is never chosen (3b): `<unk>` and other sentences' request words."""
        if self.forbidden is None:
            pairs = [
                (beam.row, column)
                for track in self.tracks
                for column in self._forbidden_columns(track.sentence, width)
                for beam in track.beams
            ]
            rows, columns = torch.tensor(pairs, dtype=torch.long, device=self.stepper.device).view(-1, 2).unbind(1)
            self.forbidden = rows, columns
        return self.forbidden

    def _forbidden_columns(self, sentence: Sentence, width: int) -> list[int]:
        unk = () if sentence.allow_unk else (self.special.unk,)
        return sorted({*unk, *sentence.forbidden}) + list(range(self.special.vocab_size + len(sentence.words), width))

    def _choose(self, track: _Track, scores: list[float], indices: list[int], step: int, width: int) -> None:
        """Go through one sentence's candidates in order (3f, 3g): close answers, keep the next live beams."""
        track.done = track.done or track.closed.cannot_improve(scores[0], step)
        live: list[Beam] = []
        for score, index in zip(scores, indices, strict=True):
            if track.done or len(live) == self.options.num_beams:
                break
            parent, token = track.beams[index // width], index % width
            path = (*parent.path, (token, track.sentence.answers[parent.answer][1]))
            is_last_answer = parent.answer + 1 == len(track.sentence.answers)
            if step == self.last_step or (token == self.special.eos and is_last_answer):
                track.closed.add(path, score)
            elif token == self.special.eos:
                segment = track.sentence.answers[parent.answer + 1][0]
                live.append(Beam(parent.path, score, parent.answer + 1, self.special.bos, segment, 0, parent.row))
            else:
                live.append(replace(parent, path=path, score=score, token=token, position=parent.position + 1))
        first = track.beams[0].row
        idle = [Beam(token=self.special.pad, row=first) for _ in track.beams]
        track.beams = live or idle

    def _reorder(self, step: int) -> None:
        """Let every row go on from its beam's parent (3h)."""
        rows = [beam.row for track in self.tracks for beam in track.beams]
        if rows != list(range(len(rows))):
            parents = torch.tensor(rows, device=self.stepper.device)
            self.fed[:, : step + 1] = self.fed[parents, : step + 1]
            self.stepper.reorder(parents)
        for start, track in zip(range(0, len(rows), self.options.num_beams), self.tracks, strict=True):
            track.beams = [replace(beam, row=start + index) for index, beam in enumerate(track.beams)]

    def _progress(self) -> BeamProgress:
        return BeamProgress(tuple(tuple(track.stable) for track in self.tracks), self.num_steps)

    def _result(self, track: _Track) -> BeamResult:
        ranked = track.closed.ranked()
        token_ids, numbers = _without_eos(ranked[0].path, self.special.eos)
        return BeamResult(token_ids, numbers, ranked)
