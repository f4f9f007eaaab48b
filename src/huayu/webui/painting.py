"""The tab where one has pictures painted."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Literal

import gradio as gr

from huayu.chat.conversation import Picture
from huayu.chat.looking import BRIEFLY, question_for, verdict_on
from huayu.data.art_styles import STYLES
from huayu.paint import Painted, PaintOptions, PaintResult, Progress
from huayu.serving.engine import ChatJob, PaintJob
from huayu.types import Verdict
from huayu.webui.common import QUIET, Events, Room
from huayu.webui.history import Item
from huayu.webui.wishes import MINI, STYLES_OF_OTHERS, TRY, bar, empty, number, size_of, with_style
from huayu.webui.words import notice
from huayu.webui.works import Work, caption, reason, record_of, story


class PaintTab:
    """Its components, made where it is constructed, and what they do. ``controls``: settings that are remembered."""

    def __init__(self, room: Room) -> None:
        self.room = room
        say, names = room.say, room.house.models("paint")
        self.works = gr.State(())
        self.chosen = gr.State(0)
        with gr.Row(elem_classes="studio"):
            with gr.Column(scale=5, min_width=300, elem_classes="panel"):
                self._wishes(names)
            with gr.Column(scale=7, min_width=300):
                self.progress = gr.HTML(empty(room), elem_id="progress", container=False)
                self.gallery = gr.Gallery(
                    label=say("painted"), show_label=False, elem_id="gallery", columns=2, object_fit="contain",
                    format="png", visible="hidden", buttons=["download", "fullscreen"], height="auto",
                    interactive=False, container=False,
                )  # fmt: skip
                self.about = gr.HTML(elem_id="about", container=False)
                with gr.Row(visible=False, elem_classes="under") as self.after:
                    self.to_chat = gr.Button(say("to chat"), variant="primary", size="sm", elem_id="to-chat")
                    self.keep_seed = gr.Button(say("keep seed"), variant="secondary", size="sm")
                self.notice = gr.HTML(elem_id="paint-notice", container=False)
        self.controls = [
            self.model, self.style, self.count, self.seed, self.size, self.steps, self.guidance, self.negative,
            self.candidates, self.check, self.repaints,
        ]  # fmt: skip

    def _wishes(self, names: list[str]) -> None:
        say, language = self.room.say, self.room.language
        self.prompt = gr.Textbox(
            label=say("prompt"), placeholder=say("prompt hint"), lines=1, max_lines=6, elem_id="prompt"
        )
        gr.Examples(
            [[text] for text in TRY[language]], self.prompt, label=say("try"), api_visibility="private", elem_id="try"
        )
        mini = names[0] == MINI
        found = [getattr(style, language)[0] for style in STYLES] if mini else list(STYLES_OF_OTHERS[language])
        self.style = gr.Radio(
            [(say("no style"), ""), *((name, name) for name in found)], value="", label=say("style"),
            elem_classes="chips", elem_id="style",
        )  # fmt: skip
        with gr.Row(elem_classes="go"):
            self.go = gr.Button(say("go"), variant="primary", elem_id="paint")
            self.stop = gr.Button(say("stop"), variant="stop", visible=False, elem_id="stop-painting")
        with gr.Accordion(say("options"), open=False, elem_id="paint-options"):
            self.model = gr.Dropdown(names, value=names[0], label=say("model"), visible=len(names) > 1)
            most = self.room.house.settings.max_n
            self.count = gr.Slider(1, most, value=min(2, most), step=1, label=say("pictures"))
            with gr.Row():
                self.seed = number(say("seed"), say("a new one"), precision=0)
                self.size = gr.Dropdown([(say("model's own"), "")], value="", label=say("size"), min_width=120)
            with gr.Row():
                self.steps = number(say("steps"), say("model's own"), precision=0)
                self.guidance = number(say("guidance"), say("model's own"))
            self.negative = gr.Textbox(label=say("negative"), lines=1, max_lines=3)
            self.candidates = gr.Slider(1, 8, value=1, step=1, label=say("candidates"))
            self.check = gr.Checkbox(False, label=say("check"), elem_id="check")
            self.repaints = gr.Slider(1, 5, value=2, step=1, label=say("repaints"), visible=False)

    def wire(self, saved: gr.BrowserState, history: gr.Component, box: gr.Component, tabs: gr.Tabs) -> None:
        """Connect everything; ``history`` is the list that grows by what was painted, ``box`` where one asks."""
        self.history = history
        outputs = [self.works, self.chosen, self.gallery, self.about, self.after, self.progress, self.notice]
        asking = [self.prompt, saved, *self.controls]
        painting = [*outputs, self.go, self.stop, history]
        gr.on([self.go.click, self.prompt.submit], self._paint, asking, painting, **QUIET, trigger_mode="once")
        self.stop.click(self._stop, None, None, **QUIET)
        self.gallery.select(self._select, [self.works], [self.chosen, self.about], **QUIET)
        self.to_chat.click(self._to_chat, [self.works, self.chosen, box], [box, tabs], **QUIET)
        self.keep_seed.click(lambda works, at: works[at].seed, [self.works, self.chosen], self.seed, **QUIET)
        self.check.change(lambda on: gr.update(visible=on), self.check, self.repaints, **QUIET)

    def sizes(self, model: str) -> Any:
        """What the model paints, for the list of sizes; opens the model when it is not open."""
        with self.room.house.shelf.use(model, "paint") as painter:
            facts = painter.backend.facts
        sizes = facts.sizes or tuple((side, side) for side in sorted({facts.size[0] // 2, facts.size[0]}))
        listed = [f"{width}×{height}" for width, height in sizes]
        return gr.update(choices=[(self.room.say("model's own"), ""), *listed])

    async def _paint(self, request: gr.Request, prompt: str, saved: Any, *wishes: Any) -> Events:
        """Paint, let the chat model look where that is wished, keep it."""
        room, say, begin = self.room, self.room.say, time.monotonic()
        key = (request.session_hash, "paint")
        works: list[Work] = []
        told, bad = "", False
        busy = {self.go: gr.update(visible=False), self.stop: gr.update(visible=True)}
        try:
            job, remark = await asyncio.to_thread(self._job, prompt, wishes)
            yield self.show((), progress=bar(say("painting"), 0, 1)) | busy
            async for event in self._painted(key, job):
                if isinstance(event, Progress):
                    word = say("painting of", event.done, event.total)
                    yield {self.progress: bar(word, event.done, event.total, event.preview)}
                elif isinstance(event, Painted):
                    works.append(await asyncio.to_thread(Work.of, event, room.house.scratch.path))
                    yield self.show(tuple(works), progress=bar(say("painting"), len(works), job.options.n))
                else:
                    told, bad = self._refused(event)
            *_, check, repaints = wishes
            for at in range(len(works) if check and not bad else 0):
                async for word in self._looked_at(key, job, works, at, int(repaints)):
                    yield self.show(tuple(works), progress=bar(word, at + 1, len(works)))
        except Exception as error:  # whatever it is, the reader gets words and keeps the prompt
            told, bad = room.explain(error), True
        finally:
            room.house.tickets.pop(key, None)
        if works and not told:
            told = " ".join([say("done", len(works), f"{time.monotonic() - begin:.1f}"), remark])
        rest: dict[Any, Any] = {self.go: gr.update(visible=True), self.stop: gr.update(visible=False)}
        if works:
            item = Item(uuid.uuid4().hex, "paint", prompt.strip()[:60], 0.0)
            make = lambda: replace(item, body=record_of(prompt, works))  # noqa: E731
            problem, items = await asyncio.to_thread(room.kept, room.owner(saved, request), make)
            told, rest = " ".join(filter(None, [told, problem])), rest | {self.history: items}
        yield self.show(tuple(works), told=told, bad=bad) | rest

    async def _painted(self, key: Any, job: PaintJob) -> AsyncIterator[Progress | Painted | PaintResult]:
        """The events of a job, and last its result."""
        ticket = self.room.house.tickets[key] = await self.room.house.engine.submit(job)
        async with ticket:
            async for event in ticket:
                yield event
        yield ticket.result

    async def _looked_at(self, key: Any, job: PaintJob, works: list[Work], at: int, tries: int) -> AsyncIterator[str]:
        """Let the chat model judge a picture; paint it again until it fits, keeping the best. Yields what is going on.

        Stopping ends it with what there is.
        """
        best = works[at]
        for attempt in range(tries + 1):
            work = works[at]
            yield self.room.say("looking")
            work = works[at] = replace(work, look=await self._look(key, work, job.prompt), tries=attempt + 1)
            best = max(best, work, key=lambda one: one.look.score if one.look else -1.0)
            if (work.look and work.look.allowed) or attempt == tries:
                break
            yield self.room.say("again", at + 1)
            seed = (works[at].seed + job.options.n) % 2**63
            again = replace(job, options=replace(job.options, n=1, seed=seed))
            new = [event async for event in self._painted(key, again)]
            painted = [event for event in new if isinstance(event, Painted)]
            if not painted:
                break
            works[at] = await asyncio.to_thread(Work.of, painted[0], self.room.house.scratch.path)
        works[at] = replace(best, tries=attempt + 1)

    async def _look(self, key: Any, work: Work, prompt: str) -> Verdict:
        house = self.room.house
        model = house.models("chat")[0]
        small = await asyncio.to_thread(self._is_small, model)
        picture = Picture.open(work.png)
        job = ChatJob(model, question_for(prompt, small=small), (picture,), None, BRIEFLY)
        ticket = house.tickets[key] = await house.engine.submit(job)
        async with ticket:
            reply = await ticket.finished()
        return verdict_on(reply.text, prompt, model, small=small)

    def _is_small(self, model: str) -> bool:
        with self.room.house.shelf.use(model, "chat") as chat:
            return not chat.backend.follows_requests

    def _job(self, prompt: str, wishes: tuple[Any, ...]) -> tuple[PaintJob, str]:
        """And what is to be said about its candidates: where nothing scores them, all are shown.

        Raises OptionError, PromptError, ModelError.
        """
        model, style, count, seed, size, steps, guidance, negative, candidates, *_ = wishes
        known, settings = self.room.house.models("paint"), self.room.house.settings
        model, many, remark = model if model in known else known[0], int(candidates or 1), ""
        if many > 1:
            with self.room.house.shelf.use(model, "paint") as painter:
                scored, why = painter.ranks(prompt), "no ranker" if painter.ranker is None else "ranker's language"
            if not scored:
                count, many, remark = count * many, 1, self.room.say(why)
        options = PaintOptions(
            n=min(int(count), settings.max_n),
            seed=None if seed is None else int(seed),
            size=size_of(size),
            steps=None if steps is None else int(steps),
            guidance=guidance,
            negative=(negative or "").strip(),
            candidates=many,
            previews=True,
        )
        return PaintJob(model, with_style(prompt, style, model), options, settings.request_timeout_s), remark

    def _refused(self, result: PaintResult) -> tuple[str, bool]:
        """What a reader should know of how it ended, and whether that is bad."""
        if result.finish == "blocked":
            why = next(verdict for verdict in result.prompt_verdicts if not verdict.allowed)
            return self.room.say("not painted", reason(why, self.room.language)), True
        return (self.room.say("stopped"), False) if result.finish == "cancelled" else ("", False)

    def _stop(self, request: gr.Request) -> None:
        self.room.house.stop(request.session_hash, "paint")

    def _select(self, works: tuple[Work, ...], chosen: gr.SelectData) -> tuple[int, str]:
        at = int(chosen.index) if isinstance(chosen.index, int) else 0
        return at, story(works, at, self.room)

    def _to_chat(self, works: tuple[Work, ...], at: int, box: dict[str, Any]) -> tuple[Any, ...]:
        files = [*(box.get("files") or []), self._path(works[at])]
        return gr.update(value={"text": box.get("text") or "", "files": files}), gr.Tabs(selected="talk")

    def show(self, works: tuple[Work, ...], *, progress: str = "", told: str = "", bad: bool = False) -> dict[Any, Any]:
        """The page with these paintings on it."""
        # Hidden, not taken from the page: a gallery that is put back may miss its pictures.
        shown: Literal[True, "hidden"] = True if works else "hidden"
        files = [(self._path(work), caption(work, at, self.room)) for at, work in enumerate(works, 1)]
        return {
            self.works: works,
            self.chosen: 0,
            self.gallery: gr.update(value=files, visible=shown, columns=1 if len(works) == 1 else 2),
            self.about: story(works, 0, self.room) if works else "",
            self.after: gr.update(visible=bool(works) and not progress),
            self.progress: progress or ("" if works else empty(self.room)),
            self.notice: notice(told, bad=bad),
        }

    def _path(self, work: Work) -> str:
        return self.room.house.scratch.put(work.name, lambda path: path.write_bytes(work.png))
