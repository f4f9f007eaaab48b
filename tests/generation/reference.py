"""The published beam search written a second time, for one sentence, in plain Python floats and lists.

It follows the specification's section 4 line by line and shares no code with the package; in float64 both must agree.
"""

from __future__ import annotations

import math


def search(logits_of, answers, base_of, special, options, allow_unk):
    """All kept answers as [(score, [(token, number), …])], best first, and the number of steps taken.

    ``logits_of(history)`` gives a list of logits for the tokens, segments and positions fed so far.
    """
    beams = [
        {"sum": 0.0 if i == 0 else -1e9, "answer": 0, "tokens": [], "fed": [], "next": (special.bos, answers[0][0], 0)}
        for i in range(options.num_beams)
    ]
    heap, steps, done = [], 0, False
    last = options.max_new_tokens + 1
    for i in range(last + 1):
        rows = []
        for beam in beams:
            beam["fed"] = beam["fed"] + [beam["next"]]
            rows.append(logits_of(tuple(beam["fed"])))
        steps += 1
        if done:
            break
        candidates = []
        for index, (beam, row) in enumerate(zip(beams, rows, strict=True)):
            row = _scored(row, beam, base_of, special, options, allow_unk)
            candidates += [(beam["sum"] + value, index, token) for token, value in enumerate(row)]
        candidates.sort(key=lambda candidate: -candidate[0])
        candidates = candidates[: 2 * options.num_beams]
        if len(heap) == options.num_beams:
            done = min(score for score, _ in heap) >= candidates[0][0] / i**options.length_penalty
        if done:
            continue
        beams = _next_beams(candidates, beams, answers, heap, special, options, i == last)
    return sorted(heap, key=lambda entry: -entry[0]), steps


def _scored(row, beam, base_of, special, options, allow_unk):
    row = list(row)
    if not allow_unk:
        row[special.unk] = -10000.0
    fed = [base_of(token) for token, _, _ in beam["fed"]]
    for token in set(fed[-options.repetition_window :] if options.repetition_window else fed):
        row[token] *= options.repetition_penalty if row[token] < 0 else 1 / options.repetition_penalty
    row = [value / options.temperature for value in row]
    total = math.log(sum(math.exp(value - max(row)) for value in row)) + max(row)
    return [value - total for value in row]


def _next_beams(candidates, beams, answers, heap, special, options, is_last):
    following = []
    for score, index, token in candidates:
        beam = beams[index]
        segment, number = answers[beam["answer"]]
        ends = token == special.eos
        if is_last or (ends and beam["answer"] == len(answers) - 1):
            tokens = beam["tokens"] + [(token, number)]
            heap.append((score / len(tokens) ** options.length_penalty, tokens))
            if len(heap) > options.num_beams:
                heap.remove(min(heap, key=lambda entry: entry[0]))
        elif ends:
            nxt = (special.bos, answers[beam["answer"] + 1][0], 0)
            following.append({**beam, "sum": score, "answer": beam["answer"] + 1, "next": nxt})
        else:
            position = beam["next"][2] + 1
            nxt = (token, segment, position)
            following.append({**beam, "sum": score, "tokens": beam["tokens"] + [(token, number)], "next": nxt})
        if len(following) == options.num_beams:
            break
    return following or beams
