"""What a server is told: arguments, else the environment (HUAYU_PORT, HUAYU_API_KEYS …), else these defaults."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from huayu.errors import OptionError

MIB = 2**20
Names = Annotated[tuple[str, ...], NoDecode]  # in the environment: separated by commas
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class ServeSettings(BaseSettings):
    """Settings of one server; frozen, an unknown name is an error.

    ``api_keys`` and the lines of ``api_keys_file`` together are the keys; none: the server is open, and then binds only
    to loopback unless ``allow_open``. ``max_pixels`` (per picture) None: the package's own cap.
    ``max_inflight_bytes``: bodies and decoded pictures of all requests being served. ``allow_picture_hosts``: hosts
    that pictures may be fetched from (``img.example.org``, ``img.example.org:8443``, ``*.example.org``, ``*``); empty:
    none. ``memory_budget_gb``: for the parameters of all loaded models; ``preload``: open them at once. ``ranker``: a
    CLIP or Chinese-CLIP (folder or hub id) that scores the candidates of all paint models.
    ``page_path``: where the page is mounted.
    """

    model_config = SettingsConfigDict(env_prefix="HUAYU_", env_parse_none_str="none", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    allow_open: bool = False
    api_keys: Names = Field(default=(), repr=False)
    api_keys_file: Path | None = None
    cors_origins: Names = ()

    chat_models: Names = ("huayu-chat-mini",)
    paint_models: Names = ("huayu-paint-mini",)
    quantize: Literal["int8", "int4"] | None = None
    compile: bool = False
    ranker: str | None = None
    device: str | None = None
    dtype: str | None = None
    memory_budget_gb: Annotated[float, Field(gt=0)] | None = None
    preload: bool = False
    safety: str | None = "default"

    max_body_bytes: Count = 32 * MIB
    max_inflight_bytes: Count = 2048 * MIB
    max_pixels: Count | None = None
    max_pictures: Annotated[int, Field(ge=0)] = 8
    max_tokens: Count = 1024
    max_n: Count = 8
    max_queue: Count = 64
    max_batch: Count = 8
    request_timeout_s: Seconds = 120.0

    allow_picture_hosts: Names = ()
    fetch_timeout_s: Seconds = 10.0
    fetch_max_bytes: Count = 16 * MIB

    workers: Count = 1
    drain_seconds: Annotated[float, Field(ge=0)] = 30.0
    log_content: bool = False
    trace: bool = False
    page_path: str = "/web"

    @field_validator("api_keys", "cors_origins", "chat_models", "paint_models", "allow_picture_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(part.strip() if isinstance(part, str) else part for part in parts if part != "")

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys; in the file one a line, ``#`` begins a comment. Raises OptionError."""
        if self.api_keys_file is None:
            return self.api_keys
        try:
            lines = self.api_keys_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as problem:
            path = self.api_keys_file
            raise OptionError(f"The file of keys {path} cannot be read.", f"无法读取密钥文件 {path}。") from problem
        listed = tuple(key for line in lines if (key := line.split("#", 1)[0].strip()))
        if not listed:  # an emptied file must not open the server
            raise OptionError(f"{self.api_keys_file} has no key.", f"{self.api_keys_file} 中没有密钥。")
        return (*self.api_keys, *listed)

    @property
    def is_local(self) -> bool:
        """True when only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
