# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How a server is asked for a file. The argument spec: provisioning/urls.py."""

    DOCUMENTATION = r"""
notes:
  - Redirects are followed to http and https only, and never from https to http. The login and O(headers) are for the server that O(url) names, and
    are not sent to another one that it redirects to.
options:
  url_username:
    description: The user to log in as.
    type: str
  url_password:
    description: That user's password.
    type: str
  force_basic_auth:
    description: Whether to send the login with the first request. Without, it is sent when the server asks for it.
    type: bool
    default: false
  headers:
    description: Headers of the request, such as an authorization with a token. Their values are never shown.
    type: dict
  use_proxy:
    description: Whether to use the proxies that the environment of the host names (C(http_proxy), C(https_proxy), C(no_proxy)).
    type: bool
    default: true
  validate_certs:
    description: Whether the server's certificate must be valid. With V(false), anybody on the way can be the server.
    type: bool
    default: true
  ca_path:
    description: A PEM file of the host with certificates of the authorities that count.
    type: path
  client_cert:
    description: A PEM file of the host with the certificate, and the key where O(client_key) is not given, to log in with.
    type: path
  client_key:
    description: A PEM file of the host with the key of O(client_cert).
    type: path
  timeout:
    description: After how many seconds without a byte a connection counts as broken.
    type: int
    default: 60
"""
