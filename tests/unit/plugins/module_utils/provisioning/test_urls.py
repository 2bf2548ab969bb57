# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""URLs as people write them, and servers that answer otherwise than they should; what is secret is never shown."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import http.server
import os
import pathlib
import random
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError, HypervisorError
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning import downloads, urls
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.downloads import download
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.sources import Checksum
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.urls import Access, Url, shown

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTPS://Example.com/a b", "https://Example.com/a%20b"),
        ("https://ex\u00e4mple.com/bild-gr\u00f6\u00dfe.raw", "https://xn--exmple-cua.com/bild-gr%C3%B6%C3%9Fe.raw"),
        ("https://example.com/%C3%B6?q=\u00f6&r=1#part", "https://example.com/%C3%B6?q=%C3%B6&r=1"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("https://\u4f8b\u3048.\u30c6\u30b9\u30c8/", "https://xn--r8jz45g.xn--zckzah/"),
        (f"https://user:{SECRET}@example.com:8443/x", "https://example.com:8443/x"),
    ],
)
def test_urls_in_any_language(text: str, plain: str) -> None:
    assert Url.parse(text).text == plain


def test_a_login_in_a_url_is_taken_out_of_it() -> None:
    assert Url.parse("https://us%40er:p%2Fw@example.com/") == Url("https://example.com/", "us@er", "p/w")
    assert Url.parse("https://user:a@b@example.com/") == Url("https://example.com/", "user", "a@b")
    assert Url.parse("https://example.com/").username is None
    assert SECRET not in repr(Url.parse(f"https://user:{SECRET}@example.com/"))


BROKEN = [
    "ftp://example.com/x",
    "file:///etc/passwd",
    "example.com/x",
    "",
    "http://",
    "http:///x",
    "http://[::1/x",
    "http://[::1]x/",
    "http://[zz]/",
    "http://exam ple.com/",
    "http://example.com:port/",
    "http://example.com:99999/",
    "http://example.com:-1/",
    "http://example.com:\u0663/",
    "http://a..b/",
    "http://" + "a" * 70 + ".com/",
    "http://example.com/\nx",
    "http://exa\0mple.com/",
    "http://\u2100.com/",
    "http://%00/",
]


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_url_is_an_error_with_a_type(text: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="must be an http or https URL"):
        Url.parse(text)
    with pytest.raises(ConfigError):
        download(text, str(tmp_path / "x"))


@pytest.mark.parametrize(
    "text",
    [
        f"http://user:{SECRET}@example.com/x",
        f"http://user:{SECRET} and@example.com/x",
        f"http://user:{SECRET}/and@example.com/x",
        f"http://user:{SECRET}?and@example.com/x",
        f"http://user:{SECRET}#and@example.com/x",
        f"http://user:{SECRET}@and@example.com/x",
        f"http://user:a@{SECRET}/b@example.com/x",
        f"http://{SECRET}@example.com/x",
        f"ftp://user:{SECRET}@example.com/x",
        f"user:{SECRET}@example.com/x",
        f"http://user:{SECRET}@[::1/x",
        f"http://user:{SECRET}@example.com:port/x",
        f"https://example.com/x?token={SECRET}&a=b",
        f"https://example.com/x?a=b&X-Amz-Signature={SECRET}",
    ],
)
def test_a_password_is_never_shown(text: str, tmp_path: pathlib.Path) -> None:
    assert SECRET not in shown(text)
    with pytest.raises(HypervisorError) as caught:
        Url.parse(text) if "token" not in text and "Sign" not in text else Url.parse(text + "\n")
        raise ConfigError(shown(text))
    assert SECRET not in str(caught.value) + repr(caught.value.as_result())
    with pytest.raises(ConfigError) as refused:
        Checksum.parse(f"sha256:{text}")
    assert SECRET not in str(refused.value) + repr(refused.value.as_result())


def test_what_is_no_secret_is_shown() -> None:
    for text in (
        "https://example.com/a@b/c?x=1",
        "https://example.com:8080/c",
        "http://[::1]:80/x",
        "http://example.com",
    ):
        assert shown(text) == text


def test_whatever_is_in_a_url_the_error_is_typed() -> None:
    chance = random.Random(8)
    seed = f"https://user:{SECRET}@example.com:443/path?query=1#part"
    letters = "/?#@:[]%\\ \n\0\u00e4\u2100\u3002.&="
    outcomes = set()
    for _number in range(5000):
        text = list(seed)
        for _change in range(chance.randint(1, 4)):
            text[chance.randrange(4, len(text))] = chance.choice(letters)
        try:
            assert SECRET not in Url.parse("".join(text)).origin[1]
            outcomes.add("taken")
        except ConfigError as problem:
            if f":{SECRET}@" in "".join(text):
                assert SECRET not in str(problem), "".join(text)
            outcomes.add("refused")
    assert outcomes == {"taken", "refused"}


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"headers": {"a b": "c"}}, {"headers": {"a": "b\r\nc: d"}}, {"client_key": "/key"}],
)
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Access.parse(options)


# --- servers -------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Server:
    """What a server answers, and what it was asked.

    :param answer: the code, the headers and the content for a path
    """

    address: str = ""
    answer: Callable[[str], tuple[int, dict[str, str], bytes]] = lambda _path: (200, {}, b"content")
    asked: list[tuple[str, dict[str, str]]] = dataclasses.field(default_factory=list)


def start(tls: ssl.SSLContext | None = None) -> tuple[Server, http.server.ThreadingHTTPServer]:
    behaviour = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            code, headers, content = behaviour.answer(self.path)
            self.send_response(code)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    made = Quiet(("127.0.0.1", 0), Handler)
    if tls:
        made.socket = tls.wrap_socket(made.socket, server_side=True)
    threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True).start()
    behaviour.address = f"http{'s' if tls else ''}://127.0.0.1:{made.server_port}"
    return behaviour, made


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Server]]:
    """Two servers, which are two origins."""
    monkeypatch.setattr(downloads.time, "sleep", lambda _: None)
    started = [start(), start()]
    yield started[0][0], started[1][0]
    for _behaviour, made in started:
        made.shutdown()
        made.server_close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An authority that is its own server and client."""
    directory = tmp_path_factory.mktemp("certificates")
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    argv += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    try:
        subprocess.run(argv, cwd=directory, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("this machine has no openssl")
    return directory


@pytest.fixture
def secure(certificates: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with a certificate that asks for one of the client's."""
    monkeypatch.setattr(downloads.time, "sleep", lambda _: None)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "cert.pem"))
    tls.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    tls.verify_mode = ssl.CERT_OPTIONAL
    behaviour, made = start(tls)
    yield behaviour
    made.shutdown()
    made.server_close()


def test_a_login_and_headers_go_to_the_server_and_to_no_other(
    servers: tuple[Server, Server], tmp_path: pathlib.Path
) -> None:
    first, second = servers
    first.answer = lambda path: (
        (302, {"Location": "/there"}, b"") if path == "/x" else (302, {"Location": f"{second.address}/y"}, b"")
    )
    access = Access(url_username="user", url_password=SECRET, force_basic_auth=True, headers={"X-Token": "t"})
    assert download(f"{first.address}/x", str(tmp_path / "x"), access=access) == len(b"content")
    login = "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()
    assert [(path, headers.get("authorization"), headers.get("x-token")) for path, headers in first.asked] == [
        ("/x", login, "t"),
        ("/there", login, "t"),
    ]
    assert [(path, headers.get("authorization"), headers.get("x-token")) for path, headers in second.asked] == [
        ("/y", None, None)
    ]


def test_a_login_in_the_url_is_sent_when_the_server_asks(
    servers: tuple[Server, Server], tmp_path: pathlib.Path
) -> None:
    first, _second = servers

    def answer(_path: str) -> tuple[int, dict[str, str], bytes]:
        return (
            (200, {}, b"content")
            if "authorization" in first.asked[-1][1]
            else (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
        )

    first.answer = answer
    address = first.address.replace("://", f"://user:{SECRET}@")
    assert download(f"{address}/x", str(tmp_path / "x")) == len(b"content")
    first.answer = lambda _path: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    with pytest.raises(AssetError, match="401") as caught:
        download(f"{address}/x", str(tmp_path / "y"))
    assert "url_username" in caught.value.fix and SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[", "gopher://x/", "data:text/plain,x", "http://a b/"]
)
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_lead_to_http_and_https_only(
    servers: tuple[Server, Server], tmp_path: pathlib.Path, target: str, code: int
) -> None:
    first, _second = servers
    first.answer = lambda _path: (code, {"Location": target}, b"")
    with pytest.raises(AssetError, match=r"redirects to|could not be downloaded\b.*Invalid IPv6 URL"):
        download(f"{first.address}/x", str(tmp_path / "x"))
    assert len(first.asked) == 1 and not (tmp_path / "x").exists()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_never_leads_from_https_to_http(
    secure: Server, servers: tuple[Server, Server], certificates: pathlib.Path, tmp_path: pathlib.Path, code: int
) -> None:
    secure.answer = lambda path: (
        (200, {}, b"content")
        if path == "/z"
        else (code, {"Location": f"{servers[0].address}/y" if path == "/x" else "/z"}, b"")
    )
    access = Access(ca_path=str(certificates / "cert.pem"))
    with pytest.raises(AssetError, match="not protected as https is"):
        download(f"{secure.address}/x", str(tmp_path / "x"), access=access)
    assert servers[0].asked == []
    assert download(f"{secure.address}/w", str(tmp_path / "x"), access=access) == len(b"content")


def test_a_redirect_in_a_circle(servers: tuple[Server, Server], tmp_path: pathlib.Path) -> None:
    servers[0].answer = lambda _path: (302, {"Location": "/x"}, b"")
    with pytest.raises(AssetError, match="more than 10 times"):
        download(f"{servers[0].address}/x", str(tmp_path / "x"))


def test_a_login_in_a_redirect_is_neither_used_nor_shown(
    servers: tuple[Server, Server], tmp_path: pathlib.Path
) -> None:
    first, second = servers
    target = second.address.replace("://", f"://user:{SECRET}@")
    first.answer = lambda _path: (302, {"Location": f"{target}/y"}, b"")
    second.answer = lambda _path: (404, {}, b"")
    with pytest.raises(AssetError, match="404") as caught:
        download(f"{first.address}/x", str(tmp_path / "x"))
    assert SECRET not in str(caught.value) and "authorization" not in second.asked[0][1]
    first.answer = lambda _path: (302, {"Location": f"ftp://user:{SECRET}@h/y"}, b"")
    with pytest.raises(AssetError, match="redirects to") as caught:
        download(f"{first.address}/x", str(tmp_path / "x"))
    assert SECRET not in str(caught.value)


def test_whose_certificates_count(secure: Server, certificates: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(AssetError, match="could not be downloaded") as caught:
        download(f"{secure.address}/x", str(tmp_path / "x"))
    assert "certificate" in caught.value.answer.lower()
    assert len(secure.asked) == 0
    assert (
        download(f"{secure.address}/x", str(tmp_path / "x"), access=Access(ca_path=str(certificates / "cert.pem"))) == 7
    )
    assert download(f"{secure.address}/x", str(tmp_path / "y"), access=Access(validate_certs=False)) == 7


def test_the_clients_certificate(
    certificates: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads.time, "sleep", lambda _: None)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "cert.pem"))
    tls.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    behaviour, made = start(tls)
    try:
        authority = str(certificates / "cert.pem")
        access = Access(ca_path=authority, client_cert=authority, client_key=str(certificates / "key.pem"))
        assert download(f"{behaviour.address}/x", str(tmp_path / "x"), access=access) == 7
        with pytest.raises(AssetError):
            download(f"{behaviour.address}/x", str(tmp_path / "y"), access=Access(ca_path=authority))
        with pytest.raises(AssetError):
            download(
                f"{behaviour.address}/x", str(tmp_path / "y"), access=Access(ca_path=authority, client_cert="/nowhere")
            )
    finally:
        made.shutdown()
        made.server_close()


def test_a_proxy_is_used_unless_the_task_says_otherwise(
    servers: tuple[Server, Server], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, proxy = servers
    monkeypatch.setenv("http_proxy", proxy.address)
    monkeypatch.delenv("no_proxy", raising=False)
    proxy.answer = lambda _path: (200, {}, b"by the proxy")
    download(f"{first.address}/x", str(tmp_path / "x"))
    assert (tmp_path / "x").read_bytes() == b"by the proxy" and first.asked == []
    download(f"{first.address}/x", str(tmp_path / "y"), access=Access(use_proxy=False))
    assert (tmp_path / "y").read_bytes() == b"content"


@pytest.mark.parametrize("length", ["abc", "-1", "1e3", "", " ", "9" * 30, "7, 7"])
def test_a_length_that_is_no_number(servers: tuple[Server, Server], tmp_path: pathlib.Path, length: str) -> None:
    servers[0].answer = lambda _path: (200, {"Content-Length": length}, b"content")
    if length.strip():
        with pytest.raises(AssetError, match="could not be downloaded") as caught:
            download(f"{servers[0].address}/x", str(tmp_path / "x"))
        assert "Content-Length" in caught.value.answer
        assert len(servers[0].asked) == 1
    else:
        assert download(f"{servers[0].address}/x", str(tmp_path / "x")) == 7


def test_another_part_than_the_one_that_was_asked_for(servers: tuple[Server, Server], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"con")

    def answer(_path: str) -> tuple[int, dict[str, str], bytes]:
        if "range" in servers[0].asked[-1][1]:
            return 206, {"Content-Range": "bytes 0-6/7"}, b"content"
        return 200, {}, b"content"

    servers[0].answer = answer
    assert download(f"{servers[0].address}/x", str(path)) == 7
    assert path.read_bytes() == b"content"


def test_a_list_is_bounded_and_found(servers: tuple[Server, Server]) -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    first, _second = servers
    first.answer = lambda path: (200, {}, f"{digest}  im\u00e4ge.raw\n".encode()) if path == "/SUMS" else (200, {}, b"")
    checksum = Checksum.parse(f"sha256:{first.address}/SUMS", f"{first.address}/im%C3%A4ge.raw?x=1")
    assert first.asked == []  # Not before it is needed.
    assert checksum.digest == digest and checksum.recorded == f"sha256:{first.address}/SUMS"
    with pytest.raises(AssetError, match="no sha512 digest"):
        assert Checksum.parse(f"sha512:{first.address}/SUMS", f"{first.address}/im%C3%A4ge.raw").digest
    with pytest.raises(AssetError, match="lists no digests"):
        assert Checksum.parse(f"sha256:{first.address}/empty", f"{first.address}/x").digest
    with pytest.raises(ConfigError, match="must be given with url"):
        Checksum.parse(f"sha256:{first.address}/SUMS")
    first.answer = lambda _path: (200, {}, b"x" * (5 << 20))
    with pytest.raises(AssetError, match="at most"):
        assert Checksum.parse(f"sha256:{first.address}/SUMS", f"{first.address}/x").digest


def test_a_download_has_holes_for_zeros(servers: tuple[Server, Server], tmp_path: pathlib.Path) -> None:
    content = bytes(8 << 20) + b"x" + bytes(8 << 20)
    servers[0].answer = lambda _path: (200, {}, content)
    assert download(f"{servers[0].address}/x", str(tmp_path / "x")) == len(content)
    assert (tmp_path / "x").read_bytes() == content
    assert os.stat(tmp_path / "x").st_blocks * 512 < 1 << 20


def test_a_silent_server_has_a_limit(servers: tuple[Server, Server], tmp_path: pathlib.Path) -> None:
    release = threading.Event()
    servers[0].answer = lambda _path: (release.wait(20) and None) or (200, {}, b"")
    with pytest.raises(AssetError, match="could not be downloaded") as caught:
        download(f"{servers[0].address}/x", str(tmp_path / "x"), access=Access(timeout=1))
    assert "timed out" in caught.value.answer
    release.set()


def test_the_names_of_the_options_are_those_of_the_object() -> None:
    assert set(urls.ACCESS_SPEC) == {field.name for field in dataclasses.fields(Access)}
