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
    """The options of one sandbox."""

    # What a task waits for.
    _WAIT = r"""
  wait_for:
    description:
      - What to wait for after the sandbox was started. A VM that runs may still be booting.
      - V(running) waits for the VM only. This is what happens without O(wait_for) too.
      - V(console:) followed by a regular expression waits until it matches what the guest has printed since its last start. A dictionary
        with the keys C(console) and C(timeout) does the same. An equals sign may replace the colon.
      - V(agent) waits until the QEMU guest agent in the guest answers.
      - V(cloud_init) waits until cloud-init, or the script of the collection's own images, has applied the seed. It prints that on the console, so no
        agent is needed. If it reports errors there, the task fails and shows them.
      - V(ssh) waits until an ssh server greets at the guest's address, or at the port of the host that leads to its port 22. V(ssh:) may be followed by
        a port, or by an address, a colon and a port. Without a managed network and a published port, the guest agent is asked for the addresses.
      - V(address) waits until the guest answers at its address in the managed network, whatever its firewall is. Without a managed network it waits until
        the guest agent reports an address. An address may follow after a colon.
      - V(stopped) waits until the VM is off.
      - V(port:) followed by an address, a colon and a port number waits until something listens there. With a port number only, the guest agent is
        asked for the guest's addresses. Only addresses in the networks of the sandbox's own interfaces are used.
      - The task fails when the time is over or the VM ends. The error has the last lines of the console and of the VMM's log. The sandbox is not
        changed.
      - When the same task also pauses or saves the sandbox, it waits before that. Check mode does not wait.
    type: raw
  wait_timeout:
    description:
      - Time limit of O(wait_for), in seconds.
    type: int
    default: 60
"""

    _TIMEOUTS = r"""
  start_timeout:
    description:
      - Seconds in which the VMM must have started the VM.
    type: int
    default: 60
  stop_timeout:
    description:
      - Seconds that the guest gets to shut down before its VMM is ended. With V(0) the guest is not asked to shut down.
    type: int
    default: 10
  save_timeout:
    description:
      - Time limit of saving and of restoring, in seconds.
    type: int
    default: 300
  lock_timeout:
    description:
      - Seconds to wait for another task that changes the same sandbox.
    type: int
    default: 60
"""

    # What the host gives a sandbox, declared in plugins/module_utils/options/resource_options.py.
    _RESOURCES = r"""
  root_disk_mb:
    description:
      - Size of the sandbox's own writable root disk, in MiB. The disk is made from O(image_path), which stays as it is (QEMU and Firecracker).
      - Without it, the guest has the image itself as a root disk that it can only read.
      - QEMU gets a qcow2 overlay. Firecracker gets a copy, which costs no space where the host's file system has reflinks.
      - The disk is kept when the sandbox is stopped, restarted or saved, and removed with the sandbox. A larger size grows it, also while the VM
        runs. It is never shrunk.
      - V(0), another O(image_path) and another O(hypervisor) remove the disk with its content. They need O(disruption=recreate).
    type: int
    aliases: [disk]
  volumes:
    description:
      - Disks that outlive the sandbox, see M(kata.hypervisor.kata_volume). A missing volume is created, and each is attached as the device
        C(vol-NAME) with the name as its serial number (QEMU and Firecracker).
      - A volume that is no longer listed is detached. An empty list detaches all.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the volume, 1 to 28 of the characters C(A-Z a-z 0-9 . _ -).
        type: str
        required: true
      size_mb:
        description:
          - Size in MiB. Required for a new volume. A larger size grows the volume, also while the VM runs. It is never shrunk.
        type: int
      filesystem:
        description:
          - The file system of a new volume, V(ext4) by default. An existing volume is never formatted again.
        type: str
        choices: [ext4, xfs, btrfs, vfat, none]
      label:
        description:
          - The label of the new file system. The default is the volume's name.
        type: str
      read_only:
        description:
          - Whether the guest can only read the volume.
        type: bool
        default: false
      keep:
        description:
          - Whether the volume stays when the sandbox is removed or no longer lists it.
        type: bool
        default: true
  network:
    description:
      - The name of a network of the host, see M(kata.hypervisor.kata_network), V(user) or V(none) (QEMU and Firecracker).
      - In a network of the host, the sandbox gets an address that stays the same, a name that the other guests of the network can resolve,
        and a way out. The host resolves the name where systemd-resolved runs. The guest gets its address from its seed or by DHCP.
      - With V(user), the VMM itself connects the guest (QEMU). It needs no privileges, and the guest cannot be reached except through O(ports).
      - V(none) removes the interface.
    type: str
  address:
    description:
      - The IPv4 address of the sandbox in its network. Without it, a free one is chosen once and kept (QEMU and Firecracker).
    type: str
  address6:
    description:
      - The IPv6 address of the sandbox in its network, if the network has IPv6 (QEMU and Firecracker).
    type: str
  ports:
    description:
      - Ports of the guest that are published on the host, each as C([ADDRESS:]HOST_PORT:GUEST_PORT[/udp]), for example V(8080:80) or
        V(127.0.0.1:2222:22) (QEMU and Firecracker).
      - Without an address, a port is published on all addresses of the host. With O(network=user), it is published on V(127.0.0.1), and only IPv4
        addresses are possible. The address C([::1]) is refused.
      - Put each item in quotes. YAML reads an unquoted C(2222:22) as a number.
    type: list
    elements: str
  egress:
    description:
      - Where the guest may connect to, in other networks, on the host and among the other guests (QEMU and Firecracker). V(open), the default, is
        anywhere, and V(none) is nowhere.
      - A list has the allowed destinations, such as V(10.0.0.0/8), V(192.0.2.1:443), V(192.0.2.0/24:8000-8080/tcp) and V([2001:db8::/32]:53/udp).
        An empty list is the same as V(none).
      - With O(network=user), only V(open) and V(none) are possible.
    type: raw
  isolated:
    description:
      - Whether the guest is cut off from the other guests of its network (QEMU and Firecracker).
    type: bool
  hostname:
    description:
      - The guest's host name. The default is the sandbox's id (QEMU and Firecracker).
      - This option, O(ssh_keys), O(user_data), O(vendor_data) and O(network_config) are given to the guest on a small disk with the label C(cidata),
        the NoCloud seed of cloud-init. The collection's own images read it too. A sandbox with a O(network) always has one.
      - A guest applies a changed seed at its next start, as a new instance. cloud-init then creates new ssh host keys and runs the user data again.
    type: str
  ssh_keys:
    description:
      - Public ssh keys that may log in as the image's default user (QEMU and Firecracker).
    type: list
    elements: str
  user_data:
    description:
      - User data of cloud-init, as text or as a dictionary, which becomes a C(#cloud-config) (QEMU and Firecracker).
      - It is never shown in results and diffs. Their place is taken by the beginning of its digest.
    type: raw
  vendor_data:
    description:
      - Vendor data of cloud-init, like O(user_data) (QEMU and Firecracker).
    type: raw
  network_config:
    description:
      - Network configuration of cloud-init, version 1 or 2, as text or as a dictionary (QEMU and Firecracker).
      - Without it, the guest uses the address of its O(network).
    type: raw
  labels:
    description:
      - Names and values that say what the sandbox is for, such as C(tier=web). Tasks, playbooks and the inventory select sandboxes by them.
      - A name has 1 to 63 of the characters C(A-Z a-z 0-9 . _ / -). A value is printable text of at most 256 characters. There are at most 64 labels.
      - They are all labels of the sandbox. V({}) removes them. The VM never notices them.
    type: dict
  guest_agent:
    description:
      - V(install) has a guest with cloud-init install the package C(qemu-guest-agent) of its distribution, and start it (QEMU and Firecracker). The
        default is V(none).
      - The guest needs a network through which it reaches its distribution's packages, such as O(network=user).
      - It uses the vendor data of the seed, so O(vendor_data) must be omitted. User data stays as it is.
      - Images of the role P(kata.hypervisor.kata_image#role) that are built on the host have the agent already.
    type: str
    choices: [install, none]
"""

    # The VM itself. Types, aliases and choices are declared in plugins/module_utils/options/config.py, and a unit test compares them with this text.
    # The test also compares the hypervisors in parentheses. What a change costs is generated into docs/capabilities.md.
    _VM = r"""
  config_file:
    description:
      - A Kata Containers C(configuration.toml) on the host. Its settings are used as options of this task. Options of the task replace those of the
        file, and an image in one replaces an initrd in the other.
      - The file is read as Kata 1.x reads it, with the defaults and limits of Kata 1.x. So a setting that the file omits can have Kata's default.
        The file's hypervisor table sets O(hypervisor), unless the task does.
      - Settings of the agent, the proxy, the shim and the runtime are ignored.
      - For a task that runs as root, the file and the directories above it must belong to root, and nobody else may write to them. The file names
        programs that run as root.
      - The host needs Python 3.11 or later. With O(state=absent) the file is not read.
    type: path
  vcpus:
    description:
      - Number of vCPUs. The default of a new sandbox is 1.
    type: int
    aliases: [cpus, num_vcpus, default_vcpus]
  max_vcpus:
    description:
      - Largest number of vCPUs that the running VM can be given (QEMU). The default of a new sandbox is the larger of O(vcpus) and the host's CPUs.
    type: int
    aliases: [default_max_vcpus, default_maxvcpus]
  memory_mb:
    description:
      - Memory of the VM, in MiB. The default of a new sandbox is 2048.
      - Memory is plugged in blocks, whose size the guest decides. The guest can get up to 127 MiB more than this value.
    type: int
    aliases: [memory, memory_size, default_memory]
  bridges:
    description:
      - Number of PCI bridges for devices that are plugged while the VM runs (QEMU).
    type: int
    aliases: [default_bridges]
  msize_9p:
    description:
      - Size of a 9p packet, in bytes (QEMU). Read from Kata's configuration, and without effect on the VM.
    type: int
  memory_slots:
    description:
      - Number of memory modules that can be plugged while the VM runs (QEMU).
    type: int
    aliases: [mem_slots]
  memory_offset_mb:
    description:
      - Address space reserved for files in the guest's memory (NVDIMM, virtio-pmem), in MiB (QEMU).
    type: int
    aliases: [memory_offset, mem_offset]
  virtio_fs_cache_size_mb:
    description:
      - Size of the shared DAX window of virtio-fs, in MiB (QEMU). QEMU has no such window, so a value with O(shared_fs=virtio-fs) is an error.
    type: int
    aliases: [virtio_fs_cache_size]
  kernel_params:
    description:
      - Parameters for the guest's kernel, as a string or as a list.
      - They follow the parameters that the collection sets, so these win.
    type: raw
  kernel_path:
    description:
      - The guest's kernel, a file on the host. Required for a new sandbox, unless the boot loader of its image starts it, see O(boot).
    type: path
    aliases: [kernel]
  image_path:
    description:
      - The guest's root disk, a file or a block device on the host, or the name of an image that the role P(kata.hypervisor.kata_image#role) installed.
        A new sandbox needs either this or O(initrd_path).
      - The guest cannot write to an image. Set C(root_disk_mb) to give the sandbox a writable disk made from it.
      - With a name, each start uses the image's current version. A root disk stays on the version that it was made from.
    type: path
    aliases: [image]
  initrd_path:
    description:
      - The guest's initial RAM disk, a file on the host (QEMU and Firecracker).
    type: path
    aliases: [initrd]
  boot:
    description:
      - What starts the guest (QEMU).
      - V(firmware) is the boot loader of the disk O(image_path), as in a distribution's cloud image. The machine's own firmware starts it (SeaBIOS
        on machine types C(q35) and C(pc)), or the one that O(firmware_path) names. The guest's kernel, initrd and kernel parameters are those of
        the image, so O(kernel_path), O(initrd_path), O(initramfs_path) and O(kernel_params) must be omitted.
      - V(kernel) is O(kernel_path).
      - V(auto) is O(kernel_path) if it is set, otherwise the boot loader of O(image_path). The default.
    type: str
    choices: [auto, firmware, kernel]
  firmware_path:
    description:
      - The guest's firmware, a file on the host (QEMU).
    type: path
    aliases: [firmware]
  firmware_vars_path:
    description:
      - The template of the variables of a UEFI firmware, a file on the host (QEMU). With it, O(firmware_path) is the code of that firmware, and
        both are flash memory (pflash) of the guest. The code is shared and read-only. The sandbox gets a copy of the variables when it first
        starts, keeps it over restarts, and loses it when it is removed.
      - Both files must be raw and belong together, such as F(/usr/share/OVMF/OVMF_CODE_4M.fd) and F(/usr/share/OVMF/OVMF_VARS_4M.fd).
    type: path
  kernel_digest:
    description:
      - The digest that the file O(kernel_path) must have, as C(ALGORITHM:DIGITS) with the algorithm C(sha256), C(sha384) or C(sha512). Digits
        without an algorithm are a SHA-512, as in the annotations of Kata Containers.
      - The file is checked before each start, also at boot, when a saved VM is restored, and when a template is cloned. With another digest, the
        task fails with both digests before it changes anything, in check mode too. An empty string removes the check.
    type: str
    aliases: [kernel_hash]
  image_digest:
    description:
      - The digest that the file O(image_path) must have. See O(kernel_digest).
    type: str
    aliases: [image_hash]
  initrd_digest:
    description:
      - The digest that the file O(initrd_path) must have (QEMU and Firecracker). See O(kernel_digest).
    type: str
    aliases: [initrd_hash]
  initramfs_digest:
    description:
      - The digest that the file O(initramfs_path) must have (QEMU). See O(kernel_digest).
    type: str
  firmware_digest:
    description:
      - The digest that the file O(firmware_path) must have (QEMU). See O(kernel_digest).
    type: str
    aliases: [firmware_hash]
  hypervisor_digest:
    description:
      - The digest that the VMM's program must have, with or without O(hypervisor_path). See O(kernel_digest).
    type: str
    aliases: [hypervisor_hash]
  hypervisor_ctl_digest:
    description:
      - The digest that the VMM's control program must have, with or without O(hypervisor_ctl_path) (ACRN). See O(kernel_digest).
    type: str
    aliases: [hypervisorctl_hash]
  jailer_digest:
    description:
      - The digest that the jailer must have, with or without O(jailer_path) (Firecracker). See O(kernel_digest).
    type: str
    aliases: [jailer_hash]
  machine_accelerators:
    description:
      - Further machine properties, such as V(nvdimm=on), separated by commas (QEMU).
    type: str
  hypervisor_path:
    description:
      - The VMM's program on the host. If omitted, the usual places are searched once, when the sandbox is created.
    type: path
    aliases: [path]
  hypervisor_ctl_path:
    description:
      - The VMM's control program on the host (ACRN).
    type: path
    aliases: [ctlpath]
  jailer_path:
    description:
      - The jailer on the host (Firecracker). If omitted, the one beside O(hypervisor_path) is used, see O(jailer).
    type: path
  jailer:
    description:
      - Whether the VMM runs in a jail (Firecracker).
      - V(auto), the default, runs it in a jail, by O(jailer_path) or by the jailer that is installed beside O(hypervisor_path). Without a jailer, a
        task that runs as root fails.
      - V(none) runs the VMM without a jail, as the user of the task. A guest that breaks out of the VMM then has all rights of that user.
    type: str
    choices: [auto, none]
  block_device_driver:
    description:
      - The driver of disks that set none themselves (QEMU and Firecracker).
    type: str
    choices: [virtio-scsi, virtio-blk, virtio-mmio, nvdimm]
  machine_type:
    description:
      - The machine type (QEMU). V(q35), V(pc) and V(microvm) are x86_64, V(virt) is aarch64, V(pseries) is ppc64le and V(s390-ccw-virtio) is s390x.
        The default of a new sandbox is V(q35), V(virt), V(pseries) or V(s390-ccw-virtio), depending on the host's architecture.
      - The guest has the architecture of the machine type, and C(qemu-system-ARCHITECTURE) runs it. A guest of another architecture than the host's
        runs without KVM.
    type: str
  entropy_source:
    description:
      - The host's source of the guest's randomness (QEMU). The default of a new sandbox is V(/dev/urandom).
    type: path
  shared_fs:
    description:
      - How directories are shared with the guest (QEMU).
    type: str
    choices: [virtio-9p, virtio-fs]
  virtio_fs_daemon:
    description:
      - The virtiofsd program on the host (QEMU).
    type: path
  virtio_fs_cache:
    description:
      - What the guest may cache of a virtio-fs share (QEMU).
    type: str
    choices: [none, auto, always]
  block_device_cache_set:
    description:
      - Whether O(block_device_cache_direct) and O(block_device_cache_noflush) are used (QEMU).
    type: bool
  block_device_cache_direct:
    description:
      - Bypass the host's page cache (QEMU).
    type: bool
  block_device_cache_noflush:
    description:
      - Ignore the guest's flushes (QEMU). Data is lost when the host loses power.
    type: bool
  enable_iothreads:
    description:
      - Give disks a thread of their own in the VMM (QEMU).
    type: bool
  debug:
    description:
      - More output of the VMM and of the guest's kernel.
    type: bool
    aliases: [enable_debug]
  memory_prealloc:
    description:
      - Allocate all of the VM's memory when it starts (QEMU).
    type: bool
    aliases: [enable_mem_prealloc]
  huge_pages:
    description:
      - Use huge pages of the host for the VM's memory (QEMU and Firecracker).
    type: bool
    aliases: [enable_hugepages]
  file_mem_backend:
    description:
      - Directory on the host for files that hold the VM's memory (QEMU).
    type: path
  realtime:
    description:
      - Run the VM with realtime settings (QEMU).
    type: bool
  mlock:
    description:
      - Lock the VM's memory, so that it is never swapped (QEMU).
    type: bool
  disable_nesting_checks:
    description:
      - Do not check whether the host is itself a VM (QEMU). Read from Kata's configuration, and without effect on the VM.
    type: bool
  use_vsock:
    description:
      - Give the guest a vsock device for its agent, if the task lists none in O(devices) (QEMU and Firecracker). The default of a new sandbox is V(true)
        with Firecracker.
      - With QEMU V(true) is an error; use a device of type C(vsock), which has a cid. The agent of QEMU's guests needs none.
    type: bool
  hotplug_vfio_on_root_bus:
    description:
      - Plug VFIO devices into the root bus instead of a bridge (QEMU). With O(machine_type=q35) and O(machine_type=virt) they take a root port.
    type: bool
  disable_vhost_net:
    description:
      - Do not use vhost-net of the host's kernel (QEMU).
    type: bool
  on_reboot:
    description:
      - What follows when the guest restarts itself (QEMU). The default is V(restart), but V(stop) for templates and their clones, which have no kernel to
        start again from.
      - V(restart) lets it go on, with the memory, vCPUs and devices that it has at that moment. If its kernel panics, the VM ends where the guest has a
        driver for QEMU's panic device; else the kernel stands still, and the sandbox is V(failed).
      - V(stop) ends the VM. The sandbox is V(stopped) then.
      - With Firecracker and ACRN, a restart of the guest always ends the VM.
    type: str
    choices: [restart, stop]
  accelerator:
    description:
      - How the guest's code is run (QEMU). The default of a new sandbox is V(auto).
      - V(auto) uses KVM if a test shows that guest code runs under it, and TCG otherwise. M(kata.hypervisor.kata_host_info) returns the reason.
    type: str
    choices: [auto, kvm, tcg]
  cpu_model:
    description:
      - The guest's CPU model, for example V(host) or V(qemu64) (QEMU).
    type: str
  vmm_user:
    description:
      - The host user that QEMU runs as, such as C(kata-vmm), which the role P(kata.hypervisor.kata_host#role) creates (QEMU). The task itself runs
        as root. It opens disks, sockets, taps and saved states and passes them to QEMU.
      - If this is omitted or empty and the task runs as root, each sandbox's QEMU has a user of its own, which owns nothing else on the host. With
        V(root), QEMU runs as root. Sandboxes with the same user are not protected from each other.
      - A named user must be able to read the kernel, the initrd, the image and the firmware, and to read and write the disks. If it cannot open one
        of them, the task fails before anything starts. virtiofsd always runs as root, since it acts for the guest's users.
    type: str
  max_memory_mb:
    description:
      - Largest memory that the running VM can be given, in MiB (QEMU and Firecracker).
      - The default of a new sandbox on QEMU is twice O(memory_mb), at least 1024 MiB more than O(memory_mb), and at most the host's memory.
    type: int
  memory_hotplug:
    description:
      - How memory is added to and removed from a running VM (QEMU and Firecracker). The default of a new sandbox is V(virtio-mem) if the machine
        type has it. Otherwise it is V(pc-dimm) on V(pseries), and V(none) on V(microvm) and V(s390-ccw-virtio).
      - With V(balloon) the VM has O(max_memory_mb) from its start, and a balloon in the guest holds what exceeds O(memory_mb). The balloon can grow
        until the guest can spare no more, and shrink again. Every machine type has it.
    type: str
    choices: [virtio-mem, pc-dimm, balloon, none]
  root_ports:
    description:
      - Number of PCI Express root ports with machine types V(q35) and V(virt) (QEMU). Each is for one device that is plugged while the VM runs.
      - The default of a new sandbox is 8 on V(virt), where guests do not see devices on a bridge, and 0 on V(q35). With a QEMU before 6.1 it is 8
        on V(q35) too, since few guests there see devices on a bridge.
    type: int
  image_driver:
    description:
      - How the guest sees O(image_path) (QEMU).
    type: str
    choices: [virtio-blk, virtio-scsi, virtio-pmem, nvdimm]
  image_format:
    description:
      - The format of O(image_path) (QEMU). It is never guessed from the file's content.
      - A V(qcow2) image that names a backing file or a data file is refused, since the VMM would open that file of the host for the guest.
    type: str
    choices: [raw, qcow2]
  supervisor:
    description:
      - What starts the VMM. V(systemd) runs it in a unit of its own, C(kata-sandbox-ID.scope) below C(kata.slice), with its own cgroup. V(none)
        runs it as a plain process. In both cases the VMM keeps running after the task and the ssh session. The unit's journal has the VMM's log
        too.
      - V(auto), the default of a new sandbox, uses systemd if it is the host's init system and the task runs as root.
    type: str
    choices: [auto, systemd, none]
  unit_properties:
    description:
      - Properties of that unit, such as V(MemoryMax=2G) or V(CPUQuota=150%), as a string or as a list. The VMM itself needs memory too, so allow at
        least 200 MiB more than O(max_memory_mb).
    type: raw
  initramfs_path:
    description:
      - A first stage that loads the modules that the kernel needs to find the root file system of O(image_path), a file on the host (QEMU).
    type: path
    aliases: [initramfs]
  enable_pci:
    description:
      - Put devices on a PCI bus, so that disks and interfaces can be plugged while the VM runs (Firecracker 1.16 and later).
      - The guest must rescan its bus after a device was plugged, and release a device before it is unplugged.
    type: bool
  smt:
    description:
      - Show the guest two threads for each core (Firecracker).
    type: bool
  cpu_template:
    description:
      - A named set of the host CPU's features that the guest sees (Firecracker). It lets a guest move between hosts with different CPUs.
    type: str
    choices: [C3, T2, T2A, T2CL, T2S, V1N1]
  cpu_config_path:
    description:
      - A JSON file on the host that lists the features of the host's CPU that the guest sees, if no O(cpu_template) fits (Firecracker 1.4 and
        later).
    type: path
  track_dirty_pages:
    description:
      - Record which pages the guest writes to (Firecracker). A clone of a template with this option is saved as a diff snapshot.
    type: bool
  entropy_device:
    description:
      - Give the guest a source of randomness (virtio-rng) without limits (Firecracker).
    type: bool
  console_rate_limit:
    description:
      - Bytes that the guest can print on its serial console per second (Firecracker 1.16 and later). Further output is lost.
    type: int
  vmm_metrics:
    description:
      - Let the VMM write metrics to a file (Firecracker). The sandbox's facts name it (C(metrics_log)).
    type: bool
  vmm_log_level:
    description:
      - How much the VMM writes to its log C(vmm_log) (Firecracker). The default is V(warning), and V(debug) with O(debug).
      - With V(info) and more, each request of a task adds two lines.
    type: str
    choices: [error, warning, info, debug, trace]
  mmds_size_limit:
    description:
      - Largest size of the metadata service's contents, in bytes (Firecracker 1.1 and later). The default is 51200.
    type: int
  placeholder_drives:
    description:
      - Number of empty disks that the VM starts with (Firecracker). A disk that is added to the running VM replaces one of them.
      - With this, disks can be plugged without O(enable_pci), and on old versions too. The guest sees the placeholders as small empty disks.
    type: int
  allow_vulnerable_vmm:
    description:
      - Use a version of Firecracker or of its jailer although it has a known vulnerability (Firecracker).
    type: bool
  jailer_uid:
    description:
      - The uid of the VMM in its jail (Firecracker). By default each sandbox has a uid of its own.
    type: int
  jailer_gid:
    description:
      - The gid of the VMM in its jail (Firecracker). The default is O(jailer_uid).
    type: int
  chroot_base_dir:
    description:
      - Directory below which jails are created (Firecracker). The default is C(jails) in O(state_dir).
      - It and all directories above it must belong to root and be closed to other writers. Its file system must not be mounted nodev.
    type: path
  network_namespace:
    description:
      - A network namespace that the VMM enters, such as V(/run/netns/blue) (Firecracker). Its taps must exist there.
    type: path
  jailer_cgroups:
    description:
      - Settings of the cgroup that the jailer creates for the VMM, such as V(cpu.shares=512), for the host's cgroup version (Firecracker).
    type: raw
  jailer_limits:
    description:
      - Limits of the VMM, V(fsize=BYTES) and V(no-file=COUNT) (Firecracker).
    type: raw
  vm_name:
    description:
      - The VM's name in the scenario of the host's ACRN, up to 15 bytes (ACRN 2.7 and later). The default is C(sandbox-) and the id.
    type: str
  vm_uuid:
    description:
      - The VM's UUID, one of those that the host's ACRN was built with (ACRN 2.5 and earlier). The default is ACRN's own.
    type: str
  cpu_affinity:
    description:
      - Physical CPUs of the VM, one for each of O(vcpus), as local APIC ids (ACRN 2.7 and later).
    type: raw
"""

    # One device.
    _DEVICE = r"""
  id:
    description: Name of the device, unique in its sandbox. It must be a letter, followed by up to 31 of the characters C(A-Z a-z 0-9 . _ -).
    type: str
    required: true
  type:
    description: Type of the device. It decides which of the other options can be used. Required.
    type: str
    choices: [block, net, fs, serial, vsock, vfio, vhost_user, balloon, pmem, entropy, mmds]
  file:
    description: The disk (C(block)), or the content of persistent memory (C(pmem)), a file or a block device on the host. Required.
    type: path
  format:
    description:
      - Format of the disk (C(block)). The default is V(raw). The format is never guessed from the file's content.
      - A V(qcow2) disk that names a backing file or a data file is refused, since the VMM would open that file of the host for the guest.
    type: str
    choices: [raw, qcow2]
  driver:
    description: How the guest sees the disk (C(block)). The default is the sandbox's C(block_device_driver).
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
    description: How the VMM reads and writes the disk (C(block)). V(sync) waits for each operation, V(async) uses io_uring.
    type: str
    choices: [sync, async]
  rate_limit:
    description:
      - Limits of the disk (C(block)), of writing back (C(pmem)), or of the randomness (C(entropy)). Zero and an omitted value mean no limit.
      - On QEMU a burst is available again after one second without any use.
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
    description: What the interface is connected to (C(net)), a tap, user mode networking, or a macvtap. Required.
    type: str
    choices: [tap, user, macvtap]
  mac:
    description: MAC address of the interface (C(net), C(vhost_user)).
    type: str
  tap_name:
    description: Name of the tap on the host (C(net)).
    type: str
  bridge:
    description: Bridge on the host that the tap is attached to (C(net)).
    type: str
  queues:
    description: Number of queue pairs (C(net), C(vhost_user)). The default is V(1).
    type: int
  vhost:
    description: Whether the host's kernel moves the packets (C(net)).
    type: bool
  mtu:
    description: Largest packet of the interface, in bytes (C(net)).
    type: int
  rx_rate_limit:
    description: Limits of the data that the guest receives (C(net)). An error on QEMU, which cannot limit an interface.
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
    description: Limits of the data that the guest sends (C(net)). An error on QEMU, which cannot limit an interface.
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
    description: The name that the guest mounts the share by (C(fs), C(vhost_user)).
    type: str
  path:
    description:
      - The shared directory (C(fs), required), the socket (C(serial), C(vsock)), the mediated device in sysfs (C(vfio)), or the socket of the
        process that serves the device (C(vhost_user), required).
    type: path
  name:
    description: Name of the port in the guest (C(serial)). The default is the id.
    type: str
  cid:
    description: The guest's context id (C(vsock)), 3 or more. Required.
    type: int
  address:
    description:
      - PCI address on the host (C(vfio)), required unless O(path) is set. Or the IPv4 address of the metadata service in the guest (C(mmds)), by
        default V(169.254.169.254).
    type: str
  model:
    description: Device model that the guest sees (C(vhost_user)). Required.
    type: str
    choices: [vhost-user-scsi-pci, virtio-net-pci, vhost-user-blk-pci, vhost-user-fs-pci]
  size_mb:
    description: Memory that the balloon takes from the guest, in MiB (C(balloon)). The default is V(0). It can change while the VM runs.
    type: int
  deflate_on_oom:
    description: Whether the balloon shrinks when the guest runs out of memory (C(balloon)).
    type: bool
  stats_seconds:
    description:
      - Interval of the guest's memory statistics (C(balloon)). The default is V(5). With V(0) there are none, and the task cannot read back the
        balloon's real size.
    type: int
  free_page_hinting:
    description: Whether the VMM can ask the guest for unused pages (C(balloon)).
    type: bool
  free_page_reporting:
    description: Whether the guest reports unused pages by itself (C(balloon)).
    type: bool
  interfaces:
    description: Ids of the sandbox's C(net) devices that lead to the metadata service (C(mmds)). Required.
    type: list
    elements: str
  version:
    description: Protocol of the metadata service (C(mmds)). The default is V(V2), which needs a token.
    type: str
    choices: [V1, V2]
  imds_compat:
    description: Whether the metadata service answers as EC2's does (C(mmds)).
    type: bool
  contents:
    description: The complete content of the metadata service (C(mmds)). It can change while the VM runs. It must not contain null.
    type: dict
  hide_contents:
    description:
      - Do not show the content of the metadata service (C(mmds)) in results, diffs and facts of this task and of later ones.
      - The host keeps the content in the sandbox's record, which only the user of the task can read. Set C(no_log) too if the task's own arguments
        must not be logged.
    type: bool
"""

    _OPTIONS: str = (
        _WAIT
        + _TIMEOUTS
        + r"""
  id:
    description:
      - The sandbox's name on its host, 1 to 64 of the characters C(A-Z a-z 0-9 . _ -). The first one must not be a dot or a dash.
    type: str
    required: true
    aliases: [name]
  state:
    description:
      - The state that the sandbox must have. If omitted, a new sandbox is started, and an existing one keeps, or is returned to, the state that was
        last set by a task.
      - V(absent) ends the VM and removes everything that belongs to the sandbox, including its saved state. Files of the user (kernels, images,
        disks) are not removed.
      - V(present) creates a new sandbox without starting it. For an existing sandbox it is the same as an omitted state.
      - V(started) means that the VM runs. A VM that crashed, panicked or was left incomplete is cleaned up and started again. A saved VM is
        restored and continues. A VMM that runs and does not answer is only ended with O(disruption=restart).
      - V(paused) means that the VM exists and its vCPUs do not run.
      - V(stopped) means that there is no VM. The guest is asked to shut down first, see O(stop_timeout). A saved sandbox would lose its saved
        state, so the task fails unless O(disruption) allows a restart.
      - V(saved) writes the VM's memory and devices to a file and ends the VM. A later V(started) or V(paused) continues there, also after a reboot
        of the host.
      - V(restarted) stops the VM and starts it again, every time. Changes that need a restart are made on the way.
    type: str
    choices: [absent, present, started, paused, stopped, saved, restarted]
  hypervisor:
    description:
      - The hypervisor. The default of a new sandbox is V(qemu).
      - V(firecracker) runs microVMs, in a jail unless O(jailer=none).
      - V(acrn) needs a host that runs on the ACRN hypervisor.
      - V(mock) only simulates a VM, for tests without a VMM. Its VM is a file.
      - A change needs a new VM, see O(disruption).
    type: str
    choices: [qemu, firecracker, acrn, mock]
  autostart:
    description:
      - Start the sandbox after a reboot of the host in the state that was set last, including plugged devices and changed sizes. A service
        C(kata-sandbox-ID.service) does this. It needs systemd and Python on the host, and no Ansible.
      - When the host shuts down, the guest is asked to shut down first.
    type: bool
  template:
    description:
      - Id of a template on this host that M(kata.hypervisor.kata_template) has created (QEMU and Firecracker). At each start, the VM begins in the
        template's saved state instead of booting. It shares the template's memory until it writes to it.
      - Omitted options have the template's values. Other options must have the template's values too, or the task fails and names those that
        differ. Only O(vcpus), O(memory_mb) and O(devices) may exceed the template, up to its O(max_vcpus) and O(max_memory_mb). With
        O(hypervisor=firecracker), only O(devices) may.
      - The task fails if the template does not exist, is incomplete, or is out of date because its kernel, initrd, image or VMM has changed. With
        an empty string, the sandbox boots without a template again.
    type: str
  disruption:
    description:
      - What the task may do to the guest to apply changed options. If a change needs more, the task fails before it changes anything, and names
        each option and what it needs. Check mode reports the same.
      - With V(none), only changes that a running guest does not notice, and any change of a sandbox that is stopped.
      - With V(restart), the VM may be stopped and started again, a saved state may be discarded, and a paused guest may run for a moment.
      - With V(recreate), the VM may be replaced by a new one. Options that were never set get their defaults again.
      - C(docs/capabilities.md) lists for each option and hypervisor whether a change is made live or needs a restart.
    type: str
    choices: [none, restart, recreate]
    default: none
  devices:
    description:
      - The complete list of the sandbox's devices. A device that is in the list is attached, one that is not is detached, and one with other
        options is replaced. If omitted, the devices are not changed. An empty list detaches them all.
      - A running VM gets and loses devices while it runs if its VMM and its machine type can do that for the type of the device. Otherwise the
        change needs a restart.
    type: list
    elements: dict
"""
        + _inside("devices", _DEVICE, 4)
        + _VM
        + _RESOURCES
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
      - With O(hypervisor=qemu) a template has no devices. They are plugged into its clones.
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
