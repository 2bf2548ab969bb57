# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's own machine and its QMP, for a QEMU before 5.2: what the recorded answers are compared with. No sandbox runs on it."""
