# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads that are taken up again where they broke off (RFC 9110, range requests)."""

from __future__ import annotations

import errno
import http.client
import os
import time
import urllib.error
import urllib.request

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import AssetError, ConfigError, HostError

CHUNK = 1 << 20
#: Seconds without a byte after which a connection counts as broken, and how often it is made again.
SILENCE_SECONDS = 60
ATTEMPTS = 4


class Unfinished(Exception):
    """The time that a download was given is over; it goes on where it is when it is asked for again.

    :param received: bytes that are there
    :param total: bytes that there will be, 0 where the server does not tell
    """

    def __init__(self, received: int, total: int) -> None:
        super().__init__(f"{received} of {total} bytes")
        self.received = received
        self.total = total


def download(url: str, path: str, resume: bool = True, seconds: float = 0) -> int:
    """Bring a URL to a file, in which what a broken download brought stays for the next one; how many bytes it has.

    :param resume: whether what is there already may be the beginning of it
    :param seconds: how long it may take before it is told how far it is; 0 for as long as it takes. A server that cannot go on in the middle
        is not interrupted.
    :raises Unfinished: the time is over
    :raises ConfigError: it is no http or https URL
    :raises AssetError: the server has no such thing, or the connection broke each time
    :raises HostError: the file cannot be written
    """
    if not url.startswith(("https://", "http://")):
        raise ConfigError("this is no http or https URL", option="url", wanted=url)
    if not resume and os.path.exists(path):
        os.unlink(path)
    deadline = time.monotonic() + seconds if seconds and resume else 0
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(attempt)
        try:
            return _attempt(url, path, deadline)
        except urllib.error.HTTPError as error:
            if error.code == 416:
                return os.path.getsize(path)  # There is no more of it; its digest will tell.
            problem = f"{error.code} {error.reason}"
            if error.code < 500:
                break
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = str(getattr(error, "reason", error))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            if full:
                os.unlink(path)  # What is worth keeping on a full disk is the room.
            raise HostError(
                "the disk is full" if full else "the download cannot be written",
                option="url",
                wanted=url,
                answer=str(error),
                fix="What was installed before is still there." + (" Make room there." if full else ""),
            ) from error
    raise AssetError(
        "it could not be downloaded", option="url", wanted=url, answer=problem, fix="Run the task again: it goes on where it broke off."
    )


def _attempt(url: str, path: str, deadline: float) -> int:
    have = os.path.getsize(path) if os.path.exists(path) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 (only http and https get here)
    with urllib.request.build_opener().open(request, timeout=SILENCE_SECONDS) as answer:
        resumed = answer.status == 206
        resumable = resumed or (not have and answer.headers.get("Accept-Ranges", "").lower() == "bytes")
        left = int(answer.headers.get("Content-Length") or 0)
        begun = have if resumed else 0
        received = 0
        with open(path, "ab" if resumed else "wb") as stream:
            # What has come is taken, however little: a slow server must not hide how far it is.
            while chunk := answer.read1(CHUNK):
                stream.write(chunk)
                received += len(chunk)
                if deadline and resumable and time.monotonic() > deadline and received != left:
                    stream.flush()
                    raise Unfinished(begun + received, begun + left if left else 0)
        if received < left:
            raise http.client.IncompleteRead(b"", left - received)
    return begun + received
