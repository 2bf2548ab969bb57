#!/usr/bin/python
# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kata_sandbox
short_description: Run a VM sandbox on a host
version_added: 1.0.0
description:
  - Creates, starts, pauses, resumes, resizes, saves, restores, stops and removes one VM sandbox by driving the hypervisor directly. The host needs
    nothing but the VMM and Python.
  - Only the options given in the task are changed. Omitted options keep their current value. Defaults apply only when the sandbox is created.
  - The task's options are compared with what the VMM reports, not only with the record. C(changed) is set after the new state was read back.
    If a task is killed, the next one repairs what it left behind.
notes:
  - Use M(kata.hypervisor.kata_sandboxes) for many sandboxes of a host. It is faster than a loop over this module.
author:
  - The kata.hypervisor authors (@kata-hypervisor)
extends_documentation_fragment:
  - kata.hypervisor.sandbox_options
  - kata.hypervisor.directories
  - kata.hypervisor.attributes
  - kata.hypervisor.attributes.actiongroup_kata
seealso:
  - module: kata.hypervisor.kata_sandboxes
  - module: kata.hypervisor.kata_device
  - module: kata.hypervisor.kata_network
  - module: kata.hypervisor.kata_volume
  - module: kata.hypervisor.kata_sandbox_info
  - module: kata.hypervisor.kata_host_info
"""

EXAMPLES = r"""
- name: Start a cloud image with a disk, an address, a published port and a way in
  kata.hypervisor.kata_sandbox:
    id: web-1
    image: debian-12
    root_disk_mb: 10240
    network: default
    ports: ["8080:80", "127.0.0.1:2222:22"]
    ssh_keys: ["{{ lookup('file', '~/.ssh/id_ed25519.pub') }}"]
    user_data:
      packages: [nginx]
    wait_for: cloud_init
    wait_timeout: 600

- name: Start a sandbox and wait for the guest's login prompt
  kata.hypervisor.kata_sandbox:
    id: web-1
    kernel_path: /var/lib/kata-hypervisor/assets/vmlinuz
    initrd_path: /var/lib/kata-hypervisor/assets/initrd.img
    kernel_params: [quiet, "console=ttyS0,115200"]
    vcpus: 1
    max_vcpus: 4
    memory_mb: 256
    wait_for: "console: login:"

- name: Pause the sandbox
  kata.hypervisor.kata_sandbox:
    id: web-1
    state: paused

- name: Resume the sandbox with more vCPUs and more memory
  kata.hypervisor.kata_sandbox:
    id: web-1
    state: started
    vcpus: 3
    memory_mb: 512

- name: Change the kernel, which needs a restart
  kata.hypervisor.kata_sandbox:
    id: web-1
    kernel_path: /var/lib/kata-hypervisor/assets/vmlinuz-new
    disruption: restart

- name: Save the sandbox to disk, then restore it
  kata.hypervisor.kata_sandbox:
    id: web-1
    state: "{{ item }}"
  loop: [saved, started]

- name: Remove the sandbox
  kata.hypervisor.kata_sandbox:
    id: web-1
    state: absent
"""

RETURN = r"""
actions:
  description: The steps that were taken, or would be taken without check mode.
  returned: success
  type: list
  elements: str
  sample: [create, start, resize_vcpus 1 -> 4]
resized:
  description:
    - How each size was changed while the VM ran. For vCPUs this is C(hotplug) or C(unplug). If the VMM cannot unplug a vCPU, it is C(guest-offline) or
      C(guest-online), by the guest's agent. For memory it is C(virtio-mem), C(pc-dimm) or C(balloon).
  returned: when a size was changed while the VM ran
  type: dict
  sample: {vcpus: guest-offline}
sandbox:
  description: The sandbox after the task. In check mode, its state, hypervisor, vCPUs and memory are the predicted ones.
  returned: success
  type: dict
  contains:
    id:
      description: The sandbox's id.
      type: str
      returned: always
      sample: web-1
    state:
      description:
        - The current state, V(absent), V(started), V(paused), V(stopped), V(saved), or one of the following.
        - V(crashed) means that the VM should exist and does not. V(failed) means that the VM exists and its guest does not run any more.
        - V(unresponsive) means that the VMM runs and does not answer. V(incomplete) means that a task was killed while it created or removed the sandbox.
        - A sandbox whose guest shut down is V(stopped).
      type: str
      returned: always
      sample: started
    desired:
      description: The state that was last set by a task.
      type: str
      returned: when the sandbox has a record
      sample: started
    hypervisor:
      description: The hypervisor.
      type: str
      returned: when the sandbox exists
      sample: qemu
    pid:
      description: Process id of the VMM, null without a VM.
      type: int
      returned: when the sandbox exists
      sample: 4711
    vcpus:
      description: Number of vCPUs of the VM, 0 without a VM.
      type: int
      returned: when the sandbox exists
      sample: 2
    vcpus_online:
      description: Number of vCPUs that the guest uses, null if unknown.
      type: int
      returned: when the sandbox exists
      sample: 2
    memory_mb:
      description: Memory of the VM in MiB, 0 without a VM.
      type: int
      returned: when the sandbox exists
      sample: 256
    devices:
      description: The recorded devices. C(plugged) shows whether the VM has the device now.
      type: list
      elements: dict
      returned: when the sandbox has a record
      sample: [{id: data0, type: block, file: /srv/data0.img, format: raw, plugged: true}]
    labels:
      description: The labels.
      type: dict
      returned: when the sandbox has a record
      sample: {tier: web, env: prod}
    network:
      description:
        - Where the sandbox is in its network. C(address), C(address6), C(gateway), C(gateway6), C(name), C(egress) and C(isolated) are those of its lease in
          a network of the host. With O(network=user) only C(network), C(mac) and C(ports) are there.
      type: dict
      returned: when the sandbox has a network
      sample: {network: default, address: 10.61.0.2, name: web-1.default.internal, mac: "52:54:00:3f:9a:01", ports: ["8080:80"]}
    root_disk:
      description: The sandbox's own root disk. C(base) is the image that it was made from.
      type: dict
      returned: when the sandbox has one
      sample:
        path: /var/lib/kata-hypervisor/sandboxes/web-1/root.qcow2
        size_mb: 10240
        format: qcow2
        base: /var/lib/kata-hypervisor/assets/images/debian-12/1/image
    volumes:
      description: The volumes of the sandbox and their files.
      type: list
      elements: dict
      returned: when the sandbox has volumes
      sample: [{name: data, path: /var/lib/kata-hypervisor/volumes/data/disk.raw}]
    options:
      description: The current options, including the defaults from when the sandbox was created.
      type: dict
      returned: when the sandbox has a record
      sample: {kernel_path: /boot/vmlinuz, memory_mb: 256, vcpus: 2}
    capabilities:
      description: What this VM can do. See C(docs/capabilities.md).
      type: dict
      returned: when the sandbox exists
      sample: {pause: true, save: true, vcpu_hotplug: true, vcpu_unplug: false}
    accelerator:
      description: How the guest's code is run, C(kvm) or C(tcg).
      type: str
      returned: with O(hypervisor=qemu), after the first start
      sample: tcg
    vmm_uid:
      description: The uid that QEMU runs as. 0 is root.
      type: int
      returned: with O(hypervisor=qemu), while the VM runs
      sample: 1879048199
    exit_reason:
      description:
        - QEMU's reason for the end of the VM, such as V(guest-shutdown), V(guest-reset) (the guest rebooted) or V(guest-panic). A sandbox whose guest
          shut down or rebooted is V(stopped).
      type: str
      returned: with O(hypervisor=qemu), when the VM ended without a task
      sample: guest-shutdown
    accelerator_reason:
      description: The reason for this accelerator.
      type: str
      returned: with O(hypervisor=qemu), after the first start
      sample: /dev/kvm does not exist
    uuid:
      description: The VM's UUID.
      type: str
      returned: with O(hypervisor=qemu) and O(hypervisor=firecracker)
      sample: 0d8a1c4e-6a4b-4f1e-9a53-6f0c9d2f7a11
    vmm_version:
      description: The version of the VMM.
      type: str
      returned: with O(hypervisor=qemu) and O(hypervisor=firecracker)
      sample: 7.2.22
    jail:
      description: The directory on the host that is the VMM's root directory.
      type: str
      returned: with O(hypervisor=firecracker), while the VM runs in a jail
      sample: /var/lib/kata-hypervisor/jails/firecracker/web-1/root
    metrics_log:
      description: The file with the VMM's metrics.
      type: str
      returned: with O(hypervisor=firecracker) and O(vmm_metrics), while the VM runs
      sample: /run/kata-hypervisor/web-1/metrics.log
    vsock_socket:
      description: Unix socket for the guest's vsock. A program on the host connects to it and sends the port number.
      type: str
      returned: with O(hypervisor=firecracker), while the VM runs and has a vsock
      sample: /run/kata-hypervisor/web-1/vsock.sock
    balloon:
      description: Target size and current size of the balloon in MiB, and the guest's memory statistics.
      type: dict
      returned: with O(hypervisor=firecracker), while the VM runs and has a balloon
      sample: {target_mb: 64, actual_mb: 64, statistics: {free_memory: 104857600}}
    guest:
      description:
        - What the guest itself reports through the QEMU guest agent. The guest can report anything, so do not trust it. Facts that its agent does not
          know are omitted. Characters that cannot be printed are replaced.
        - M(kata.hypervisor.kata_sandbox_info) returns it whenever an agent answers. M(kata.hypervisor.kata_sandbox) asks only if the task waits for the agent.
      type: dict
      returned: with O(wait_for) V(agent), or from M(kata.hypervisor.kata_sandbox_info)
      contains:
        os:
          description: The operating system, with the keys of C(guest-get-osinfo).
          type: dict
          returned: when the guest reports it
          sample: {id: debian, name: Debian GNU/Linux, version-id: "12", kernel-release: 6.1.0-56-cloud-amd64}
        host_name:
          description: The host name.
          type: str
          returned: when the guest reports it
          sample: web-1
        interfaces:
          description: The network interfaces with their C(mac) and C(addresses).
          type: list
          elements: dict
          returned: always
          sample: [{name: eth0, mac: "52:54:00:12:34:56", addresses: [192.0.2.7]}]
        file_systems:
          description: The mounted file systems on disks, 64 at most, with C(device), C(mountpoint), C(type), C(size_mb) and C(used_mb).
          type: list
          elements: dict
          returned: when the guest reports it
          sample: [{device: vda1, mountpoint: /, type: ext4, size_mb: 9824, used_mb: 1210}]
    thread_ids:
      description: Thread ids of the vCPUs on the host, by vCPU.
      type: dict
      returned: when the sandbox exists
      sample: {"0": 4715}
    console:
      description: Unix socket of the guest's console.
      type: str
      returned: when the sandbox exists
      sample: /run/kata-hypervisor/web-1/console.sock
    console_log:
      description: File with the guest's console output since the start. If the role P(kata.hypervisor.kata_host#role) limits it, the newer part.
      type: str
      returned: when the sandbox exists
      sample: /run/kata-hypervisor/web-1/console.log
    vmm_log:
      description: File with the VMM's log.
      type: str
      returned: when the sandbox exists
      sample: /run/kata-hypervisor/web-1/vmm.log
    vmm_status:
      description: The state as the VMM reports it.
      type: str
      returned: when the sandbox exists
      sample: running
    reason:
      description: The reason for the state, empty if there is nothing to report.
      type: str
      returned: when the sandbox exists
      sample: ""
    leftovers:
      description: What an ended VM left on the host.
      type: list
      elements: str
      returned: when the sandbox exists
      sample: []
    saved_state:
      description: Directory of the saved state, empty if there is none.
      type: str
      returned: when the sandbox has a record
      sample: ""
    run_dir:
      description: Directory of the sandbox's sockets and logs.
      type: str
      returned: always
      sample: /run/kata-hypervisor/web-1
    state_dir:
      description: Directory of the sandbox's record.
      type: str
      returned: always
      sample: /var/lib/kata-hypervisor/sandboxes/web-1
    created_at:
      description: When the sandbox was created, UTC.
      type: str
      returned: when the sandbox has a record
      sample: "2026-11-24T02:00:00Z"
    changed_at:
      description: When the record was last written, UTC.
      type: str
      returned: when the sandbox has a record
      sample: "2026-11-24T02:10:00Z"
    collection_version:
      description: Version of the collection that last wrote the record.
      type: str
      returned: when the sandbox has a record
      sample: 1.0.0
kind:
  description: The type of the error.
  returned: failure
  type: str
  sample: DisruptionError
option:
  description: The option at fault.
  returned: failure, if known
  type: str
  sample: kernel_path
wanted:
  description: The value that caused the error.
  returned: failure, if known
  type: raw
  sample: /boot/vmlinuz
answer:
  description: The message of the VMM or of the host's kernel.
  returned: failure, if there is one
  type: str
  sample: "[Errno 28] No space left on device"
log:
  description: A log file with details.
  returned: failure, if known
  type: str
  sample: /run/kata-hypervisor/web-1/vmm.log
fix:
  description: How to fix the error.
  returned: failure, if known
  type: str
  sample: Set disruption=restart to allow it.
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import HYPERVISORS
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import (
    parse_spec,
    sandbox_argument_spec,
    take_params,
)


def main() -> None:
    """Bring one sandbox to the requested state."""
    module = AnsibleModule(argument_spec=sandbox_argument_spec(HYPERVISORS), supports_check_mode=True)
    params = take_params(module)
    with fail_on_error(module):
        result = converge(parse_spec(params), module.check_mode)
    for warning in result.pop("warnings", []):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
