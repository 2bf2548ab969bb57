# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads that are taken up again where they broke off (RFC 9110, range requests)."""

from __future__ import annotations

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


def download(url: str, path: str, resume: bool = True) -> int:
    """Bring a URL to a file, in which what a broken download brought stays for the next one; how many bytes it has.

    :param resume: whether what is there already may be the beginning of it
    :raises ConfigError: it is no http or https URL
    :raises AssetError: the server has no such thing, or the connection broke each time
    :raises HostError: the disk is full
    """
    if not url.startswith(("https://", "http://")):
        raise ConfigError("this is no http or https URL", option="url", wanted=url)
    if not resume and os.path.exists(path):
        os.unlink(path)
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(attempt)
        try:
            return _attempt(url, path)
        except urllib.error.HTTPError as error:
            if error.code == 416:
                return os.path.getsize(path)  # There is no more of it; its digest will tell.
            problem = f"{error.code} {error.reason}"
            if error.code < 500:
                break
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = str(getattr(error, "reason", error))
        except OSError as error:
            raise HostError("the download cannot be written", option="url", wanted=url, answer=str(error)) from error
    raise AssetError(
        "it could not be downloaded", option="url", wanted=url, answer=problem, fix="Run the task again: it goes on where it broke off."
    )


def _attempt(url: str, path: str) -> int:
    have = os.path.getsize(path) if os.path.exists(path) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 (only http and https get here)
    with urllib.request.build_opener().open(request, timeout=SILENCE_SECONDS) as answer:
        resumed = answer.status == 206
        left = answer.headers.get("Content-Length")
        received = 0
        with open(path, "ab" if resumed else "wb") as stream:
            while chunk := answer.read(CHUNK):
                stream.write(chunk)
                received += len(chunk)
        if left is not None and received < int(left):
            raise http.client.IncompleteRead(b"", int(left) - received)
    return (have if resumed else 0) + received
