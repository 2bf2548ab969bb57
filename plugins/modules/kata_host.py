#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_host
short_description: Prepare a host for VM sandboxes
version_added: 1.0.0
description:
  - Loads kernel modules, creates the group of C(/dev/kvm), an unprivileged user for VMMs and the directories, reserves huge pages, limits the
    resources of all VMMs together and the size of console logs, creates a bridge, and reports missing devices.
  - It is one module, since a role with a task for each of these parts takes many times as long on a fleet of hosts.
  - The role P(kata.hypervisor.kata_host#role) runs it.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.directories
  - kata.hypervisor.attributes
  - kata.hypervisor.attributes.actiongroup_kata
options:
  state:
    description: V(present) prepares the host. V(absent) undoes that, and fails if sandboxes still exist. Packages, groups and loaded modules stay.
    type: str
    choices: [absent, present]
    default: present
  required_devices:
    description: Devices that the host must have. If one is missing, the module fails and says how to get it.
    type: list
    elements: str
    choices: [kvm, tun, vfio, vhost_net, vhost_vsock]
    default: []
  modules:
    description: Kernel modules to load now and at boot. Modules that the kernel does not have are skipped.
    type: list
    elements: str
    default: [kvm, tun, vhost_net, vhost_vsock]
  kvm_group:
    description: The group that may use C(/dev/kvm).
    type: str
    default: kvm
  vmm_user:
    description: An unprivileged user for VMMs that do not need root. Empty for no user.
    type: str
    default: ""
  hugepages:
    description: The number of huge pages of the default size to reserve now and at boot. V(-1) does not change it.
    type: int
    default: -1
  slice_properties:
    description: Properties of C(kata.slice), which contains the units of all VMMs, such as C(MemoryMax=48G). Needs systemd.
    type: list
    elements: str
    default: []
  bridge:
    description: The bridge for the interfaces of sandboxes, created now and at boot. Empty for no bridge. Needs systemd.
    type: str
    default: ""
  bridge_address:
    description: The address of the bridge, with its prefix.
    type: str
    default: ""
  bridge_mac:
    description: The MAC address of the bridge. Required with O(bridge), since the bridge is the gateway of the guests.
    type: str
    default: ""
  console_log_mb:
    description:
      - The largest size of a sandbox's console log, in MiB. A larger log is trimmed to its newer half. At least 8, or 0 for no limit. Needs systemd.
    type: int
    default: 0
seealso:
  - module: kata.hypervisor.kata_host_info
"""

EXAMPLES = r"""
- name: Prepare the host for sandboxes with a tap device
  kata.hypervisor.kata_host:
    vmm_user: kata-vmm
    required_devices: [tun]
    console_log_mb: 16
"""

RETURN = r"""
host:
  description: The host's facts, as returned by M(kata.hypervisor.kata_host_info).
  returned: O(state=present)
  type: dict
  sample: {architecture: x86_64, cpus: 8}
missing_devices:
  description:
    - The devices that the host does not have, or that this task's user cannot open. In check mode, without those whose kernel module would be loaded.
  returned: O(state=present)
  type: list
  elements: str
  sample: [vfio]
actions:
  description: The steps that were taken, or would be taken without check mode.
  returned: success
  type: list
  elements: str
  sample: [create the group kvm]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError, fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import DIRECTORY_SPEC
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.host_files import HostSettings
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.prepared_host import (
    loads,
    prepare,
    undo,
)

#: How to get each device that can be required.
ADVICE = {
    "kvm": "kvm: enable virtualization in the firmware, or nested virtualization if this host is a VM. Without it, QEMU emulates the CPU.",
    "tun": "tun: load the module tun. In a container, pass /dev/net/tun to it.",
    "vfio": "vfio: boot the kernel with intel_iommu=on or amd_iommu=on, and load the module vfio-pci.",
    "vhost_net": "vhost_net: load the module vhost_net, or set vhost: false for interfaces.",
    "vhost_vsock": "vhost_vsock: load the module vhost_vsock. Without it, sandboxes have no vsock.",
}
#: The kernel modules that create each of them; one is enough.
DEVICE_MODULES = {
    "kvm": ("kvm_amd", "kvm_intel"),
    "tun": ("tun",),
    "vfio": ("vfio", "vfio-pci", "vfio_pci"),
    "vhost_net": ("vhost_net",),
    "vhost_vsock": ("vhost_vsock",),
}


def settings_of(params: dict[str, Any]) -> HostSettings:
    """The settings of a task.

    :raises ConfigError: they contradict each other
    """
    if 0 < params["console_log_mb"] < 8 or params["console_log_mb"] < 0:
        raise ConfigError(
            "the limit of console logs must be at least 8, since wait_for reads the last 4 MiB, or 0 for no limit",
            option="console_log_mb",
            wanted=params["console_log_mb"],
        )
    if params["bridge"] and not params["bridge_mac"]:
        raise ConfigError("a bridge must have a fixed MAC address", option="bridge_mac", wanted="")
    return HostSettings(
        state_dir=params["state_dir"],
        run_dir=params["run_dir"],
        modules=tuple(params["modules"]),
        kvm_group=params["kvm_group"],
        vmm_user=params["vmm_user"],
        hugepages=params["hugepages"],
        slice_properties=tuple(params["slice_properties"]),
        bridge=params["bridge"],
        bridge_address=params["bridge_address"],
        bridge_mac=params["bridge_mac"],
        console_log_mb=params["console_log_mb"],
    )


def missing_devices(devices: dict[str, dict[str, Any]], predicted: list[str]) -> list[str]:
    """The devices that this task's user cannot open.

    :param predicted: the actions of check mode; a device counts as there if they load its kernel module
    """
    return [
        name
        for name, device in devices.items()
        if not device["accessible"] and not any(loads(module) in predicted for module in DEVICE_MODULES.get(name, ()))
    ]


def main() -> None:
    """Prepare this host, or undo that."""
    texts: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
    argument_spec: dict[str, Any] = {
        "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
        "required_devices": {**texts, "choices": list(ADVICE)},
        "modules": {**texts, "default": ["kvm", "tun", "vhost_net", "vhost_vsock"]},
        "kvm_group": {"type": "str", "default": "kvm"},
        "vmm_user": {"type": "str", "default": ""},
        "hugepages": {"type": "int", "default": -1},
        "slice_properties": texts,
        "bridge": {"type": "str", "default": ""},
        "bridge_address": {"type": "str", "default": ""},
        "bridge_mac": {"type": "str", "default": ""},
        "console_log_mb": {"type": "int", "default": 0},
        **DIRECTORY_SPEC,
    }
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    with fail_on_error(module):
        settings = settings_of(module.params)
        if module.params["state"] == "absent":
            module.exit_json(**undo(settings, module.check_mode))
        result = prepare(settings, module.check_mode)
        # Imported here, since undoing the preparation needs no driver.
        from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors.host_facts import gather

        host = gather(settings.run_dir, settings.state_dir)
    missing = missing_devices(host["devices"], result["actions"] if module.check_mode else [])
    required = [name for name in module.params["required_devices"] if name in missing]
    if required:
        advice = " ".join(ADVICE[name] for name in required)
        module.fail_json(msg=f"This host has no usable {', '.join(required)}. {advice}", **result)
    module.exit_json(**result, host=host, missing_devices=missing)


if __name__ == "__main__":
    main()
