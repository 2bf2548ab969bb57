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
  - Makes, starts, pauses, resumes, resizes, saves, restores, stops and removes one VM sandbox, by driving the hypervisor itself. Nothing needs to
    be installed on the host but the VMM.
  - Only what the task says is brought about. An option that is not given keeps the value that the sandbox has; defaults are applied
    once, when it is made.
  - What the task says is compared with what the VMM reports, not only with what was recorded, and C(changed) is reported after the state was
    read back. A task that was killed is made good by the next one.
notes:
  - Use M(kata.hypervisor.kata_sandboxes) for many sandboxes of a host. It needs one task where a loop needs one for each.
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
  - module: kata.hypervisor.kata_sandbox_info
  - module: kata.hypervisor.kata_host_info
"""

EXAMPLES = r"""
- name: Start a sandbox, and wait until its guest asks for a login
  kata.hypervisor.kata_sandbox:
    id: web-1
    kernel_path: /var/lib/kata-hypervisor/assets/vmlinuz
    initrd_path: /var/lib/kata-hypervisor/assets/initrd.img
    kernel_params: [quiet, "console=ttyS0,115200"]
    vcpus: 1
    max_vcpus: 4
    memory_mb: 256
    wait_for: "console: login:"

- name: Freeze it
  kata.hypervisor.kata_sandbox:
    id: web-1
    state: paused

- name: Let it go on, with more vCPUs and more memory
  kata.hypervisor.kata_sandbox:
    id: web-1
    state: started
    vcpus: 3
    memory_mb: 512

- name: Give it another kernel, which takes a restart
  kata.hypervisor.kata_sandbox:
    id: web-1
    kernel_path: /var/lib/kata-hypervisor/assets/vmlinuz-new
    disruption: restart

- name: Put it aside, and take it up again after the host's reboot
  kata.hypervisor.kata_sandbox:
    id: web-1
    state: "{{ item }}"
  loop: [saved, started]

- name: Remove it
  kata.hypervisor.kata_sandbox:
    id: web-1
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, step by step.
  returned: success
  type: list
  elements: str
  sample: [create, start, resize_vcpus 1 -> 4]
resized:
  description:
    - How each size was changed while the VM ran. vCPUs by C(hotplug), C(unplug), or in the guest through its agent (C(guest-offline),
      C(guest-online)), where the VMM cannot take a vCPU away. Memory by C(virtio-mem), C(pc-dimm) or C(balloon).
  returned: when a size was changed while the VM ran
  type: dict
  sample: {vcpus: guest-offline}
sandbox:
  description: The sandbox as it is now. In check mode, its state, hypervisor, vCPUs and memory as they would be.
  returned: success
  type: dict
  contains:
    id:
      description: Its id.
      type: str
      returned: always
      sample: web-1
    state:
      description:
        - What it is. Beside V(absent), V(started), V(paused), V(stopped) and V(saved) this can be V(crashed), when there is no VM and should be one,
          V(failed), when the VM is there and its guest is lost, V(unresponsive), when the VMM runs and does not answer, and V(incomplete), when a task was
          killed while it made or removed it.
        - A guest that shut itself down or rebooted leaves its sandbox V(stopped).
      type: str
      returned: always
      sample: started
    desired:
      description: The state that a task asked for last.
      type: str
      returned: when it is recorded
      sample: started
    hypervisor:
      description: What runs it.
      type: str
      returned: when it exists
      sample: qemu
    pid:
      description: Process id of the VMM, none when there is no VM.
      type: int
      returned: when it exists
      sample: 4711
    vcpus:
      description: vCPUs that the VM has, 0 when there is no VM.
      type: int
      returned: when it exists
      sample: 2
    vcpus_online:
      description: vCPUs that the guest uses, none where nobody can tell.
      type: int
      returned: when it exists
      sample: 2
    memory_mb:
      description: Memory that the VM has, in MiB, 0 when there is no VM.
      type: int
      returned: when it exists
      sample: 256
    devices:
      description: The devices that tasks have listed, and for each whether it is plugged.
      type: list
      elements: dict
      returned: when it is recorded
      sample: [{id: data0, type: block, file: /srv/data0.img, format: raw, plugged: true}]
    options:
      description: The options in force, those that were given and those that were filled in when it was made.
      type: dict
      returned: when it is recorded
      sample: {kernel_path: /boot/vmlinuz, memory_mb: 256, vcpus: 2}
    capabilities:
      description: What can be done with it.
      type: dict
      returned: when it exists
      sample: {pause: true, save: true, vcpu_hotplug: true, vcpu_unplug: false}
    accelerator:
      description: What the guest's vCPUs run on.
      type: str
      returned: with O(hypervisor=qemu), once it was started
      sample: tcg
    vmm_uid:
      description: The uid that QEMU runs as. 0 is root.
      type: int
      returned: with O(hypervisor=qemu), while it runs
      sample: 1879048199
    exit_reason:
      description:
        - QEMU's word for why the VM ended, such as V(guest-shutdown), V(guest-reset) (the guest rebooted) or V(guest-panic). A sandbox that its guest ended
          is V(stopped).
      type: str
      returned: with O(hypervisor=qemu), when the VM ended without a task
      sample: guest-shutdown
    accelerator_reason:
      description: Why that one.
      type: str
      returned: with O(hypervisor=qemu), once it was started
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
      description: What the VMM sees as the root directory.
      type: str
      returned: with O(hypervisor=firecracker), while it runs in a jail
      sample: /var/lib/kata-hypervisor/jails/firecracker/web-1/root
    metrics_log:
      description: The file that the VMM writes its metrics to.
      type: str
      returned: with O(hypervisor=firecracker) and O(vmm_metrics), while it runs
      sample: /run/kata-hypervisor/web-1/metrics.log
    vsock_socket:
      description: Unix socket of the host's end of the guest's vsock; a program of the host connects to it and names a port.
      type: str
      returned: with O(hypervisor=firecracker), while it runs and has a vsock
      sample: /run/kata-hypervisor/web-1/vsock.sock
    balloon:
      description: What the balloon shall hold and what it does hold, in MiB, and what the guest tells of its memory.
      type: dict
      returned: with O(hypervisor=firecracker), while it runs and has a balloon
      sample: {target_mb: 64, actual_mb: 64, statistics: {free_memory: 104857600}}
    thread_ids:
      description: Thread ids of the vCPUs on the host, by vCPU.
      type: dict
      returned: when it exists
      sample: {"0": 4715}
    console:
      description: Unix socket of the guest's console.
      type: str
      returned: when it exists
      sample: /run/kata-hypervisor/web-1/console.sock
    console_log:
      description: What the guest has printed since its VM was started. Where the role P(kata.hypervisor.kata_host#role) limits it, the newer part.
      type: str
      returned: when it exists
      sample: /run/kata-hypervisor/web-1/console.log
    vmm_log:
      description: The VMM's own log.
      type: str
      returned: when it exists
      sample: /run/kata-hypervisor/web-1/vmm.log
    vmm_status:
      description: The VMM's own word for its state.
      type: str
      returned: when it exists
      sample: running
    reason:
      description: Why it is what it is, where there is something to say.
      type: str
      returned: when it exists
      sample: ""
    leftovers:
      description: What a VM that is gone left on the host.
      type: list
      elements: str
      returned: when it exists
      sample: []
    saved_state:
      description: Directory of the saved state, empty when there is none.
      type: str
      returned: when it is recorded
      sample: ""
    run_dir:
      description: Directory of its sockets and logs.
      type: str
      returned: always
      sample: /run/kata-hypervisor/web-1
    state_dir:
      description: Directory of its record.
      type: str
      returned: always
      sample: /var/lib/kata-hypervisor/sandboxes/web-1
    created_at:
      description: When it was made, UTC.
      type: str
      returned: when it is recorded
      sample: "2026-11-24T02:00:00Z"
    changed_at:
      description: When its record was written last, UTC.
      type: str
      returned: when it is recorded
      sample: "2026-11-24T02:10:00Z"
    collection_version:
      description: Version of the collection that wrote its record.
      type: str
      returned: when it is recorded
      sample: 1.0.0
kind:
  description: What kind of error it was.
  returned: failure
  type: str
  sample: DisruptionError
option:
  description: The option at fault.
  returned: failure, where there is one
  type: str
  sample: kernel_path
wanted:
  description: What was asked for.
  returned: failure, where it helps
  type: raw
  sample: /boot/vmlinuz
answer:
  description: The VMM's or the kernel's own words.
  returned: failure, where there are any
  type: str
  sample: "[Errno 28] No space left on device"
log:
  description: The log to look into.
  returned: failure, where there is one
  type: str
  sample: /run/kata-hypervisor/web-1/vmm.log
fix:
  description: What can be done about it.
  returned: failure, where it is known
  type: str
  sample: Set disruption=restart to allow it.
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kata.hypervisor.plugins.module_utils.engine.converge import converge
from ansible_collections.kata.hypervisor.plugins.module_utils.errors import fail_on_error
from ansible_collections.kata.hypervisor.plugins.module_utils.hypervisors import HYPERVISORS
from ansible_collections.kata.hypervisor.plugins.module_utils.options.arguments import parse_spec, sandbox_argument_spec


def main() -> None:
    """Bring one sandbox to what the task asks for."""
    module = AnsibleModule(argument_spec=sandbox_argument_spec(HYPERVISORS), supports_check_mode=True)
    with fail_on_error(module):
        result = converge(parse_spec(module.params), module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
