"""Pictures that requests name: which addresses are reached, by real servers on loopback addresses."""

from __future__ import annotations

import asyncio
import base64
import http.server
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from huayu.errors import ImageError
from huayu.serving.fetch import Fetcher, Refused, is_listed, is_public, parse, picture_from, resolve
from huayu.serving.settings import ServeSettings

# fmt: off
PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
    "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1",
    "2002:7f00:1::", "2002:808:808::1", "fc00::1", "fd12:3456::1", "fe80::1", "fec0::1", "ff02::1", "ff0e::1",
    "4000::1",
]
SPELLINGS = [
    "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "127.1", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]",
    "localhost", "0", "[::]", "169.254.169.254", "[fe80::1]",
]
# fmt: on
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001:80e::200e"]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_of_the_open_internet_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_fine(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://user@good.example/",
        "http://user:secret@good.example/",
        "http://good.example@evil.example/",
        "http://good.example\\@evil.example/",
        "http://good.example\t.evil.example/",
        "http://good.example\r\nHost: evil/",
        "http://good.example:99999/",
        "http://good.example:-1/",
        "http://good.example:x/",
        "http://[::1%25lo]/",
        "http://[::1/",
        "http://good_.exa mple/",
        "http://good..example/",
        "http://exam%70le.com/",
        "http:///etc/passwd",
        "http:good.example",
        "file:///etc/passwd",
        "ftp://good.example/",
        "gopher://good.example/",
        "//good.example/",
        "good.example",
        "",
        "http://good.example/" + "a" * 5000,
    ],
)
def test_what_parsers_read_differently_is_no_url(url: str) -> None:
    with pytest.raises((Refused, ValueError)):
        parse(url)


def test_a_name_in_other_letters_becomes_one_ascii_host() -> None:
    assert parse("http://GOOD.Example/a b".replace(" ", "%20")).host == "good.example"
    assert parse("http://ｇｏｏｄ.example/").host == "good.example"
    assert parse("https://图片.example/").host.startswith("xn--")
    assert parse("https://good.example/图?q=图#x").path == "/%E5%9B%BE?q=%E5%9B%BE"


@pytest.mark.parametrize(
    ("host", "port", "allowed", "listed"),
    [
        ("a.example", 443, ("a.example",), True),
        ("a.example.", 443, ("a.example",), True),
        ("a.example", 8443, ("a.example",), False),
        ("a.example", 22, ("*",), False),
        ("a.example", 8443, ("a.example:8443",), True),
        ("a.example", 443, ("a.example:8443",), False),
        ("x.a.example", 443, ("a.example",), False),
        ("x.a.example", 443, ("*.a.example",), True),
        ("a.example", 443, ("*.a.example",), False),
        ("evila.example", 443, ("*.a.example",), False),
        ("a.example.evil", 443, ("a.example",), False),
    ],
)
def test_the_allow_list(host: str, port: int, allowed: tuple[str, ...], listed: bool) -> None:
    assert is_listed(host, port, "https", allowed) is listed


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_a_private_address_gets_through_even_when_every_host_is_listed(
    host: str, server: Server
) -> None:
    settings = ServeSettings(allow_picture_hosts=(f"*:{server.port}",))
    with pytest.raises(ImageError, match="cannot be fetched"):
        asyncio.run(picture_from(f"http://{host}:{server.port}/picture", settings))
    assert server.asked == []


def test_off_by_default(server: Server) -> None:
    with pytest.raises(ImageError, match="data URL"):
        asyncio.run(picture_from(f"http://127.0.0.1:{server.port}/picture", ServeSettings()))
    assert server.asked == []


class Server:
    """A real HTTP server on one loopback address that notes what it is asked."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, str | None]] = []
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((self.path, self.headers["Host"]))
                with_suppressed_pipe(self)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.httpd = http.server.ThreadingHTTPServer((address, port), Handler)
        if tls is not None:
            self.httpd.socket = tls.wrap_socket(self.httpd.socket, server_side=True)
        self.port = self.httpd.server_address[1]
        threading.Thread(target=self.httpd.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.httpd.shutdown()
        self.httpd.server_close()


def with_suppressed_pipe(handler: http.server.BaseHTTPRequestHandler) -> None:
    try:
        answer(handler)
    except OSError:
        """The client has left."""


def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
    kind, _, rest = handler.path[1:].partition("/")
    if kind == "to":
        handler.send_response(302)
        handler.send_header("Location", base64.urlsafe_b64decode(rest).decode())
        handler.end_headers()
    elif kind == "slow":
        handler.send_response(200)
        handler.end_headers()
        for _ in range(50):
            handler.wfile.write(b"x")
            time.sleep(0.1)
    elif kind == "endless":
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"x" * 65536)
    elif kind == "gone":
        handler.send_error(404)
    else:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"from " + handler.server.server_address[0].encode())  # type: ignore[attr-defined]


def to(url: str) -> str:
    return "/to/" + base64.urlsafe_b64encode(url.encode()).decode()


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(shared_server: Server) -> Server:
    shared_server.asked.clear()
    return shared_server


@pytest.fixture
def secret(server: Server) -> Iterator[Server]:
    """What nobody may reach: another address, same port."""
    other = Server("127.0.0.2", server.port)
    yield other
    other.close()


def names(**hosts: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """A resolver that gives a name's addresses one call after the other (the last one stays)."""

    async def look_up(host: str, port: int) -> list[str]:
        answers = hosts.get(host.removesuffix(".example"))
        if answers is None:
            return await resolve(host, port)
        return (answers.pop(0) if len(answers) > 1 else answers[0]).split()

    return look_up


def fetcher(server: Server, resolver: Callable[[str, int], Awaitable[list[str]]], **settings: object) -> Fetcher:
    """127.0.0.1 plays the open internet; all else is as it is."""
    allowed = tuple(f"{host}.example:{server.port}" for host in ("good", "other"))
    given = ServeSettings(**{"allow_picture_hosts": allowed, "fetch_timeout_s": 5, **settings})  # type: ignore[arg-type]
    return Fetcher(given, resolver, lambda address: address == "127.0.0.1" or is_public(address))


def get(of: Fetcher, server: Server, path: str = "/picture", host: str = "good.example") -> bytes:
    return asyncio.run(of.picture(f"http://{host}:{server.port}{path}"))


def test_a_listed_host_is_fetched_under_its_own_name(server: Server) -> None:
    of = fetcher(server, names(good=["127.0.0.1"]))
    assert get(of, server) == b"from 127.0.0.1"
    assert server.asked == [("/picture", f"good.example:{server.port}")]


def test_rebinding_finds_the_first_address_or_nothing(server: Server, secret: Server) -> None:
    of = fetcher(server, names(good=["127.0.0.1", "127.0.0.2"]))
    assert get(of, server) == b"from 127.0.0.1"  # the second answer of the name server was never asked for
    with pytest.raises(ImageError):
        get(of, server)
    assert secret.asked == []


def test_rebinding_between_redirects_is_refused(server: Server, secret: Server) -> None:
    of = fetcher(server, names(good=["127.0.0.1", "127.0.0.2"]))
    with pytest.raises(ImageError):
        get(of, server, to("/picture"))
    assert secret.asked == []


def test_one_private_address_among_public_ones_spoils_the_name(server: Server, secret: Server) -> None:
    for both in ("127.0.0.1 127.0.0.2", "127.0.0.2 127.0.0.1", "127.0.0.1 ::1"):
        with pytest.raises(ImageError):
            get(fetcher(server, names(good=[both])), server)
    assert (server.asked, secret.asked) == ([], [])


def test_redirects_are_followed_within_the_list(server: Server) -> None:
    of = fetcher(server, names(good=["127.0.0.1"], other=["127.0.0.1"]))
    assert get(of, server, to(f"http://other.example:{server.port}/picture")) == b"from 127.0.0.1"
    assert [host for _, host in server.asked] == [f"good.example:{server.port}", f"other.example:{server.port}"]


OUTSIDE = ["http://127.0.0.2:{port}/", "http://[::1]:{port}/", "http://2130706434:{port}/", "//127.0.0.2:{port}/"]
OUTSIDE += ["http://evil.example:{port}/", "http://x@good.example:{port}/", "http://good.example:22/", "http://["]


@pytest.mark.parametrize("target", [*OUTSIDE, "file:///etc/passwd"])
def test_redirects_out_of_it_are_not(target: str, server: Server, secret: Server) -> None:
    of = fetcher(server, names(good=["127.0.0.1"], evil=["127.0.0.2"]))
    with pytest.raises(ImageError):
        get(of, server, to(target.format(port=server.port)))
    assert len(server.asked) == 1
    assert secret.asked == []


def test_redirects_in_a_ring_end(server: Server) -> None:
    of = fetcher(server, names(good=["127.0.0.1"]))
    ring = to("/ring")
    for _ in range(5):
        ring = to(ring)
    with pytest.raises(ImageError):
        get(of, server, ring)
    assert len(server.asked) == 4


def test_too_long_too_slow_not_there_all_sound_the_same(server: Server) -> None:
    of = fetcher(server, names(good=["127.0.0.1"]), fetch_max_bytes=100_000, fetch_timeout_s=0.5)
    said = set()
    for path in ("/endless", "/slow", "/gone"):
        begin = time.monotonic()
        with pytest.raises(ImageError) as caught:
            get(of, server, path)
        assert time.monotonic() - begin < 2
        said.add(str(caught.value))
    assert said == {"The picture cannot be fetched."}


def test_a_proxy_of_the_environment_is_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.2:1")
    assert get(fetcher(server, names(good=["127.0.0.1"])), server) == b"from 127.0.0.1"


def test_tls_is_checked_against_the_name_and_not_the_address(tmp_path: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout k -out c"
    names_in_it = ["-subj", "/CN=good.example", "-addext", "subjectAltName=DNS:good.example"]
    subprocess.run([*command.split(), *names_in_it], cwd=tmp_path, check=True, capture_output=True)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(tmp_path / "c", tmp_path / "k")
    asked: list[str | None] = []
    theirs.sni_callback = lambda _socket, name, _context: asked.append(name)
    server = Server(tls=theirs)
    try:
        ours = ssl.create_default_context(cafile=str(tmp_path / "c"))
        base = fetcher(server, names(good=["127.0.0.1"], other=["127.0.0.1"]))
        of = Fetcher(base.settings, base.resolve, base.admits, ours)
        assert asyncio.run(of.picture(f"https://good.example:{server.port}/picture")) == b"from 127.0.0.1"
        with pytest.raises(ImageError):  # the certificate is another's
            asyncio.run(of.picture(f"https://other.example:{server.port}/picture"))
        with pytest.raises(ImageError):  # nobody vouches for it
            asyncio.run(base.picture(f"https://good.example:{server.port}/picture"))
        with pytest.raises(ImageError):  # from https to http
            asyncio.run(of.picture(f"https://good.example:{server.port}{to('http://good.example:1/')}"))
    finally:
        server.close()
    assert asked[0] == "good.example"
    assert asked[1] == "other.example"


def test_data_urls_need_no_network() -> None:
    def inline(url: str) -> bytes:
        return asyncio.run(picture_from(url, ServeSettings()))

    assert inline("data:image/png;base64,aGk=") == b"hi"
    assert inline("DATA:;base64,aG\nk%3D") == b"hi"
    for url in ("data:image/png,hi", "data:image/png;base64", "data:;base64,a", "data:;base64,ä", "data:;base64,a$b="):
        with pytest.raises(ImageError):
            inline(url)
