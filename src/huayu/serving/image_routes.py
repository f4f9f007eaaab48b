"""``/v1/images``: words, and a picture to change, → labelled PNG files with their seeds, scores and verdicts."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, UploadFile
from PIL import Image, ImageOps
from pydantic import ConfigDict, Field

from huayu.errors import Cancelled
from huayu.paint.options import PaintOptions
from huayu.paint.result import Painted, PaintResult
from huayu.runtime.language import language_of
from huayu.safety import objections
from huayu.serving import limits, schemas
from huayu.serving.engine import PaintJob
from huayu.serving.errors import BadRequest
from huayu.serving.settings import ServeSettings
from huayu.types import Verdict

router = APIRouter(responses=schemas.ERRORS)
MAX_PIXELS = 2048 * 2048


class EditForm(schemas.ImageFields):
    """``POST /v1/images/edits``: repaint ``image`` by ``prompt``.

    Only where the mask is transparent (or, without transparency, white); without a mask, where the picture itself is
    transparent, else all over, ``strength`` in (0, 1] far from it.
    """

    model_config = ConfigDict(extra="forbid")

    image: UploadFile
    prompt: schemas.Text
    mask: UploadFile | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None


@router.post("/v1/images/generations", response_model=schemas.ImagesResponse)
async def generations(asked: schemas.ImageRequest, request: Request) -> Any:
    """Pictures of a prompt."""
    return await _painted(asked, asked.prompt, request, {})


@router.post("/v1/images/edits", response_model=schemas.ImagesResponse)
async def edits(asked: Annotated[EditForm, Form()], request: Request) -> Any:
    """A picture changed by a prompt."""
    settings: ServeSettings = request.app.state.settings
    data = await asked.image.read()
    image = await limits.open_picture(data, settings)
    if asked.mask is None:
        mask = _transparent(data)
    else:
        data = await asked.mask.read()
        opaque = await limits.open_picture(data, settings)
        mask = _transparent(data) or opaque
    return await _painted(asked, asked.prompt, request, {"image": image, "mask": mask, "strength": asked.strength})


def _transparent(data: bytes) -> Image.Image | None:
    """White where a picture is transparent; None for one that is nowhere. It was read before, and is sound."""
    with Image.open(io.BytesIO(data)) as picture:
        if not picture.has_transparency_data:
            return None
        alpha = ImageOps.exif_transpose(picture).convert("RGBA").getchannel("A")
        return ImageOps.invert(alpha) if any(alpha.histogram()[:255]) else None


async def _painted(
    asked: schemas.ImageFields, prompt: str, request: Request, more: dict[str, Any]
) -> schemas.ImagesResponse:
    settings: ServeSettings = request.app.state.settings
    shelf = request.app.state.shelf
    model = asked.model or shelf.default("paint")
    shelf.require(model, "paint")
    limits.check(settings, n=asked.n or 1)
    options = PaintOptions(
        n=asked.n or 1,
        seed=asked.seed,
        size=_size(asked.size),
        steps=asked.steps,
        guidance=asked.guidance,
        negative=asked.negative_prompt or "",
        scheduler=asked.scheduler,
        candidates=asked.candidates or 1,
        **more,
    )
    ticket = await request.app.state.engine.submit(PaintJob(model, prompt, options, settings.request_timeout_s))
    async with ticket:
        result: PaintResult = await ticket.finished()
    if result.finish == "blocked":
        why = objections(result.prompt_verdicts)[0]
        reason = why.reason_zh if language_of(prompt) == "zh" else why.reason_en
        raise BadRequest(reason, reason, param="prompt", code="content_policy_violation")
    if result.finish == "cancelled":
        raise Cancelled
    request.app.state.metrics.pictures.labels(model).inc(len(result.pictures))
    width, height = result.pictures[0].image.size
    return schemas.ImagesResponse(
        created=int(time.time()),
        data=[_out(picture) for picture in result.pictures],
        size=f"{width}x{height}",
        huayu=schemas.ImagesExtras(model=model, verdicts=_verdicts(result.prompt_verdicts)),
    )


def _size(size: str | None) -> tuple[int, int] | None:
    if size is None or size == "auto":
        return None
    width, height = map(int, size.split("x"))
    if width * height > MAX_PIXELS:
        raise BadRequest(
            f"The size {size} is over the cap of {MAX_PIXELS} pixels.", f"大小 {size} 超过 {MAX_PIXELS} 像素的上限。",
            param="size",
        )  # fmt: skip
    return width, height


def _out(picture: Painted) -> schemas.ImageOut:
    from huayu.labelling import label

    buffer = io.BytesIO()
    picture.image.save(buffer, "PNG", pnginfo=label(picture.image, picture.record))
    extras = schemas.ImageExtras(seed=picture.seed, scores=list(picture.scores), verdicts=_verdicts(picture.verdicts))
    return schemas.ImageOut(b64_json=base64.b64encode(buffer.getvalue()).decode("ascii"), huayu=extras)


def _verdicts(verdicts: tuple[Verdict, ...]) -> list[schemas.VerdictOut]:
    return [schemas.VerdictOut(**asdict(verdict)) for verdict in verdicts]
