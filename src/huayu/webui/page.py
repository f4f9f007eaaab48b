"""One page in one language: head, two tabs, the history beside them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from typing import Any

import gradio as gr

from huayu.errors import HuayuError
from huayu.webui.common import QUIET, Room
from huayu.webui.history import Item, export
from huayu.webui.painting import PaintTab
from huayu.webui.said import Talk
from huayu.webui.talk import TalkTab
from huayu.webui.words import notice
from huayu.webui.works import works_of

# Not a secret: Gradio wants one to scramble what it keeps, and it must outlive the server.
_SCRAMBLE = "huayu-page-settings"
_REMEMBER = "(saved, ...values) => ({...(saved || {}), values})"
_RECALL = """(saved) => {
    const kept = {...(saved || {})};
    const hex = (byte) => byte.toString(16).padStart(2, "0");
    kept.owner = kept.owner || Array.from(crypto.getRandomValues(new Uint8Array(16)), hex).join("");
    return [kept, ...(kept.values && kept.values.length === COUNT ? kept.values : DEFAULTS)];
}"""


class Page:
    """Built inside a Blocks; ``load`` is that Blocks' load event."""

    def __init__(self, room: Room, blocks: gr.Blocks) -> None:
        self.room = room
        say = room.say
        self.saved = gr.BrowserState({}, storage_key="huayu", secret=_SCRAMBLE)
        with gr.Row(elem_id="head"):
            gr.HTML(f"<h1>画语 <span>huayu</span></h1><p>{say('tagline')}</p>", elem_id="brand", container=False)
            gr.Button(say("history"), elem_id="open-history", size="sm", variant="secondary")
            gr.Button(say("other language"), elem_id="switch-language", size="sm", variant="secondary")
        with gr.Tabs(elem_id="tabs") as self.tabs:
            with gr.Tab(say("talk"), id="talk"):
                self.talk = TalkTab(room)
            with gr.Tab(say("paint"), id="paint", visible=bool(room.house.models("paint"))) as paint_tab:
                self.paint = PaintTab(room)
        with gr.Column(elem_id="history"):
            self._drawer()
        self.talk.wire(self.saved, self.items)
        self.paint.wire(self.saved, self.items, self.talk.box, self.tabs)
        self._wire(blocks, paint_tab)

    def _drawer(self) -> None:
        say, house = self.room.say, self.room.house
        with gr.Row(elem_classes="drawer-head"):
            gr.HTML(f"<h2>{say('history')}</h2>", container=False)
            gr.Button(say("close"), elem_id="close-history", size="sm", variant="secondary")
        empty = say("no history" if house.history is None else "empty history")
        gr.HTML(f'<p class="hint">{empty}</p>', container=False)
        self.items = gr.Radio([], label=say("history"), show_label=False, elem_id="items", container=False)
        self.notice = gr.HTML(container=False)
        with gr.Row(elem_classes="under", visible=house.history is not None):
            buttons = ("export", "delete", "export all", "delete all")
            self.buttons = [
                gr.Button(say(name), elem_id=name.replace(" ", "-"), size="sm", variant="secondary") for name in buttons
            ]
        self.file = gr.DownloadButton(say("export"), elem_id="file", elem_classes="away")

    def _wire(self, blocks: gr.Blocks, paint_tab: gr.Tab) -> None:
        controls = [*self.talk.controls, *self.paint.controls]
        defaults = [getattr(control, "value", None) for control in controls]
        recall = _RECALL.replace("COUNT", str(len(controls))).replace("DEFAULTS", _as_js(defaults))
        begun = blocks.load(None, [self.saved], [self.saved, *controls], js=recall, **QUIET)
        begun.then(self._begin, [self.saved], [self.items, self.notice], **QUIET)
        gr.on(
            [control.input for control in controls if hasattr(control, "input")],
            None, [self.saved, *controls], [self.saved], js=_REMEMBER, **QUIET,
        )  # fmt: skip
        gr.on([paint_tab.select, self.paint.model.input], self._sizes, [self.paint.model], [self.paint.size], **QUIET)
        talk = [self.talk.talk, self.talk.chat, self.talk.notice]
        paint = [
            self.paint.works, self.paint.chosen, self.paint.gallery, self.paint.about, self.paint.after,
            self.paint.progress, self.paint.notice, self.paint.prompt,
        ]  # fmt: skip
        self.items.input(self._open, [self.items, self.saved], [self.tabs, self.notice, *talk, *paint], **QUIET)
        export_one, delete_one, export_all, delete_all = self.buttons
        kept, changed = [self.saved, self.items], [self.items, self.notice]
        really = _as_js(self.room.say("really"))
        sure = f"(...inputs) => {{ if (!confirm({really})) throw new Error('kept'); return inputs; }}"
        click = "() => setTimeout(() => document.getElementById('file').click(), 200)"
        for button, fn in ((export_one, self._export), (export_all, self._export_all)):
            button.click(fn, kept, [self.file, self.notice], **QUIET).then(None, None, None, js=click)
        delete_one.click(self._delete, kept, changed, **QUIET)
        delete_all.click(self._delete_all, kept, changed, js=sure, **QUIET)

    def _begin(self, saved: Any, request: gr.Request) -> tuple[Any, str]:
        try:
            return self.room.listed(self.room.owner(saved, request)), ""
        except sqlite3.Error as error:
            return gr.skip(), notice(self.room.explain(error), bad=True)

    async def _sizes(self, model: str) -> Any:
        try:
            return await asyncio.to_thread(self.paint.sizes, model)
        except HuayuError:  # whoever paints will be told
            return gr.skip()

    def _open(self, item_id: str, saved: Any, request: gr.Request) -> dict[Any, Any]:
        try:
            item = self._chosen(saved, item_id, request)
            if item is None:
                return {self.notice: notice(self.room.say("gone"), bad=True)}
            if item.kind == "chat":
                return {self.tabs: gr.Tabs(selected="talk"), self.notice: "", **self.talk.show(Talk.of(item))}
            prompt, works = works_of(item)
            shown = self.paint.show(works) | {self.paint.prompt: prompt}
            return {self.tabs: gr.Tabs(selected="paint"), self.notice: "", **shown}
        except (HuayuError, sqlite3.Error, ValueError, KeyError, TypeError) as error:
            return {self.notice: notice(self.room.explain(error), bad=True)}

    def _chosen(self, saved: Any, item_id: str | None, request: gr.Request) -> Item | None:
        history = self.room.house.history
        if history is None or not item_id:
            return None
        return next(iter(history.get(self.room.owner(saved, request), [item_id])), None)

    def _export(self, saved: Any, item_id: str | None, request: gr.Request) -> tuple[Any, str]:
        item = self._chosen(saved, item_id, request)
        return self._file([item] if item is not None else [])

    def _export_all(self, saved: Any, _: str | None, request: gr.Request) -> tuple[Any, str]:
        history = self.room.house.history
        return self._file(history.get(self.room.owner(saved, request)) if history is not None else [])

    def _file(self, items: list[Item]) -> tuple[Any, str]:
        if not items:
            return gr.update(value=None), notice(self.room.say("choose"), bad=True)
        folder = self.room.house.scratch.path / uuid.uuid4().hex
        return gr.update(value=str(export(items, folder))), ""

    def _delete(self, saved: Any, item_id: str | None, request: gr.Request) -> tuple[Any, str]:
        if not item_id:
            return gr.skip(), notice(self.room.say("choose"), bad=True)
        return self._without(item_id, saved, request)

    def _delete_all(self, saved: Any, _: str | None, request: gr.Request) -> tuple[Any, str]:
        return self._without(None, saved, request)

    def _without(self, item_id: str | None, saved: Any, request: gr.Request) -> tuple[Any, str]:
        owner = self.room.owner(saved, request)
        try:
            if self.room.house.history is not None:
                self.room.house.history.delete(owner, item_id)
            return self.room.listed(owner), ""
        except sqlite3.Error as error:
            return gr.skip(), notice(self.room.explain(error), bad=True)


def _as_js(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
