# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import textwrap


def _inside(option: str, documented: str, indent: int) -> str:
    """Documented options as suboptions of another one. Directories are options of the task itself."""
    text = re.sub(
        r"\bO\((?=[a-z])(?!state_dir|run_dir)", f"O({option}[].", textwrap.indent(documented.strip("\n"), " " * indent)
    )
    return f"{' ' * indent}suboptions:\n{text}\n"


class ModuleDocFragment:
    """What can be said of one sandbox."""

    # What a task waits for, and how long.
    _WAIT = r"""
  wait_for:
    description:
      - What to wait for once the sandbox is started. That a VM runs does not mean that its guest has booted.
      - V(running) waits for the VM alone, which is what happens anyway.
      - V(console:) followed by a regular expression waits until the guest has printed something that it matches, since its last start.
        A dictionary with the keys C(console) and C(timeout) does the same. In place of the colon an equals sign will do.
      - V(agent) waits until the QEMU guest agent answers in the guest.
      - V(port:) followed by an address, a colon and a number waits until something listens there. With a number alone, the guest's agent is
        asked for its address, and only addresses count that the sandbox's own interfaces lead to.
      - When the time is over, or the VM ends, the task fails with the last lines of the console and of the VMM's log, and the sandbox is
        left as it is.
      - For a sandbox that is started and then paused or saved in the same task, the wait comes before that. Check mode does not wait.
    type: raw
  wait_timeout:
    description:
      - Seconds that O(wait_for) may take.
    type: int
    default: 60
"""

    _TIMEOUTS = r"""
  start_timeout:
    description:
      - Seconds that the VMM gets to start and to say that the VM runs.
    type: int
    default: 60
  stop_timeout:
    description:
      - Seconds that the guest gets to shut down by itself before its VMM is ended. With V(0) it is not asked.
    type: int
    default: 10
  save_timeout:
    description:
      - Seconds that saving or restoring may take.
    type: int
    default: 300
  lock_timeout:
    description:
      - Seconds to wait for another task that works on the same sandbox.
    type: int
    default: 60
"""

    # The VM itself. Types, aliases, choices and what a change costs are declared in plugins/module_utils/options/config.py; a unit test compares.
    _VM = r"""
  config_file:
    description:
      - A Kata Containers C(configuration.toml) on the host, whose settings are taken as if the task had given them. What the task itself gives wins, and
        an image in one takes the place of an initrd in the other.
      - It is read by the loader of Kata 1.x as it was, with that loader's defaults and limits, so a setting that the file leaves out may count as
        given. The table of the file's hypervisor decides on O(hypervisor), unless that is given.
      - Settings of the agent, the proxy, the shim and the runtime have no counterpart here and are ignored.
      - When the task is root's, the file and the directories above it must be root's and closed to other writers, since it names programs that run as root.
      - The host's Python needs to be 3.11 or later. With O(state=absent) the file is not read.
    type: path
  vcpus:
    description:
      - vCPUs of the VM. A new sandbox gets 1 when this is not given.
      - With O(hypervisor=qemu), a change is made while it runs.
      - With O(hypervisor=firecracker), a change needs a restart. With O(hypervisor=acrn), a change needs a restart.
    type: int
    aliases: [num_vcpus, default_vcpus]
  max_vcpus:
    description:
      - The most vCPUs that the VM can be given while it runs. A new sandbox gets the larger of O(vcpus) and the host's CPUs.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: int
    aliases: [default_max_vcpus, default_maxvcpus]
  memory_mb:
    description:
      - Memory of the VM, in MiB. A new sandbox gets 2048 when this is not given.
      - Memory is plugged in blocks of the guest's, so a guest may get up to 127 MiB more than this.
      - With O(hypervisor=qemu), a change is made while it runs.
      - With O(hypervisor=firecracker), a change is made while it runs. With O(hypervisor=acrn), a change needs a restart.
    type: int
    aliases: [memory_size, default_memory]
  bridges:
    description:
      - PCI bridges that devices can be plugged into.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: int
    aliases: [default_bridges]
  msize_9p:
    description:
      - Size of a 9p packet, in bytes.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: int
  memory_slots:
    description:
      - Memory modules that can be plugged in while the VM runs.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: int
    aliases: [mem_slots]
  memory_offset_mb:
    description:
      - Room for an NVDIMM in the VM's memory space, in MiB.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: int
    aliases: [memory_offset, mem_offset]
  virtio_fs_cache_size_mb:
    description:
      - Size of virtio-fs' shared (DAX) window, in MiB.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: int
    aliases: [virtio_fs_cache_size]
  kernel_params:
    description:
      - Parameters for the guest's kernel, as one string or as a list of words.
      - They follow those that the hypervisor needs, so they win.
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. With O(hypervisor=acrn), a change needs a restart.
    type: raw
  kernel_path:
    description:
      - The guest's kernel, a file on the host. A new sandbox needs one.
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. With O(hypervisor=acrn), a change needs a restart.
    type: path
    aliases: [kernel]
  image_path:
    description:
      - The guest's root disk, a file or a block device on the host. A new sandbox needs this or O(initrd_path), and not both.
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. With O(hypervisor=acrn), a change needs a restart.
    type: path
    aliases: [image]
  initrd_path:
    description:
      - The guest's initial RAM disk, a file on the host.
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: path
    aliases: [initrd]
  firmware_path:
    description:
      - The guest's firmware, a file on the host.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: path
    aliases: [firmware]
  kernel_digest:
    description:
      - The digest that the file O(kernel_path) must have, as C(ALGORITHM:DIGITS), where the algorithm is C(sha256), C(sha384) or C(sha512). Digits alone are
        a SHA-512, as in the annotations of Kata Containers.
      - The file is checked before each start, also after a reboot of the host, when a saved VM is restored and when a template is cloned. If
        it has another digest, the task fails with both digests and has changed nothing; so does check mode. An empty string ends the check.
      - With O(hypervisor=qemu), a change is made while it runs.
      - With O(hypervisor=firecracker), a change is made while it runs. With O(hypervisor=acrn), a change is made while it runs.
    type: str
    aliases: [kernel_hash]
  image_digest:
    description:
      - The digest that the file O(image_path) must have. See O(kernel_digest).
      - With O(hypervisor=qemu), a change is made while it runs.
      - With O(hypervisor=firecracker), a change is made while it runs. With O(hypervisor=acrn), a change is made while it runs.
    type: str
    aliases: [image_hash]
  initrd_digest:
    description:
      - The digest that the file O(initrd_path) must have. See O(kernel_digest).
      - With O(hypervisor=qemu), a change is made while it runs.
      - With O(hypervisor=firecracker), a change is made while it runs. Not with O(hypervisor=acrn).
    type: str
    aliases: [initrd_hash]
  initramfs_digest:
    description:
      - The digest that the file O(initramfs_path) must have. See O(kernel_digest).
      - With O(hypervisor=qemu), a change is made while it runs.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: str
  firmware_digest:
    description:
      - The digest that the file O(firmware_path) must have. See O(kernel_digest).
      - With O(hypervisor=qemu), a change is made while it runs.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: str
    aliases: [firmware_hash]
  hypervisor_digest:
    description:
      - The digest that the VMM's program must have, whether O(hypervisor_path) names it or not. See O(kernel_digest).
      - With O(hypervisor=qemu), a change is made while it runs.
      - With O(hypervisor=firecracker), a change is made while it runs. With O(hypervisor=acrn), a change is made while it runs.
    type: str
    aliases: [hypervisor_hash]
  hypervisor_ctl_digest:
    description:
      - The digest that the VMM's control program must have, whether O(hypervisor_ctl_path) names it or not. See O(kernel_digest).
      - Not with O(hypervisor=qemu).
      - Not with O(hypervisor=firecracker). With O(hypervisor=acrn), a change is made while it runs.
    type: str
    aliases: [hypervisorctl_hash]
  jailer_digest:
    description:
      - The digest that the jailer must have, whether O(jailer_path) names it or not. See O(kernel_digest).
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change is made while it runs. Not with O(hypervisor=acrn).
    type: str
    aliases: [jailer_hash]
  machine_accelerators:
    description:
      - More machine properties, such as V(nvdimm=on), separated by commas.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: str
  hypervisor_path:
    description:
      - The VMM's binary on the host. The usual places are searched when this is not given, once, when the sandbox is made.
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. With O(hypervisor=acrn), a change needs a restart.
    type: path
    aliases: [path]
  hypervisor_ctl_path:
    description:
      - The VMM's control tool on the host.
      - Not with O(hypervisor=qemu).
      - Not with O(hypervisor=firecracker). With O(hypervisor=acrn), a change needs a restart.
    type: path
    aliases: [ctlpath]
  jailer_path:
    description:
      - The jailer that locks the VMM in. When not given, the one beside O(hypervisor_path), see O(jailer).
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: path
  jailer:
    description:
      - V(auto), the default, locks the VMM in with O(jailer_path), else with the jailer that is installed beside O(hypervisor_path).
        Where root finds neither, a sandbox does not start.
      - V(none) runs the VMM without a jail, as the user of the task. A VMM that its guest breaks out of then has all rights of that user.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: str
    choices: [auto, none]
  block_device_driver:
    description:
      - How block devices reach the guest, unless a device says otherwise.
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: str
    choices: [virtio-scsi, virtio-blk, virtio-mmio, nvdimm]
  machine_type:
    description:
      - The machine that the VMM plays. V(q35), V(pc) and V(microvm) are x86_64, V(virt) is aarch64, V(pseries) is ppc64le and
        V(s390-ccw-virtio) is s390x. A new sandbox gets V(q35), V(virt), V(pseries) or V(s390-ccw-virtio), whichever is of the host's own architecture.
      - Its architecture is the guest's, and C(qemu-system-ARCHITECTURE) runs it. A guest of another architecture than the host's runs without KVM.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: str
  entropy_source:
    description:
      - Where the guest's randomness comes from. A new sandbox gets V(/dev/urandom).
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: path
  shared_fs:
    description:
      - How directories are shared with the guest.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: str
    choices: [virtio-9p, virtio-fs]
  virtio_fs_daemon:
    description:
      - The virtio-fs daemon's binary on the host.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: path
  virtio_fs_cache:
    description:
      - What the guest may cache of a virtio-fs share.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: str
    choices: [none, auto, always]
  block_device_cache_set:
    description:
      - Whether O(block_device_cache_direct) and O(block_device_cache_noflush) count.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: bool
  block_device_cache_direct:
    description:
      - Go around the host's page cache.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: bool
  block_device_cache_noflush:
    description:
      - Ignore the guest's flushes. Data is lost when the host loses power.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: bool
  enable_iothreads:
    description:
      - Give disks a thread of their own in the VMM.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: bool
  debug:
    description:
      - Have the VMM and the guest's kernel say more.
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. With O(hypervisor=acrn), a change needs a restart.
    type: bool
    aliases: [enable_debug]
  memory_prealloc:
    description:
      - Take all of the VM's memory from the host at its start.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: bool
    aliases: [enable_mem_prealloc]
  huge_pages:
    description:
      - Back the VM's memory with huge pages of the host.
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: bool
    aliases: [enable_hugepages]
  file_mem_backend:
    description:
      - Directory for files that back the VM's memory.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: path
  realtime:
    description:
      - Run the VM with realtime settings.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: bool
  mlock:
    description:
      - Keep the VM's memory from being swapped.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: bool
  disable_nesting_checks:
    description:
      - Do not look whether the host is a VM itself.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: bool
  use_vsock:
    description:
      - Give the guest a vsock device.
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: bool
  hotplug_vfio_on_root_bus:
    description:
      - Plug VFIO devices into the root bus instead of a bridge. Where that is PCI Express (V(q35), V(virt)), they take a root port.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: bool
  disable_vhost_net:
    description:
      - Do not use the host kernel's vhost-net.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: bool
  accelerator:
    description:
      - What runs the guest's code. A new sandbox gets V(auto).
      - V(auto) takes KVM only when guest code really runs under it, and TCG otherwise; M(kata.hypervisor.kata_host_info) tells why.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: str
    choices: [auto, kvm, tcg]
  cpu_model:
    description:
      - The CPU that the guest sees, such as V(host) or V(qemu64).
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: str
  vmm_user:
    description:
      - A user of the host that QEMU runs as, such as C(kata-vmm), which the role P(kata.hypervisor.kata_host#role) makes. The task itself stays root, opens
        what QEMU needs (disks, sockets, taps, saved states) and hands it over.
      - When it is omitted or empty and the task is root's, QEMU runs as a user that only this sandbox has, to whom nothing else of the host belongs.
        V(root) runs it as root. Sandboxes that have the same user are not protected from each other.
      - A named user must be able to read the kernel, the initrd, the image and the firmware, and to read and write the disks; what it may not open is
        refused before anything starts. A virtiofsd stays root's, since it acts for the guest's users.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: str
  max_memory_mb:
    description:
      - The most memory that the VM can be given while it runs, in MiB.
      - A new sandbox gets twice its O(memory_mb), at least 1024 MiB more than it, and at most what the host has.
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: int
  memory_hotplug:
    description:
      - How memory is added to and taken from a running VM. A new sandbox gets V(virtio-mem) where the machine has it, else V(pc-dimm) (V(pseries)) or
        V(none) (V(microvm) and V(s390-ccw-virtio)).
      - With V(balloon) the VM has O(max_memory_mb) from its start, and a balloon in the guest holds what is beyond O(memory_mb). It can take more,
        down to what the guest can do without, and gives back. Every machine type has it.
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: str
    choices: [virtio-mem, pc-dimm, balloon, none]
  root_ports:
    description:
      - Ports of a PCI Express root, each for one device that is plugged in while the VM runs, with machine types V(q35) and V(virt).
      - A new sandbox gets 8 on V(virt), whose guests see nothing that is plugged into a bridge, and none on V(q35). On V(q35) with a QEMU before 6.1 it
        gets 8 too, since few guests there see what is plugged into a bridge.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: int
  image_driver:
    description:
      - How the guest sees O(image_path).
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: str
    choices: [virtio-blk, virtio-scsi, virtio-pmem, nvdimm]
  image_format:
    description:
      - The format of O(image_path). It is never guessed from the file's content.
      - A V(qcow2) image that names a backing file or a data file is refused, since the VMM would open that file of the host for the guest.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: str
    choices: [raw, qcow2]
  supervisor:
    description:
      - Who looks after the VMM. V(systemd) runs it in a unit of its own, C(kata-sandbox-ID.scope) below C(kata.slice), with its own cgroup. V(none) runs it as
        a process of its own. Either way it outlives the task and the ssh session.
        The unit's journal has the VMM's log too.
      - V(auto) takes systemd where it runs the host and the task is root's. A new sandbox gets V(auto).
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. With O(hypervisor=acrn), a change needs a restart.
    type: str
    choices: [auto, systemd, none]
  unit_properties:
    description:
      - Properties of that unit, such as V(MemoryMax=2G) or V(CPUQuota=150%), as one string or as a list of words.
        The VMM itself needs memory too, so leave 200 MiB more than O(max_memory_mb).
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. With O(hypervisor=acrn), a change needs a restart.
    type: raw
  initramfs_path:
    description:
      - A first stage that loads what the kernel needs to find the root file system of O(image_path), a file on the host.
      - With O(hypervisor=qemu), a change needs a restart.
      - Not with O(hypervisor=firecracker). Not with O(hypervisor=acrn).
    type: path
    aliases: [initramfs]
  enable_pci:
    description:
      - Put devices on a PCI bus, which lets disks and interfaces be plugged while the VM runs (Firecracker 1.16 and later).
      - The guest has to rescan its bus after a device was plugged in, and to let go of one before it is unplugged.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: bool
  smt:
    description:
      - Let the guest see two threads for each core.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: bool
  cpu_template:
    description:
      - A set of the host CPU's features that the guest is shown, so that it can move between kinds of hosts.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: str
    choices: [C3, T2, T2A, T2CL, T2S, V1N1]
  cpu_config_path:
    description:
      - A JSON file of the host that says which features of the host's CPU the guest is shown (Firecracker 1.4 and later), where none of
        O(cpu_template) fits.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: path
  track_dirty_pages:
    description:
      - Let Firecracker keep account of the pages that the guest writes to.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: bool
  entropy_device:
    description:
      - Give the guest a source of randomness (virtio-rng).
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: bool
  console_rate_limit:
    description:
      - Bytes that the guest can print on its serial console in a second (Firecracker 1.16 and later). What is beyond is lost.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: int
  vmm_metrics:
    description:
      - Have the VMM write its metrics into a file, which the sandbox's facts name (C(metrics_log)).
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: bool
  vmm_log_level:
    description:
      - How much Firecracker writes into its own log (C(vmm_log)), V(warning) when not given, V(debug) with O(debug).
      - From V(info) on, each request of a task adds two lines to it.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: str
    choices: [error, warning, info, debug, trace]
  mmds_size_limit:
    description:
      - Bytes that the metadata service keeps (Firecracker 1.1 and later), 51200 when not given.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: int
  placeholder_drives:
    description:
      - Empty disks that the VM starts with. While it runs, a disk that is added takes the place of one of them.
      - This plugs disks without O(enable_pci), and on old versions too. The guest sees all of them, as small empty disks.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: int
  allow_vulnerable_vmm:
    description:
      - Use a version of Firecracker or of its jailer that has a known vulnerability all the same.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: bool
  jailer_uid:
    description:
      - The user that the VMM becomes in its jail. Each sandbox gets one of its own when this is not given.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: int
  jailer_gid:
    description:
      - The group that the VMM becomes in its jail, O(jailer_uid) when not given.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: int
  chroot_base_dir:
    description:
      - Where jails are made; root's alone, all the way up, and not mounted nodev. When not given, C(jails) in O(state_dir).
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: path
  network_namespace:
    description:
      - A network namespace that the VMM enters, such as V(/run/netns/blue). Its taps must be there.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: path
  jailer_cgroups:
    description:
      - Settings of the cgroup that the jailer makes for the VMM, such as V(cpu.shares=512), in the words of the cgroup version of the host.
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: raw
  jailer_limits:
    description:
      - Limits of the VMM, V(fsize=BYTES) and V(no-file=COUNT).
      - Not with O(hypervisor=qemu).
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: raw
  vm_name:
    description:
      - The VM's name in the scenario of the host's ACRN (2.7 and later), up to 15 bytes. C(sandbox-) and the id when not given.
      - Not with O(hypervisor=qemu).
      - Not with O(hypervisor=firecracker). With O(hypervisor=acrn), a change needs a restart.
    type: str
  vm_uuid:
    description:
      - The VM's UUID, one of those that the host's ACRN (2.5 and earlier) was built with. ACRN takes its default when not given.
      - Not with O(hypervisor=qemu).
      - Not with O(hypervisor=firecracker). With O(hypervisor=acrn), a change needs a restart.
    type: str
  cpu_affinity:
    description:
      - Physical CPUs that the VM gets (ACRN 2.7 and later), one for each of O(vcpus), as local APIC ids.
      - Not with O(hypervisor=qemu).
      - Not with O(hypervisor=firecracker). With O(hypervisor=acrn), a change needs a restart.
    type: raw
"""

    # What can be said of one device.
    _DEVICE = r"""
  id:
    description: Name of the device, unique in its sandbox, a letter and up to 31 of the characters C(A-Z a-z 0-9 . _ -).
    type: str
    required: true
  type:
    description: What it is. Which others of these it takes depends on that. Required.
    type: str
    choices: [block, net, fs, serial, vsock, vfio, vhost_user, balloon, pmem, entropy, mmds]
  file:
    description: The disk (C(block)), or what the guest sees as persistent memory (C(pmem)), a file or a block device of the host. Required.
    type: path
  format:
    description:
      - Format of the disk (C(block)), V(raw) when not given. It is never guessed from the file's content.
      - A V(qcow2) disk that names a backing file or a data file is refused, since the VMM would open that file of the host for the guest.
    type: str
    choices: [raw, qcow2]
  driver:
    description: How the guest sees the disk (C(block)). The sandbox's C(block_device_driver) decides when not given.
    type: str
    choices: [virtio-blk, virtio-scsi, nvdimm]
  read_only:
    description: Whether the guest may only read it (C(block), C(fs), C(pmem)).
    type: bool
  cache:
    description: How the host caches the disk (C(block)).
    type: str
    choices: [none, writeback, writethrough, unsafe]
  discard:
    description: Whether space that the guest frees is freed on the host (C(block)).
    type: bool
  serial:
    description: Serial number of the disk (C(block)), at most 20 bytes.
    type: str
  io_engine:
    description: How the VMM reads and writes the disk (C(block)), waiting for each operation or (V(async)) by io_uring.
    type: str
    choices: [sync, async]
  rate_limit:
    description:
      - Limits of the disk (C(block)), of what is written back (C(pmem)), or of the randomness (C(entropy)). Zero, and what is not given, is no limit.
      - On QEMU what is granted once is granted again after a second in which nothing of it was used.
    type: dict
    suboptions:
      bandwidth:
        description: Bytes a second.
        type: int
      bandwidth_burst:
        description: Bytes that are granted once beyond that.
        type: int
      ops:
        description: Operations a second.
        type: int
      ops_burst:
        description: Operations that are granted once beyond that.
        type: int
  kind:
    description: What is behind the interface (C(net)), a tap, user mode networking, or a macvtap. Required.
    type: str
    choices: [tap, user, macvtap]
  mac:
    description: MAC address of the interface (C(net), C(vhost_user)).
    type: str
  tap_name:
    description: Name of the tap on the host (C(net)).
    type: str
  bridge:
    description: Bridge of the host that the tap is attached to (C(net)).
    type: str
  queues:
    description: Pairs of queues (C(net), C(vhost_user)), V(1) when not given.
    type: int
  vhost:
    description: Whether the host's kernel moves the packets (C(net)).
    type: bool
  mtu:
    description: Largest packet of the interface, in bytes (C(net)).
    type: int
  rx_rate_limit:
    description: Limits of what the guest receives (C(net)). QEMU has none, and refuses them.
    type: dict
    suboptions:
      bandwidth:
        description: Bytes a second.
        type: int
      bandwidth_burst:
        description: Bytes that are granted once beyond that.
        type: int
      ops:
        description: Operations a second.
        type: int
      ops_burst:
        description: Operations that are granted once beyond that.
        type: int
  tx_rate_limit:
    description: Limits of what the guest sends (C(net)). QEMU has none, and refuses them.
    type: dict
    suboptions:
      bandwidth:
        description: Bytes a second.
        type: int
      bandwidth_burst:
        description: Bytes that are granted once beyond that.
        type: int
      ops:
        description: Operations a second.
        type: int
      ops_burst:
        description: Operations that are granted once beyond that.
        type: int
  tag:
    description: Name by which the guest mounts the share (C(fs), C(vhost_user)).
    type: str
  path:
    description:
      - The shared directory (C(fs), required), the socket (C(serial), C(vsock)), the mediated device in sysfs (C(vfio)), or the socket of the
        process that serves the device (C(vhost_user), required).
    type: path
  name:
    description: Name of the port in the guest (C(serial)), its id when not given.
    type: str
  cid:
    description: The guest's context id (C(vsock)), 3 or more. Required.
    type: int
  address:
    description:
      - PCI address on the host (C(vfio)), required unless O(path) is given, or the IPv4 address of the metadata service in the guest
        (C(mmds)), V(169.254.169.254) when not given.
    type: str
  model:
    description: What the guest sees (C(vhost_user)). Required.
    type: str
    choices: [vhost-user-scsi-pci, virtio-net-pci, vhost-user-blk-pci, vhost-user-fs-pci]
  size_mb:
    description: MiB that the balloon takes from the guest (C(balloon)), V(0) when not given. It can change while the VM runs.
    type: int
  deflate_on_oom:
    description: Whether a guest that is out of memory takes some back (C(balloon)).
    type: bool
  stats_seconds:
    description:
      - How often the guest tells of its memory (C(balloon)), V(5) when not given. With V(0) it never does, and what the balloon
        really holds cannot be read back.
    type: int
  free_page_hinting:
    description: Whether the guest can be asked for pages that it does not use (C(balloon)).
    type: bool
  free_page_reporting:
    description: Whether the guest tells by itself of pages that it does not use (C(balloon)).
    type: bool
  interfaces:
    description: The C(net) devices of the sandbox that lead to the metadata service (C(mmds)), by id. Required.
    type: list
    elements: str
  version:
    description: How the metadata service is asked (C(mmds)), V(V2) (with a token) when not given.
    type: str
    choices: [V1, V2]
  imds_compat:
    description: Whether the metadata service answers as EC2's does (C(mmds)).
    type: bool
  contents:
    description: All that the metadata service tells (C(mmds)). It can change while the VM runs. It cannot have null in it.
    type: dict
  hide_contents:
    description:
      - Keep the contents of the metadata service (C(mmds)) out of the results, diffs and facts of this task and of every later one.
      - The host keeps them in the sandbox's record, which only the user of the task can read. Give the task C(no_log) as well if its own arguments
        must not be logged.
    type: bool
"""

    _OPTIONS: str = (
        _WAIT
        + _TIMEOUTS
        + r"""
  id:
    description:
      - The sandbox's name on its host, 1 to 64 of the characters C(A-Z a-z 0-9 . _ -), not beginning with a dot or a dash.
    type: str
    required: true
    aliases: [name]
  state:
    description:
      - What the sandbox shall be. When this is not given, a new sandbox is started, and an existing one is kept in (or brought back to)
        the state that a task asked for last.
      - V(absent) ends the VM and removes everything that belongs to the sandbox, its saved state too. What the user gave (kernels,
        images, disks) stays.
      - V(present) defines a new sandbox without starting it. An existing one is treated as if no state had been given.
      - V(started) means that its VM runs. One that crashed, panicked or was left half-made is cleaned up and started again; a saved one is
        restored and goes on where it was. A VMM that runs and does not answer is only ended with O(disruption=restart).
      - V(paused) means that its VM is there and its vCPUs are frozen.
      - V(stopped) means that there is no VM. The guest is asked to shut down first, see O(stop_timeout). A saved sandbox would lose its
        saved state, so this is refused for one, unless O(disruption) allows a restart.
      - V(saved) writes memory and devices of the VM to a file and ends the VM, so that a later V(started) or V(paused) goes on there, also
        after a reboot of the host.
      - V(restarted) stops a VM and starts it anew, every time. A change that needs a restart is part of it.
    type: str
    choices: [absent, present, started, paused, stopped, saved, restarted]
  hypervisor:
    description:
      - What runs the VM. A new sandbox gets V(qemu).
      - V(firecracker) runs microVMs, in a jail unless O(jailer=none).
      - V(acrn) needs a host that runs on the ACRN hypervisor.
      - V(mock) only pretends, for tests without a VMM. Its VM is a file.
      - A change needs a new VM, see O(disruption).
    type: str
    choices: [qemu, firecracker, acrn, mock]
  autostart:
    description:
      - Bring the sandbox back after a reboot of the host as it was last declared, with what was plugged and resized meanwhile. That takes systemd and
        Python on the host and no Ansible, a service C(kata-sandbox-ID.service) does it.
      - When the host shuts down, the guest is asked to shut down first.
      - With O(hypervisor=qemu), a change is made while it runs.
      - With O(hypervisor=firecracker), a change is made while it runs. With O(hypervisor=acrn), a change is made while it runs.
    type: bool
  template:
    description:
      - Id of a template on this host that M(kata.hypervisor.kata_template) has made. The VM begins where the template was saved instead of booting, each
        time it is started, and shares the template's memory until it changes it.
      - Options that are not given are those of the template, and those that are given must be the template's, or the task fails and says
        which differ. Only O(vcpus), O(memory_mb) and O(devices) may go beyond it, within the O(max_vcpus) and O(max_memory_mb) that the template
        was made with. With O(hypervisor=firecracker) only O(devices) may.
      - A template that is missing, unfinished, or out of date because its kernel, initrd, image or VMM is another one now, is an error. An empty
        string lets a sandbox boot by itself again.
      - With O(hypervisor=qemu), a change needs a restart.
      - With O(hypervisor=firecracker), a change needs a restart. Not with O(hypervisor=acrn).
    type: str
  disruption:
    description:
      - What the task may do to the guest to bring a changed option to it. When a change takes more, the task fails, says which
        options take what, and has changed nothing. Check mode says the same.
      - With V(none), only changes that a running guest need not notice, and any change to a sandbox that is off.
      - With V(restart), the VM may be stopped and started anew, a saved state may be given up, and a paused guest may run for a moment.
      - With V(recreate), the VM may be replaced by a new one. Options that were never given get their defaults anew.
    type: str
    choices: [none, restart, recreate]
    default: none
  devices:
    description:
      - The devices of the sandbox, all of them. One that is listed is there afterwards, one that is no longer listed is unplugged, and
        one that is listed differently is replaced. When this is not given, the devices stay as they are; an empty list removes them.
      - A running VM has devices plugged and unplugged where its VMM and its machine can do that for the type. Any other
        change to a VM that is not off needs a restart.
    type: list
    elements: dict
"""
        + _inside("devices", _DEVICE, 4)
        + _VM
    )

    # One sandbox: the options are the task's own.
    DOCUMENTATION: str = "options:" + _OPTIONS

    # Parts of the above, for modules about something else.
    DEVICE: str = "options:" + _DEVICE
    TIMEOUTS: str = "options:" + _TIMEOUTS
    WAIT: str = "options:" + _WAIT
    VM: str = "options:" + _VM
    TEMPLATE_DEVICES: str = r"""
options:
  devices:
    description:
      - The devices that the VM has when it is saved (O(hypervisor=firecracker)). Every clone has them too, with taps and sockets of its own.
      - With O(hypervisor=qemu) a template has none. They are plugged into its clones.
    type: list
    elements: dict
""" + _inside("devices", _DEVICE, 4)

    # Many sandboxes: the options are those of each item.
    ITEMS: str = r"""
options:
  sandboxes:
    description:
      - The sandboxes, each with the options of M(kata.hypervisor.kata_sandbox).
    type: list
    elements: dict
    required: true
""" + _inside("sandboxes", _OPTIONS, 4)
