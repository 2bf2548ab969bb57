#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_report
short_description: Report on the VM sandboxes of a fleet
version_added: 1.0.0
description:
  - Makes one report from what M(kata.hypervisor.kata_sandbox_info) returned on each host of the play. It prints a table, or writes a page of HTML, a file of
    JSON, or a file of metrics for Prometheus, or all of these.
  - The task runs once, on the controller, and the files are files of the controller. The playbooks C(kata.hypervisor.status) and
    C(kata.hypervisor.report) use it.
  - Problems are listed first. A problem is a host that gave no answer, a sandbox that is V(crashed), V(failed), V(incomplete) or V(unresponsive), a
    version of Firecracker with a known vulnerability, and what an ended VM left on its host.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
options:
  results:
    description: The name of the variable in which the hosts registered the result of M(kata.hypervisor.kata_sandbox_info).
    type: str
    default: kata_status
  table:
    description:
      - Whether to print the sandboxes as a table. If the output is a terminal, the table is made to fit its width. Columns that do not fit are left out.
      - The columns with addresses, ports and labels are left out if no sandbox has one.
    type: bool
    default: false
  query:
    description:
      - A JMESPath expression that selects sandboxes for the table (needs jmespath). A result that is not a list of sandboxes is printed as JSON.
    type: str
    default: ""
  page:
    description: Write a page of HTML to this path. It needs no other file and no network.
    type: path
  json:
    description: Write the report as JSON to this path.
    type: path
  metrics:
    description:
      - Write metrics to this path, whose name must end in V(.prom), for the textfile collector of node_exporter.
    type: path
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    support: none
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
seealso:
  - module: kata.hypervisor.kata_sandbox_info
"""

EXAMPLES = r"""
- name: List the sandboxes of each host
  kata.hypervisor.kata_sandbox_info:
  register: kata_status
  ignore_errors: true
  ignore_unreachable: true

- name: Write the report of all hosts
  kata.hypervisor.kata_report:
    page: /srv/www/sandboxes.html
    metrics: /var/lib/node_exporter/kata.prom
"""

RETURN = r"""
problems:
  description: The problems, with the host and the sandbox of each.
  returned: success
  type: list
  elements: dict
  sample: [{host: host2, id: web-3, what: "crashed: QEMU (pid 4711) is gone"}]
hosts:
  description: How many hosts the report has.
  returned: success
  type: int
  sample: 20
sandboxes:
  description: How many sandboxes it has.
  returned: success
  type: int
  sample: 400
files:
  description: The files that were written.
  returned: success
  type: list
  elements: str
  sample: [/srv/www/sandboxes.html]
"""

# The work is done by the action plugin of this name.
