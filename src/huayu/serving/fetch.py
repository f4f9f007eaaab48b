"""The bytes of a picture that a request names: a data URL, or a file on a host of the allow-list.

Over the network nothing is taken on trust: each name is resolved once and the connection goes to that very address
(httpcore's network backend is the hook; host name and SNI stay), every address must be public, and every redirect
begins anew. What went wrong is logged; whoever asked learns only that it cannot be fetched.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

import httpcore2 as httpcore
import idna

from huayu.errors import ImageError
from huayu.serving.limits import hold
from huayu.serving.settings import ServeSettings

_LOG = logging.getLogger("huayu.serving.fetch")
MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_HEADERS = [("User-Agent", "huayu"), ("Accept", "image/*"), ("Accept-Encoding", "identity")]

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def picture_from(url: str, settings: ServeSettings) -> bytes:
    """The file behind ``url``: ``data:…;base64,…`` always, http(s) from hosts in ``settings.allow_picture_hosts``.

    Raises ImageError.
    """
    if url[:5].lower() == "data:":
        return _inline(url)
    return await Fetcher(settings).picture(url)


def is_public(address: str) -> bool:
    """True for an address of the open internet; False for any other, and for those that stand for another one."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        stands_for_another = ip.ipv4_mapped or ip.sixtofour or ip.teredo
        if stands_for_another or ip not in _GLOBAL_UNICAST:  # that also leaves out NAT64 and IPv4-compatible ones
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, in the system's order."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Refused(Exception):
    """A URL that is not to be fetched; the reason is for the log."""


@dataclass(frozen=True)
class _Target:
    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> httpcore.URL:
        """In parts, so that no second parser can read it in another way."""
        return httpcore.URL(scheme=self.scheme, host=self.host, port=self.port, target=self.path)


@dataclass(frozen=True)
class Fetcher:
    """Fetches by ``settings``. ``resolve``, ``admits`` and ``tls`` are for networks other than the open internet."""

    settings: ServeSettings
    resolve: Resolve = resolve
    admits: Callable[[str], bool] = is_public
    tls: ssl.SSLContext | None = None

    async def picture(self, url: str) -> bytes:
        """The bytes of a file. Raises ImageError."""
        if not self.settings.allow_picture_hosts:
            raise ImageError(
                "Pictures are not fetched from the network here; send a data URL.",
                "此处不从网络下载图片；请使用 data URL。",
            )
        try:
            async with asyncio.timeout(self.settings.fetch_timeout_s):
                return await self._follow(url)
        except (Refused, OSError, ValueError, TimeoutError, *_LIBRARY) as problem:
            reason = str(problem) if isinstance(problem, Refused) else type(problem).__name__
            _LOG.warning("picture not fetched", extra={"fields": {"reason": reason}})
            raise ImageError("The picture cannot be fetched.", "无法下载图片。") from None

    async def _follow(self, url: str) -> bytes:
        previous = ""
        for _ in range(1 + MAX_REDIRECTS):
            target = parse(url)
            if not is_listed(target.host, target.port, target.scheme, self.settings.allow_picture_hosts):
                raise Refused("host not on the allow-list")
            if previous == "https" and target.scheme == "http":
                raise Refused("redirect from https to http")
            found = await self._get(target)
            if isinstance(found, bytes):
                return found
            url, previous = urljoin(url, found), target.scheme
        raise Refused("too many redirects")

    async def _get(self, target: _Target) -> bytes | str:
        """The file, or where it is to be looked for instead."""
        addresses = await self.resolve(target.host, target.port)
        if not addresses or not all(map(self.admits, addresses)):
            raise Refused("address not public")
        backend = _Pinned(addresses)
        async with (
            httpcore.AsyncConnectionPool(ssl_context=self.tls, network_backend=backend) as pool,
            pool.stream("GET", target.url, headers=_HEADERS) as answer,
        ):
            headers = {name.lower(): value.decode("latin-1") for name, value in answer.headers}
            if answer.status in _REDIRECTS and b"location" in headers:
                return headers[b"location"]
            if answer.status != 200:
                raise Refused(f"status {answer.status}")
            return await self._read(answer)

    async def _read(self, answer: httpcore.Response) -> bytes:
        data = bytearray()
        async for block in answer.aiter_stream():
            data += block
            hold(len(block))
            if len(data) > self.settings.fetch_max_bytes:
                raise Refused("too many bytes")
        return bytes(data)


_LIBRARY = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to addresses found before, whatever the name may resolve to by now."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = list(addresses)
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(self, host: str, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:  # noqa: ARG002
        for address in self._addresses[:-1]:
            try:
                return await self._backend.connect_tcp(address, *args, **options)
            except httpcore.ConnectError:
                continue
        return await self._backend.connect_tcp(self._addresses[-1], *args, **options)


def parse(url: str) -> _Target:
    """Scheme, host in ASCII, port and path of an http(s) URL. Raises Refused for what parsers disagree about."""
    if len(url) > 4096 or re.search(r"[\x00-\x20\x7f\\]", url):
        raise Refused("malformed URL")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Refused("malformed URL") from None
    if parts.scheme not in _PORTS:
        raise Refused("scheme")
    if "@" in parts.netloc:
        raise Refused("user in URL")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (
        "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?") if parts.query else ""
    )
    return _Target(parts.scheme, _ascii(host), _PORTS[parts.scheme] if port is None else port, path)


def _ascii(host: str) -> str:
    if ":" in host:
        if "%" in host:
            raise Refused("address with a zone")
        return str(ipaddress.IPv6Address(host))
    try:
        host = idna.encode(host, uts46=True).decode() if not host.isascii() else host
    except idna.IDNAError:
        raise Refused("malformed host") from None
    if not _HOST.fullmatch(host):
        raise Refused("malformed host")
    return host


def is_listed(host: str, port: int, scheme: str, allowed: Iterable[str]) -> bool:
    """True when an entry covers the host; ports other than the scheme's own must be named."""
    host = host.rstrip(".")
    for entry in allowed:
        name, _, named_port = entry.lower().partition(":")
        fits = name in ("*", host) or (name.startswith("*.") and host.endswith(name[1:]))
        if fits and port == (int(named_port) if named_port else _PORTS[scheme]):
            return True
    return False


def _inline(url: str) -> bytes:
    head, comma, data = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageError("A data URL needs ;base64,", "data URL 需要 ;base64,")
    try:
        return base64.b64decode(b"".join(unquote_to_bytes(data).split()), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("The picture's base64 is not valid.", "图片的 base64 无效。") from None
