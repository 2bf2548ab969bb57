# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download files over http and https, and resume interrupted downloads (RFC 9110, range requests)."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import ssl
import time
import urllib.error
from typing import Any, Iterator

from ..errors import AssetError, HypervisorError
from ..host.atomic_files import write_problem
from ..host.sparse_files import Writer
from .compression import MOST_BYTES
from .urls import Access, Url, request, shown

CHUNK = 1 << 20
#: How often a broken connection is opened again.
ATTEMPTS = 4


class Unfinished(Exception):
    """The time for this part of a download is over. The next call of `download` resumes it.

    :param received: bytes received so far
    :param total: size of the file in bytes, 0 if the server does not report it
    """

    def __init__(self, received: int, total: int) -> None:
        super().__init__(f"{received} of {total} bytes")
        self.received = received
        self.total = total


class _Refused(Exception):
    """The server's answer cannot be used, and another attempt would not help."""


class _Broken(Exception):
    """The connection broke, or the server failed. Another attempt may help."""


def download(url: str, path: str, resume: bool = True, seconds: float = 0, access: Access | None = None) -> int:
    """Download a URL to a file. An interrupted download keeps its part, and the next one resumes it. Returns the size in bytes.

    :param resume: whether an existing file may be the beginning of the download
    :param seconds: time limit after which `Unfinished` is raised; 0 for none. If the server does not support ranges, the limit does not
        apply.
    :raises Unfinished: the time is over
    :raises ConfigError: it is not an http or https URL
    :raises AssetError: the server does not have the file, its redirect is refused, or the connection broke each time
    :raises HostError: the file cannot be written
    """
    Url.parse(url)
    if not resume:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    deadline = time.monotonic() + seconds if seconds and resume else 0
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(attempt)
        try:
            return _attempt(url, path, deadline, access or Access())
        except _Broken as broken:
            problem = str(broken)
        except _Refused as refused:
            problem = str(refused)
            break
    fix = "Run the task again: it resumes the download."
    if problem.startswith(("401", "403")):
        fix = "Set url_username and url_password, or headers."
    raise AssetError("the file could not be downloaded", option="url", wanted=shown(url), answer=problem, fix=fix)


def fetch_text(url: str, most: int, access: Access, option: str) -> bytes:
    """Download a small file, such as a list of digests. Returns its content.

    :param most: its largest size, bytes
    :raises ConfigError: as `download`
    :raises AssetError: as `download`, or it is larger
    """
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(attempt)
        try:
            with _answer(url, access, {}, option) as answer, _broken():
                data: bytes = answer.read(most + 1)
        except _Broken as broken:
            problem = str(broken)
            continue
        except _Refused as refused:
            problem = str(refused)
            break
        if len(data) > most:
            raise AssetError(f"must have at most {most} bytes", option=option, wanted=shown(url))
        return data
    raise AssetError("the file could not be downloaded", option=option, wanted=shown(url), answer=problem)


@contextlib.contextmanager
def _broken() -> Iterator[None]:
    """Raise `_Broken` for errors of the connection in this block."""
    try:
        yield
    except (http.client.HTTPException, OSError) as problem:
        raise _Broken(str(problem) or type(problem).__name__) from problem


def _answer(url: str, access: Access, extra: dict[str, str], option: str = "url") -> Any:
    """The server's answer, open."""
    try:
        return request(url, access, extra, option)
    except HypervisorError:
        raise
    except urllib.error.HTTPError as error:
        if error.code == 416 and "Range" in extra:
            raise
        words = f"{error.code} {error.reason}"
        error.close()
        raise (_Broken if error.code >= 500 or error.code == 429 else _Refused)(words) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as problem:
        reason = getattr(problem, "reason", problem)
        # An invalid certificate stays invalid.
        kind = _Refused if isinstance(reason, ssl.SSLCertVerificationError) else _Broken
        raise kind(str(reason) or type(problem).__name__) from problem
    except Exception as problem:
        # open_url raises errors of its own (certificates, missing Python modules), and those of its arguments.
        raise _Refused(str(problem) or type(problem).__name__) from problem


def _attempt(url: str, path: str, deadline: float, access: Access) -> int:
    have = os.path.getsize(path) if os.path.exists(path) else 0
    try:
        answer = _answer(url, access, {"Range": f"bytes={have}-"} if have else {})
    except urllib.error.HTTPError:
        return have  # There is no more data; the digest is checked later.
    with answer:
        resumed = answer.status == 206
        if resumed and not _goes_on_at(answer, have):
            os.unlink(path)
            raise _Broken("the server must send the requested part")
        resumable = resumed or (not have and answer.headers.get("Accept-Ranges", "").lower() == "bytes")
        left = _content_length(answer)
        begun = have if resumed else 0
        return begun + _receive(answer, url, path, begun, left, deadline if resumable else 0)


def _goes_on_at(answer: Any, have: int) -> bool:
    match = re.match(r"bytes (\d{1,18})-", answer.headers.get("Content-Range") or "")
    return match is None or int(match[1]) == have


def _content_length(answer: Any) -> int:
    """How many bytes follow; 0 if the server does not report it."""
    text = (answer.headers.get("Content-Length") or "0").strip()
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise _Refused(f"the server's answer has an invalid Content-Length: {text[:40]!r}")
    return int(text)


def _receive(answer: Any, url: str, path: str, begun: int, left: int, deadline: float) -> int:
    """Append the answer's data to the file. Returns how many bytes it was."""
    received = 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            writer = Writer(descriptor, begun)
            try:
                # Data is read as it comes, even a few bytes: otherwise the progress of a slow download would not be visible.
                while chunk := _next(answer):
                    writer.write(chunk)
                    received += len(chunk)
                    if begun + received > MOST_BYTES:
                        raise _Refused(f"a download must have at most {MOST_BYTES >> 30} GiB")
                    if deadline and time.monotonic() > deadline and received != left:
                        raise Unfinished(begun + received, begun + left if left else 0)
            finally:
                writer.finish()
        finally:
            os.close(descriptor)
    except OSError as error:
        problem = write_problem(error, "the download cannot be written", shown(url), "url")
        if problem.message == "the disk is full":
            os.unlink(path)  # On a full disk, free space is worth more than a part of a download.
        raise problem from error
    if received < left:
        raise _Broken(f"the connection ended after {received} of {left} bytes")
    return received


def _next(answer: Any) -> bytes:
    with _broken():
        data: bytes = answer.read1(CHUNK)
        return data
