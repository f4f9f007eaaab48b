"""What is asked and answered, field by field. An unknown field is an error; one that has no effect is not taken."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from huayu.paint.options import SCHEDULERS, SEEDS

Scheduler = Literal["ddpm", "ddim", "dpm++", "unipc", "euler", "pndm"]
assert Scheduler.__args__ == SCHEDULERS  # type: ignore[attr-defined]
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]  # more than any cap of a server
Text = Annotated[str, Field(max_length=100_000)]
StopText = Annotated[str, Field(min_length=1, max_length=1000)]


class Strict(BaseModel):
    """Of a request in JSON: the named fields in their own types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(Strict):
    type: Literal["text"]
    text: Text


class ImageUrl(Strict):
    """``url``: a data URL, or http(s) where the server allows the host. ``detail``: a model reads at one size."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class SystemMessage(Strict):
    role: Literal["system", "developer"]
    content: Text | list[TextPart]


class UserMessage(Strict):
    role: Literal["user"]
    content: Text | list[Part]


class AssistantMessage(Strict):
    """Also as the server sent it."""

    role: Literal["assistant"]
    content: Text | list[TextPart]
    refusal: None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class StreamOptions(Strict):
    include_usage: bool = False


class PlainFormat(Strict):
    type: Literal["text", "json_object"]


class NamedSchema(Strict):
    """``strict``: what is not supported in a schema is refused in any case."""

    name: str
    json_schema: dict[str, JsonValue] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class SchemaFormat(Strict):
    type: Literal["json_schema"]
    json_schema: NamedSchema


Format = Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")]


class ChatRequest(Strict):
    """``POST /v1/chat/completions``. What is null is left to the model.

    With ``temperature`` above 0 or ``top_p`` the answer is sampled; choice i has ``seed`` + i. ``user`` and
    ``metadata`` are labels of the asker's own. Log probabilities and ``store`` only as they do nothing.
    """

    model: str
    messages: list[Message] = Field(min_length=1, max_length=1000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Count | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    seed: Seed | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    response_format: Format | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logprobs: Literal[False] | None = None
    store: Literal[False] | None = None


class Answered(BaseModel):
    """Of an answer."""

    model_config = ConfigDict(extra="forbid")


class VerdictOut(Answered):
    allowed: bool
    label: str
    score: float
    reason_zh: str
    reason_en: str


class UsageOut(Answered):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ReplyOut(Answered):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatExtras(Answered):
    """``verdicts``: what the checks said; ``dropped_turns``: so many of the oldest no longer fitted."""

    verdicts: list[VerdictOut]
    language: str
    dropped_turns: int


FinishReason = Literal["stop", "length", "content_filter"]


class Choice(Answered):
    index: int
    message: ReplyOut
    finish_reason: FinishReason
    logprobs: None = None
    huayu: ChatExtras


class ChatCompletion(Answered):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: UsageOut


class ImageFields(BaseModel):
    """What painting and editing have in common. ``negative_prompt`` to ``candidates`` are huayu's own."""

    model: str | None = None
    n: Count | None = None
    size: Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")] | None = None
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png"] | None = None
    user: str | None = None
    seed: Seed | None = None
    negative_prompt: Text | None = None
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance: Annotated[float, Field(ge=0, le=100)] | None = None
    scheduler: Scheduler | None = None
    candidates: Annotated[int, Field(ge=1, le=16)] | None = None


class ImageRequest(ImageFields, Strict):
    """``POST /v1/images/generations``. Picture i has ``seed`` + i; ``size``: ``512x512``, or ``auto``."""

    prompt: Text


class ImageExtras(Answered):
    """``seed`` paints this picture alone; ``scores`` of its candidates; ``verdicts`` of the picture checks."""

    seed: int
    scores: list[float]
    verdicts: list[VerdictOut]


class ImageOut(Answered):
    b64_json: str
    huayu: ImageExtras


class ImagesExtras(Answered):
    model: str
    verdicts: list[VerdictOut]


class ImagesResponse(Answered):
    """PNG files with their labels. ``huayu.verdicts``: of the prompt."""

    created: int
    data: list[ImageOut]
    output_format: Literal["png"] = "png"
    size: str
    huayu: ImagesExtras


class ErrorDetail(Answered):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Answered):
    error: ErrorDetail


class ModelOut(Answered):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(Answered):
    object: Literal["list"] = "list"
    data: list[ModelOut]


# What every route may answer instead.
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request cannot be done as it is"},
    "5XX": {"model": ErrorBody, "description": "The server cannot do it now"},
}
