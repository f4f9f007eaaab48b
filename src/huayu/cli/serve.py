"""``huayu serve``: the models over HTTP, in this process or its workers, until it is interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from huayu.cli.common import Device, Dtype, Ranker, serve_settings
from huayu.errors import OptionError
from huayu.runtime.packages import require

if TYPE_CHECKING:
    from fastapi import FastAPI

Names = list[str] | None


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen at; 127.0.0.1 · 监听地址")] = None,
    port: Annotated[int | None, typer.Option(help="8080 · 端口")] = None,
    api_key: Annotated[Names, typer.Option(help="May be repeated · 密钥，可多个")] = None,
    api_keys_file: Annotated[Path | None, typer.Option(help="Keys, one a line · 密钥文件，每行一个")] = None,
    chat_model: Annotated[Names, typer.Option(help="May be repeated · 看图模型，可多个")] = None,
    paint_model: Annotated[Names, typer.Option(help="May be repeated · 作画模型，可多个")] = None,
    quantize: Annotated[str | None, typer.Option("--quantize", "--quant", help="int8, int4: of chat · 量化")] = None,
    ranker: Ranker = None,
    device: Device = None,
    dtype: Dtype = None,
    memory_budget: Annotated[float | None, typer.Option(help="GB of all models together · 模型内存预算")] = None,
    preload: Annotated[bool, typer.Option("--preload", help="Open models at once · 启动时即载入模型")] = False,
    safety: Annotated[str | None, typer.Option(help="block, blur, allow, off · 安全检查")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer · 答案上限")] = None,
    max_batch: Annotated[int | None, typer.Option(help="Answered together · 同批请求数")] = None,
    max_queue: Annotated[int | None, typer.Option(help="Waiting at most · 最长队列")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds for a request · 单个请求时限")] = None,
    allow_picture_host: Annotated[Names, typer.Option(help="May be fetched from · 允许下载图片的主机")] = None,
    cors_origin: Annotated[Names, typer.Option(help="Sites whose pages may ask · 允许的网页来源")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes · 进程数")] = None,
    drain: Annotated[float | None, typer.Option(help="Seconds to finish at the end · 结束时的等待秒数")] = None,
    log_content: Annotated[bool, typer.Option("--log-content", help="Users' words, too · 日志含用户内容")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="OpenTelemetry · 链路追踪")] = False,
    with_page: Annotated[bool, typer.Option("--web", help="The page at /web, too · 同时提供网页")] = False,
    ray: Annotated[bool, typer.Option("--ray", help="On a Ray cluster · 在 Ray 集群上运行")] = False,
) -> None:
    """Serve models over HTTP · 以 HTTP 提供模型

    OpenAI's routes and VisualGLM's `POST /`. Settings also come from HUAYU_… variables: docs/serving.md.
    """
    given = {
        "host": host, "port": port, "api_keys": tuple(api_key or ()), "api_keys_file": api_keys_file,
        "chat_models": tuple(chat_model or ()), "paint_models": tuple(paint_model or ()), "quantize": quantize,
        "ranker": ranker, "device": device, "dtype": dtype, "memory_budget_gb": memory_budget,
        "preload": preload, "safety": safety,
        "max_tokens": max_tokens, "max_batch": max_batch, "max_queue": max_queue, "request_timeout_s": timeout,
        "allow_picture_hosts": tuple(allow_picture_host or ()), "cors_origins": tuple(cors_origin or ()),
        "workers": workers, "drain_seconds": drain, "log_content": log_content, "trace": trace,
    }  # fmt: skip
    settings = serve_settings("serve", ("fastapi", "prometheus_client", "uvicorn"), given)
    if ray:
        raise typer.Exit(_on_ray(settings, with_page))
    from huayu.serving import server

    if with_page and settings.workers > 1:
        raise OptionError(
            "The page keeps each visitor in one process: use --web with one worker, or huayu web beside the server.",
            "网页需要把每位访客留在同一进程：--web 只能配一个进程；也可在服务之外另开 huayu web。",
        )
    page = {"application": "huayu.cli.serve:with_the_page"} if with_page else {}
    raise typer.Exit(server.serve(settings, **page))


def _on_ray(settings: Any, with_page: bool) -> int:
    require("ray", "scale")
    if with_page or settings.workers > 1:
        raise OptionError(
            "With --ray the page is huayu web; HUAYU_RAY_CHAT_MAX and HUAYU_RAY_PAINT_MAX set the workers.",
            "使用 --ray 时，网页请用 huayu web；进程数由 HUAYU_RAY_CHAT_MAX 与 HUAYU_RAY_PAINT_MAX 设定。",
        )
    from huayu.serving import ray_app

    return ray_app.run(settings)


def with_the_page() -> FastAPI:
    """What each worker serves with ``--web``."""
    from huayu import webui
    from huayu.serving import server

    app = server.application()
    return webui.mount(app, app.state.engine, app.state.shelf, app.state.settings)
