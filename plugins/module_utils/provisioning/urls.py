# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests over http and https, through `ansible.module_utils.urls`: login, headers, certificates, proxies; redirects that are checked.

A password in a URL is taken out of it before anything else happens, and a URL is only shown by `shown`.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from typing import Any

from ..errors import AssetError, ConfigError

#: Seconds without a byte after which a connection counts as broken.
SILENCE_SECONDS = 60
MOST_REDIRECTS = 10
SCHEMES = ("https", "http")

#: The options of a task; doc_fragments/downloads.py describes them.
ACCESS_SPEC: dict[str, dict[str, Any]] = {
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    "force_basic_auth": {"type": "bool", "default": False},
    "headers": {"type": "dict", "no_log": True},
    "use_proxy": {"type": "bool", "default": True},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "timeout": {"type": "int", "default": SILENCE_SECONDS},
}

_HOST = re.compile(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]")
#: Parameters of a query that are secret.
_SECRET = re.compile(r"([?&][^=&#]*(?:pass|pwd|token|secret|sig|key|auth|credential)[^=&#]*=)[^&#]*", re.IGNORECASE)
_MASK = "********"


@dataclasses.dataclass(frozen=True)
class Access:
    """How a server is asked: who asks, and which certificates count."""

    url_username: str | None = None
    url_password: str | None = dataclasses.field(default=None, repr=False)
    force_basic_auth: bool = False
    headers: dict[str, str] | None = dataclasses.field(default=None, repr=False)
    use_proxy: bool = True
    validate_certs: bool = True
    ca_path: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    timeout: int = 0

    @classmethod
    def parse(cls, options: dict[str, Any]) -> Access:
        """From a task's options.

        :raises ConfigError: one of them cannot be
        """
        given = {name: options[name] for name in ACCESS_SPEC if options.get(name) is not None}
        if given.get("timeout", 1) < 1:
            raise ConfigError("must be at least 1", option="timeout", wanted=given["timeout"])
        if "headers" in given:
            given["headers"] = {str(name): str(value) for name, value in given["headers"].items()}
            for name, value in given["headers"].items():
                if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or re.search(r"[\0\r\n]", value):
                    raise ConfigError(
                        "the name of a header must be a word, and its value one line", option="headers", wanted=name
                    )
        if given.get("client_key") and not given.get("client_cert"):
            raise ConfigError(
                "client_cert must be given with client_key", option="client_key", wanted=given["client_key"]
            )
        return cls(**given)


@dataclasses.dataclass(frozen=True)
class Url:
    """A URL as it is requested, and the login that was in it.

    :param text: only ASCII, without a login
    """

    text: str
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str, option: str = "url") -> Url:
        """A URL as people write it: names and paths in any language.

        :raises ConfigError: it is no http or https URL, or its host is none
        """

        def wrong(why: str) -> ConfigError:
            return ConfigError(f"this must be an http or https URL: {why}", option=option, wanted=shown(text))

        if not text.lower().startswith(("https://", "http://")):
            raise wrong("it begins with neither http:// nor https://")
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
            raise wrong("it has a control character")
        try:
            parts = urllib.parse.urlsplit(text)
            login, at, place = parts.netloc.rpartition("@")
            host, port = _split_port(place)
            if not host.startswith("["):
                host = host.encode("idna").decode("ascii")
        except (ValueError, UnicodeError) as problem:
            raise wrong("its host or its port is wrong") from problem
        if not _HOST.fullmatch(host):
            raise wrong("its host is none")
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise wrong("its port must be a number from 1 to 65535")
        path = urllib.parse.quote(parts.path, safe="/%:=&+!$,;'@()*~")
        query = urllib.parse.quote(parts.query, safe="/%:=&+!$,;'@()*~?[]|")
        plain = urllib.parse.urlunsplit(
            (parts.scheme.lower(), f"{host}:{port}" if port else host, path or "/", query, "")
        )
        username, colon, password = login.partition(":")
        return cls(
            plain, urllib.parse.unquote(username) if at else None, urllib.parse.unquote(password) if colon else None
        )

    @property
    def origin(self) -> tuple[str, str]:
        """What a login is for: scheme, and host with port."""
        parts = urllib.parse.urlsplit(self.text)
        return parts.scheme, parts.netloc.lower()


def _split_port(place: str) -> tuple[str, str]:
    if place.startswith("["):
        host, bracket, rest = place.partition("]")
        if rest and not rest.startswith(":"):
            raise ValueError("after the address")
        return host + bracket, rest[1:]
    host, _colon, port = place.partition(":")
    return host, port


def shown(text: str) -> str:
    """A URL for people, without a login and without what is secret in its query, whatever else is wrong with it."""
    scheme, marks, rest = text.partition("://")
    if not marks:
        scheme, rest = "", text
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # A password with a slash or the like in it ends the host too early, so all up to the last @ may be the login: better too much than too little.
    login = rest.rpartition("@")[0]
    if marks and "@" not in place and ":" not in login and re.fullmatch(r"[\w.\[\]:%-]+", place):
        login = ""
    if login:
        rest = f"{_MASK}@{rest[len(login) + 1 :]}"
    text = scheme + marks + _SECRET.sub(r"\1" + _MASK, rest)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def request(text: str, access: Access, extra: dict[str, str] | None = None, option: str = "url") -> Any:
    """Ask for a URL; the answer, open, as `http.client.HTTPResponse`.

    Redirects are followed to http and https only, and never from https to http. The login and the task's headers are for the first server alone.

    :param extra: headers of ours
    :raises ConfigError: the URL cannot be one
    :raises AssetError: a redirect leads where it must not
    :raises Exception: what `open_url` raises
    """
    # Python's own modules for it take 50 ms to load.
    import urllib.error

    from ansible.module_utils.urls import open_url

    url = first = Url.parse(text, option)
    for _number in range(MOST_REDIRECTS + 1):
        ours = url.origin == first.origin
        try:
            return open_url(  # type: ignore[no-untyped-call]
                url.text,
                headers={**(access.headers or {} if ours else {}), "Accept-Encoding": "identity", **(extra or {})},
                use_proxy=access.use_proxy,
                timeout=access.timeout or SILENCE_SECONDS,
                validate_certs=access.validate_certs,
                url_username=(access.url_username or first.username) if ours else None,
                url_password=(access.url_password or first.password) if ours else None,
                force_basic_auth=access.force_basic_auth and ours,
                client_cert=access.client_cert if ours else None,
                client_key=access.client_key if ours else None,
                ca_path=access.ca_path,
                http_agent="ansible-kata.hypervisor",
                follow_redirects="none",
                decompress=False,
            )
        except urllib.error.HTTPError as answer:
            if answer.code not in (301, 302, 303, 307, 308):
                raise
            target = answer.headers.get("Location") or ""
            answer.close()
            url = _redirected(url, target, option)
    raise AssetError(f"the server redirects more than {MOST_REDIRECTS} times", option=option, wanted=shown(text))


def _redirected(url: Url, target: str, option: str) -> Url:
    """Where a redirect leads.

    :raises AssetError: it is no http or https URL, or it leads from https to http
    """

    def refused(why: str) -> AssetError:
        return AssetError(
            f"the server redirects to {shown(joined)}, {why}",
            option=option,
            wanted=shown(url.text),
            fix="Nothing was changed. Give the URL of the file itself, or ask whoever runs the server.",
        )

    # http.client hands headers on as Latin-1.
    joined = target.encode("latin-1", "replace").decode("utf-8", "replace")
    try:
        joined = urllib.parse.urljoin(url.text, joined)
        found = Url.parse(joined, option)
    except (ConfigError, ValueError) as problem:
        raise refused("which is no http or https URL") from problem
    if url.text.startswith("https:") and not found.text.startswith("https:"):
        raise refused("which is not protected as https is")
    return dataclasses.replace(found, username=None, password=None)
