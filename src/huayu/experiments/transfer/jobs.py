"""The parts of the experiment, each done once and for all: a job that was killed goes on where its checkpoint was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from huayu.checkpoints.atomic import write_text
from huayu.data import pictograms
from huayu.data.scenes import Sprites
from huayu.experiments.transfer import measure, pool, space
from huayu.experiments.transfer.arms import ARMS, arm
from huayu.experiments.transfer.bilingual import FIELDS, Item, TextStage, new_model
from huayu.experiments.transfer.eye import Eye, EyeStage
from huayu.experiments.transfer.painting import PaintStage
from huayu.experiments.transfer.plan import Job
from huayu.experiments.transfer.pool import Pool
from huayu.experiments.transfer.scenes import STYLES, SmallWorld
from huayu.experiments.transfer.settings import Setting, vocabulary_of
from huayu.experiments.transfer.talk import LANGUAGES, Talker, passage
from huayu.experiments.transfer.teller import LANGUAGE_RATE, Teller, TellStage, row_of
from huayu.models.cpm_bee import BeeVocabulary, CpmBeeForCausalLM, pack
from huayu.training.loop import LoopSettings, Stage, train

EYE_RATE, TEXT_RATE, TELL_RATE, INSTRUCT_RATE, PAINT_RATE = 2e-3, 1.2e-3, 1e-3, 1e-3, 1e-3


class Workshop:
    """Does jobs in ``folder``. What several jobs need is loaded once."""

    def __init__(self, setting: Setting, folder: Path, cache: Path) -> None:
        self.setting, self.folder, self.cache = setting, folder, cache
        self.small = SmallWorld(setting.things)

    def do(self, job: Job) -> dict[str, Any]:
        """Do a job unless it is done; what it found, with the CPU minutes that it took since it was last taken up."""
        file = self.folder / job.name / "result.json"
        if not file.exists():
            start = time.process_time()
            torch.manual_seed(job.seed)
            found = getattr(self, f"_{job.kind}")(job)
            found = {**found, "cpu_minutes": (time.process_time() - start) / 60}
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(found, ensure_ascii=False))
        result: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return result

    @cached_property
    def sprites(self) -> Sprites:
        return Sprites.load(pictograms.pack(self.cache), styles=STYLES)

    @cached_property
    def vocabulary(self) -> BeeVocabulary:
        return vocabulary_of(self.folder / "vocab.txt")

    @cached_property
    def eye(self) -> Eye:
        eye = Eye(self.setting)
        eye.load_state_dict(torch.load(self.folder / "eye" / "eye.pt", weights_only=True))
        return eye.eval()

    @cached_property
    def pools(self) -> dict[str, Pool]:
        return {name: Pool.load(self.folder / "pool" / name) for name in ("training", "testing", "choosing")}

    def language(self, seed: int, across: bool = True) -> CpmBeeForCausalLM:
        """The language model of a seed."""
        model = new_model(self.setting, self.vocabulary)
        name = "language" if across else "language-apart"
        model.load_state_dict(torch.load(self.folder / f"seed-{seed}" / name / "language.pt", weights_only=True))
        return model.eval()

    def _train(self, job: Job, stage: Stage, steps: int, rate: float, evaluations: int = 1, batch: int = 0) -> None:
        train(
            stage,
            LoopSettings(
                output=str(self.folder / job.name),
                steps=steps,
                batch_size=batch or self.setting.batch,
                learning_rate=rate,
                warmup=min(60, steps // 4),
                evaluate_every=max(1, -(-steps // evaluations)),
                cooldown=0.5,
                save_minutes=1.0,
                device="cpu",
            ),
        )

    def _eye(self, job: Job) -> dict[str, Any]:
        stage = EyeStage(self.setting, self.sprites)
        self._train(job, stage, self.setting.eye_steps, EYE_RATE, batch=self.setting.batch // 2)
        return {"sight": dict(last_evaluation(self.folder / job.name))}

    def _pool(self, job: Job) -> dict[str, Any]:
        sizes = {"training": self.setting.pool, "testing": self.setting.pool // 8, "choosing": self.setting.pool // 16}
        seeds = {"training": pool.TRAINING, "testing": pool.TESTING, "choosing": pool.CHOOSING}
        for name, size in sizes.items():
            drawn = pool.drawn(self.setting, self.sprites, self.eye, seeds[name], max(16, size), name != "training")
            drawn.save(self.folder / job.name / name)
        return sizes

    def _language(self, job: Job) -> dict[str, Any]:
        across = job.arm == "language"
        stage = TextStage(self.setting, self.vocabulary, job.seed, across)
        self._train(job, stage, self.setting.text_steps, TEXT_RATE)
        space_of = space.translations(self.language(job.seed, across), self.vocabulary, self.small)
        return {"reading": dict(last_evaluation(self.folder / job.name)), "translations": space_of}

    def _references(self, job: Job) -> dict[str, Any]:
        """The same questions with the scene told in words in the question's language; and with nothing joined."""
        language, testing = self.language(job.seed), self.pools["testing"]
        asked = self.questions(testing, self.setting.questions)
        rng = np.random.default_rng(6)
        items = [
            Item(FIELDS[0], passage(rng, testing.scenes[picture], turn.language), turn.question, turn.answer)
            for picture, turn in asked
        ]
        rows = [
            pack(
                {item.field: item.passage, "question": item.question, "<ans>": ""}, self.vocabulary, for_generation=True
            )
            for item in items
        ]
        texts = measure.answer(language, rows, self.vocabulary)
        words = [measure.Asked(*one, text) for one, text in zip(asked, texts, strict=True)]
        blind = Teller.from_parts(self.setting, self.vocabulary, self.eye, language.state_dict()).eval()
        return {"words": measure.figures(words), "blind": measure.figures(self.answers(blind, testing, asked))}

    def _pairs(self, job: Job) -> dict[str, Any]:
        one = next(a for a in ARMS if a.pairs_job == job.arm)
        language = self.language(job.seed, one.across)
        start = Teller.from_parts(self.setting, self.vocabulary, self.eye, language.state_dict())
        stage = self._stage(job, start, chinese=one.pairs, instruct=False)
        return self._tell(job, stage, self.setting.pair_steps, TELL_RATE)

    def _instruct(self, job: Job) -> dict[str, Any]:
        one = arm(job.arm)
        start = self.teller(f"seed-{job.seed}/{one.pairs_job}")
        rate = 1.0 if one.thorough else LANGUAGE_RATE
        stage = self._stage(job, start, chinese=one.instructions or 0.0, instruct=True, language_rate=rate)
        return self._tell(job, stage, self.setting.instruct_steps * (2 if one.thorough else 1), INSTRUCT_RATE)

    def _stage(self, job: Job, start: Teller, **settings: Any) -> TellStage:
        training = self.pools["training"]
        return TellStage(self.setting, self.vocabulary, training, start, job.seed, **settings)

    def _tell(self, job: Job, stage: TellStage, steps: int, rate: float) -> dict[str, Any]:
        stage.watch = self._watching()
        self._train(job, stage, steps, rate, evaluations=5 if steps >= 20 else 1)
        teller = self.teller(job.name)
        testing = self.pools["testing"]
        found = self.answers(teller, testing, self.questions(testing, self.setting.questions))
        rows = [{"skill": a.turn.skill, "language": a.turn.language, "question": a.turn.question,
                 "truth": a.turn.answer, "answer": a.answer} for a in found]  # fmt: skip
        write_text(
            self.folder / job.name / "answers.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
        )
        return {
            "figures": measure.figures(found),
            "looks_like": space.looks_like(teller, self.vocabulary, testing, self.small),
            "on_the_way": evaluations(self.folder / job.name),
        }

    def _watching(self) -> Callable[[Teller], dict[str, float]]:
        """What is logged on the way: Chinese questions about scenes that are neither trained on nor tested."""
        choosing = self.pools["choosing"]
        asked = self.questions(choosing, min(10, self.setting.questions))

        def watch(teller: Teller) -> dict[str, float]:
            table = measure.figures(self.answers(teller, choosing, asked))
            return {f"{k}/{name}": table[k]["all"][name] for k in LANGUAGES for name in measure.JUDGES}

        return watch

    def _paint(self, job: Job) -> dict[str, Any]:
        language = self.language(job.seed, job.arm == "paint")
        stage = PaintStage(self.setting, self.vocabulary, self.sprites, language, job.seed)
        self._train(job, stage, self.setting.paint_steps, PAINT_RATE)
        module = stage.module()
        module.load_state_dict(torch.load(self.folder / job.name / "painter.pt", weights_only=True))
        return {"figures": stage.measure(module.eval())}

    def teller(self, name: str) -> Teller:
        """The chat model that a job made."""
        teller = Teller(self.setting, self.vocabulary)
        teller.load_state_dict(torch.load(self.folder / name / "teller.pt", weights_only=True))
        return teller.eval()

    def questions(self, scenes: Pool, count: int) -> list[tuple[int, Any]]:
        """The same for every arm and seed."""
        return measure.questions(Talker(self.small.concepts), scenes, count)

    @torch.no_grad()
    def answers(self, teller: Teller, scenes: Pool, asked: list[tuple[int, Any]]) -> list[measure.Asked]:
        """What it says to each question."""
        seen = torch.cat([teller.see(part) for part in scenes.patches.split(64)])
        rows = [row_of(turn, self.vocabulary, for_generation=True) for _, turn in asked]
        texts = measure.answer(teller.chat, rows, self.vocabulary, seen[[picture for picture, _ in asked]])
        return [measure.Asked(*one, text) for one, text in zip(asked, texts, strict=True)]


def evaluations(folder: Path) -> list[dict[str, float]]:
    """All evaluations in a training log, each with its step."""
    rows: Iterator[dict[str, Any]] = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{"step": row["step"], **row["evaluation"]} for row in rows if "evaluation" in row]


def last_evaluation(folder: Path) -> dict[str, float]:
    """The last of them."""
    return evaluations(folder)[-1]
