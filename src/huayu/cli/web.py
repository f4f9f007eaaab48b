"""``huayu web``: the page, in this process, until it is interrupted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from huayu.cli.common import Device, Dtype, Ranker, serve_settings
from huayu.errors import OptionError
from huayu.runtime.language import say

if TYPE_CHECKING:
    from types import FrameType


def web(
    model: Annotated[list[str] | None, typer.Option(help="Chat model, may be repeated · 看图模型，可多个")] = None,
    paint_model: Annotated[
        list[str] | None, typer.Option(help="Paint model, may be repeated · 作画模型，可多个")
    ] = None,
    ranker: Ranker = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Annotated[str | None, typer.Option("--quantize", "--quant", help="int8, int4: of chat · 量化")] = None,
    safety: Annotated[str, typer.Option(help="off, block, blur, allow · 安全检查")] = "block",
    host: Annotated[str, typer.Option(help="Address to listen at · 监听地址")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Default: a free one from 7860 · 端口")] = None,
    auth: Annotated[str | None, typer.Option(metavar="USER:PASSWORD", help="Ask for a login · 需要登录")] = None,
    share: Annotated[bool, typer.Option("--share", help="Public address through gradio.live · 公开网址")] = False,
    history: Annotated[str | None, typer.Option(help="Its file, or off · 历史文件，off 为不保存")] = None,
    browser: Annotated[bool, typer.Option("--open", help="Open it in the browser · 打开浏览器")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing · 不输出")] = False,
) -> None:
    """A page: talk about pictures, paint them · 网页：看图说话与作画"""
    login = _login(auth)
    given = {
        "chat_models": tuple(model or ()),
        "paint_models": tuple(paint_model or ()),
        "device": device,
        "dtype": dtype,
        "quantize": quantize,
        "ranker": ranker,
        "safety": safety,
        "host": host,
    }
    settings = serve_settings("web", ("gradio",), given)
    _look_at_the_door(settings, share=share, login=login is not None)
    from huayu.serving.engine import BatchingEngine
    from huayu.serving.shelf import Shelf
    from huayu.webui import appearance, build, default_history, warm

    shelf = Shelf(settings)
    engine = BatchingEngine(shelf, settings.max_queue, settings.max_batch)
    kept = None if history == "off" else Path(history).expanduser() if history else default_history()
    page = build(engine, shelf, settings, history=kept)
    _, local, shared = page.launch(
        server_name=host,
        server_port=port,
        share=share,
        auth=login,
        inbrowser=browser,
        prevent_thread_lock=True,
        quiet=True,
        **appearance(settings, anywhere=share),
    )
    warm(shelf)
    if not quiet:
        there = shared or local
        print(say(f"The page is at {there} (Ctrl-C ends it).", f"网页地址：{there}（Ctrl-C 结束）。"))
        if kept is not None:
            print(say(f"The history is kept in {kept}.", f"历史保存在 {kept}。"))
        sys.stdout.flush()
    try:
        _wait()
    finally:
        import asyncio

        page.close(verbose=False)
        asyncio.run(engine.drain(2.0))


def _login(auth: str | None) -> tuple[str, str] | None:
    """Raises OptionError."""
    if auth is None:
        return None
    user, colon, password = auth.partition(":")
    if not (user and colon and password):
        raise OptionError("--auth is USER:PASSWORD.", "--auth 应为 用户名:密码。")
    return user, password


def _look_at_the_door(settings: Any, *, share: bool, login: bool) -> None:
    """Raises OptionError when strangers could use the page by mistake; a word when that is wanted."""
    if login or (settings.is_local and not share):
        return
    if not (share or settings.allow_open):
        raise OptionError(
            f"{settings.host} can be reached from other machines: set --auth USER:PASSWORD, or let everyone in with "
            "HUAYU_ALLOW_OPEN=1.",
            f"其他机器可以访问 {settings.host}：请设置 --auth 用户名:密码，或用 HUAYU_ALLOW_OPEN=1 允许任何人访问。",
        )
    print(
        say(
            "Anyone who knows the address can use this page (--auth sets a login).",
            "知道地址的人都能使用此网页（可用 --auth 设置登录）。",
        ),
        file=sys.stderr,
    )


def _wait() -> None:
    """Until Ctrl-C or SIGTERM."""
    import signal
    import time

    def end(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        """The end that was waited for."""
