# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options of downloads. The argument spec is in provisioning/urls.py."""

    DOCUMENTATION = r"""
notes:
  - Redirects are followed to http and https only, and never from https to http. The login and O(headers) are only sent to the server in O(url), and not
    to another server that it redirects to.
options:
  url_username:
    description: User name of the login.
    type: str
  url_password:
    description: Password of the login.
    type: str
  force_basic_auth:
    description: Whether to send the login with the first request. By default it is sent when the server asks for it.
    type: bool
    default: false
  headers:
    description: HTTP headers of the request, such as an authorization with a token. Their values are never shown.
    type: dict
  use_proxy:
    description: Whether to use the proxies in the host's environment (C(http_proxy), C(https_proxy), C(no_proxy)).
    type: bool
    default: true
  validate_certs:
    description: Whether the server's certificate must be valid. With V(false), anybody on the network path can pretend to be the server.
    type: bool
    default: true
  ca_path:
    description: A PEM file on the host with the certificates of the trusted authorities.
    type: path
  client_cert:
    description: A PEM file on the host with the client certificate. It must have the key too if O(client_key) is omitted.
    type: path
  client_key:
    description: A PEM file on the host with the key of O(client_cert).
    type: path
  timeout:
    description: Seconds without data after which a connection fails.
    type: int
    default: 60
"""
