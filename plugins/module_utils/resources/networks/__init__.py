# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Managed networks of a host: bridge, addresses, NAT, published ports, egress rules, DHCP and names.

`leases.py` is what other packages call. The host's state is a pure function of a network's definition and its leases: `nftables.py` and `dnsmasq.py`
compute its texts, and `service.py` makes the host agree with them.
"""
