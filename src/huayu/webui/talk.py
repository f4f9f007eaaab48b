"""The tab where one talks about pictures."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from huayu.chat import ChatOptions
from huayu.chat.conversation import Picture
from huayu.data.pictures import MAX_PIXELS, decode_picture, read_bytes
from huayu.errors import ImageError, PromptError
from huayu.serving.engine import ChatJob, Piece
from huayu.webui.common import QUIET, Events, Room
from huayu.webui.examples import example_picture
from huayu.webui.said import Said, Talk, remarks, turn_at
from huayu.webui.words import notice, words

_BEAT = 0.04  # seconds between two updates of a streaming answer
# Fields of ChatOptions: more than one look at a picture.
SWITCHES = ("ocr", "tiles", "second_look")


class TalkTab:
    """Its components, made where it is constructed, and what they do. ``controls``: settings that are remembered."""

    def __init__(self, room: Room) -> None:
        self.room = room
        say, names = room.say, room.house.models("chat")
        self.talk = gr.State(None)  # a Talk, once there is one
        self.chat = gr.Chatbot(
            label=say("conversation"),
            show_label=False,
            elem_id="chat",
            placeholder=say("empty talk"),
            examples=self._examples(),  # type: ignore[arg-type]
            editable="user",
            buttons=["copy"],
            height="auto",
            layout="bubble",
            render_markdown=False,
            container=False,
            feedback_options=None,
            group_consecutive_messages=False,
        )
        self.notice = gr.HTML(elem_id="talk-notice", container=False)
        self.box = gr.MultimodalTextbox(
            elem_id="box",
            label=say("question"),
            show_label=False,
            placeholder=say("ask"),
            file_count="multiple",
            file_types=["image"],
            max_lines=8,
            container=False,
        )
        with gr.Row(elem_classes="under"):
            self.fresh = gr.Button(say("new talk"), elem_id="new-talk", size="sm", variant="secondary")
            self.camera = gr.Button(say("camera"), elem_id="camera", size="sm", variant="secondary")
        self.camera_open = gr.State(False)
        with gr.Column(visible=False, elem_id="camera-panel") as self.panel:
            self.shot = gr.Image(
                sources=["webcam"], type="filepath", label=say("camera"), show_label=False, height=320, buttons=[]
            )
        with gr.Accordion(say("options"), open=False, elem_id="talk-options"):
            self.model = gr.Dropdown(names, value=names[0], label=say("model"), visible=len(names) > 1)
            languages = [(say(name), name) for name in ("auto", "zh", "en")]
            self.answer_in = gr.Radio(languages, value="auto", label=say("answer language"), elem_classes="chips")
            self.longest = gr.Number(
                None, label=say("longest"), placeholder=say("model's own"), minimum=1, precision=0,
                maximum=room.house.settings.max_tokens,
            )  # fmt: skip
            self.switches = [gr.Checkbox(False, label=say(name)) for name in SWITCHES]
        self.controls = [self.model, self.answer_in, self.longest, *self.switches]

    def _examples(self) -> list[dict[str, Any]]:
        asked = (("fruit_and_dog", "what"), ("dog", "this"), ("table", "how many"))
        found = [(example_picture(name), self.room.say(question)) for name, question in asked]
        return [
            {"text": question, "icon": str(path), "files": [str(path)], "display_text": question}
            for path, question in found
            if path is not None
        ]

    def wire(self, saved: gr.BrowserState, history: gr.Component) -> None:
        """Connect everything; ``history`` is the list that grows by what was said."""
        self.history = history
        asking = [self.talk, saved, *self.controls]
        outputs = [self.chat, self.talk, self.box, self.notice, history]
        self.box.submit(self._asked, [self.box, *asking], outputs, **QUIET)
        self.chat.example_select(self._example, asking, outputs, **QUIET)
        self.chat.retry(self._retry, asking, outputs, **QUIET)
        self.chat.edit(self._edit, asking, outputs, **QUIET)
        self.chat.undo(self._undo, [self.talk], outputs, **QUIET)
        self.box.stop(self._stop, None, None, **QUIET)
        self.fresh.click(self._fresh, None, outputs, **QUIET)
        camera = [self.camera_open, self.panel, self.camera]
        self.camera.click(self._camera, [self.camera_open], camera, **QUIET, scroll_to_output=True)
        self.shot.input(self._taken, [self.shot, self.box], [self.box, self.shot, *camera], **QUIET)

    # What people do; each gives {component: what is new}.

    async def _asked(
        self, request: gr.Request, box: dict[str, Any], talk: Talk | None, saved: Any, *wishes: Any
    ) -> Events:
        async for event in self._ask(
            talk or Talk(), box.get("text") or "", box.get("files") or [], saved, wishes, request
        ):
            yield event

    async def _example(
        self, request: gr.Request, chosen: gr.SelectData, talk: Talk | None, saved: Any, *wishes: Any
    ) -> Events:
        files = [file["path"] if isinstance(file, dict) else file for file in chosen.value.get("files", ())]
        async for event in self._ask(talk or Talk(), chosen.value["text"], files, saved, wishes, request):
            yield event

    async def _retry(
        self, request: gr.Request, chosen: gr.RetryData, talk: Talk | None, saved: Any, *wishes: Any
    ) -> Events:
        talk = talk or Talk()
        count = turn_at(talk, chosen.index)
        said = talk.said[count]
        async for event in self._ask(talk.upto(count), said.question, list(said.pictures), saved, wishes, request):
            yield event

    async def _edit(
        self, request: gr.Request, chosen: gr.EditData, talk: Talk | None, saved: Any, *wishes: Any
    ) -> Events:
        talk = talk or Talk()
        count = turn_at(talk, chosen.index)
        pictures = list(talk.said[count].pictures)
        async for event in self._ask(talk.upto(count), str(chosen.value), pictures, saved, wishes, request):
            yield event

    def _undo(self, talk: Talk | None) -> dict[Any, Any]:
        """The last question goes back into the box."""
        if talk is None or not talk.said:
            return {self.notice: ""}
        last, talk = talk.said[-1], talk.upto(len(talk.said) - 1)
        files = [self.room.house.scratch.original(picture) for picture in last.pictures]
        return self.show(talk) | {self.box: gr.update(value={"text": last.question, "files": files})}

    def _fresh(self) -> dict[Any, Any]:
        return self.show(Talk()) | {self.box: gr.update(value=None)}

    def _stop(self, request: gr.Request) -> None:
        self.room.house.stop(request.session_hash, "chat")

    def _camera(self, is_open: bool) -> tuple[Any, ...]:
        word = self.room.say("camera" if is_open else "close camera")
        return not is_open, gr.update(visible=not is_open), gr.update(value=word)

    def _taken(self, shot: str | None, box: dict[str, Any]) -> tuple[Any, ...]:
        """The photograph joins the pictures that wait in the box."""
        files = [*(box.get("files") or []), *([shot] if shot else [])]
        value = gr.update(value={"text": box.get("text") or "", "files": files})
        return value, gr.update(value=None), *self._camera(True)

    # The one way from a question to an answer.

    async def _ask(
        self, talk: Talk, question: str, files: list[Any], saved: Any, wishes: tuple[Any, ...], request: gr.Request
    ) -> Events:
        room, say = self.room, self.room.say
        key = (request.session_hash, "chat")
        shown: tuple[Picture, ...] = ()
        try:
            shown = await asyncio.to_thread(self._open, files)
            job = self._job(talk, question, shown, wishes)
            ticket = room.house.tickets[key] = await room.house.engine.submit(job)
            now = Talk(talk.id, (*talk.said, Said(question, shown)))
            word = say("reading" if room.house.is_open(job.model) else "waiting")
            yield self.show(now, word) | {self.box: gr.update(value=None, submit_btn=False, stop_btn=True)}
            text, beat = "", 0.0
            async with ticket:
                async for event in ticket:
                    text += event.text if isinstance(event, Piece) else ""
                    if text and time.monotonic() - beat > _BEAT:
                        beat = time.monotonic()
                        yield {self.chat: self._messages(now, text)}
            reply = ticket.reply
        except Exception as error:  # whatever it is, the reader gets words and keeps the question
            paths = [file if isinstance(file, str) else room.house.scratch.original(file) for file in files]
            box = gr.update(value={"text": question, "files": paths}, submit_btn=True, stop_btn=False)
            yield self.show(talk, room.explain(error), bad=True) | {self.box: box}
            return
        finally:
            room.house.tickets.pop(key, None)
        after = None if reply.finish == "refused" else reply.conversation
        talk = Talk(talk.id, (*talk.said, Said(question, shown, reply.text, after)))
        problem, items = await asyncio.to_thread(room.kept, room.owner(saved, request), talk.item)
        told = " ".join(filter(None, [*remarks(room, reply, wishes[1]), problem]))
        done = {self.box: gr.update(submit_btn=True, stop_btn=False), self.history: items}
        yield self.show(talk, told) | done

    def _open(self, files: list[Any]) -> tuple[Picture, ...]:
        """Raises ImageError."""
        settings, count = self.room.house.settings, len(files)
        if count > settings.max_pictures:
            said = (words(tongue)("too many pictures", count, settings.max_pictures) for tongue in ("en", "zh"))
            raise ImageError(*said)
        return tuple(file if isinstance(file, Picture) else self._read(Path(file)) for file in files)

    def _read(self, path: Path) -> Picture:
        data = read_bytes(path)
        return Picture(decode_picture(data, max_pixels=self.room.house.settings.max_pixels or MAX_PIXELS), data)

    def _job(self, talk: Talk, question: str, pictures: tuple[Picture, ...], wishes: tuple[Any, ...]) -> ChatJob:
        """Raises PromptError, OptionError."""
        model, answer_in, longest, *switches = wishes
        settings = self.room.house.settings
        if not question.strip():
            raise PromptError("Please write a question.", "请写下问题。")
        options = ChatOptions(
            answer_language=answer_in or "auto",
            max_new_tokens=min(int(longest), settings.max_tokens) if longest else None,
        )
        looks: dict[str, Any] = {name: True for name, is_on in zip(SWITCHES, switches, strict=True) if is_on}
        model = model if model in self.room.house.models("chat") else self.room.house.models("chat")[0]
        return ChatJob(
            model, question, pictures, talk.conversation, replace(options, **looks), settings.request_timeout_s
        )

    def show(self, talk: Talk, told: str = "", *, bad: bool = False) -> dict[Any, Any]:
        """The page with this conversation on it, and a word below."""
        return {self.talk: talk, self.chat: self._messages(talk), self.notice: notice(told, bad=bad)}

    def _messages(self, talk: Talk, text: str = "") -> list[dict[str, Any]]:
        """What the chatbot shows, see :func:`turn_at`; ``text`` is what there is so far of the last answer.

        The pictures are a message of their own: Gradio cannot edit a text beside a picture.
        """
        messages = []
        for number, said in enumerate(talk.said, 1):
            if said.pictures:
                shown = [{"path": self.room.house.scratch.shown(picture)} for picture in said.pictures]
                messages.append({"role": "user", "content": shown})
            answer = said.answer or (text if number == len(talk.said) else "") or "…"
            messages.append({"role": "user", "content": said.question})
            messages.append({"role": "assistant", "content": answer})
        return messages
