# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away host with the hardware that this machine may lack: a VM under TCG, with Debian's generic kernel.

It has an IOMMU with devices behind it, the modules vfio-pci, vhost_vsock, vhost_net and macvtap, and a KVM that boots guests, since TCG emulates AMD's SVM.
Its root file system is this machine's: what it writes there goes to memory. So a command finds there the programs, the checkout and the caches that are here.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
from typing import Mapping

from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.initrd import Program, build_initrd
from ansible_collections.kata.hypervisor.plugins.module_utils.provisioning.vmlinux import extract_vmlinux
from tests.support.checkout import ROOT
from tests.support.guest_assets import guest_assets

HERE = pathlib.Path(__file__).resolve().parent
KERNEL_PACKAGE = "linux-image-amd64"

#: Where the host has its devices. A network card whose cable leads to the host's own card, and a disk, each in an IOMMU group of its own ...
CARD, DISK = "0000:00:10.0", "0000:00:11.0"
#: ... and two cards behind one bridge, which share a group. The host's own card is at LAN.
NEIGHBOURS, LAN = ("0000:01:01.0", "0000:01:02.0"), "0000:00:13.0"
CARD_ADDRESS = "52:54:00:00:10:00"
DISK_CONTENT = b"hello from the disk"

HOST_MODULES = (
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "virtio_net",
    "e1000e",
    "e1000",
    "nvme",
    "bridge",
    "tun",
    "macvtap",
)
HOST_MODULES += ("vfio_pci", "vfio_iommu_type1", "vhost_vsock", "vhost_net", "kvm_amd")
#: What the rules of a network are made of. Nothing loads modules when they are needed: the host has only those of its initrd.
HOST_MODULES += (
    "veth",
    "crc32c_generic",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_reject_inet",
)
HOST_MODULES += ("nft_fib_inet", "nft_log", "nft_limit", "nf_log_syslog", "nft_meta_bridge", "nft_reject_bridge")
GUEST_MODULES = (
    "virtio_pci",
    "virtio_mmio",
    "virtio_balloon",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_mem",
    "vmw_vsock_virtio_transport",
    "e1000e",
    "e1000",
    "nvme",
    "evdev",
)
#: Generous: it takes minutes on a machine that has nothing else to do.
SECONDS = 3600


class NoHost(Exception):
    """There can be no such host on this machine, and the reason."""


@dataclasses.dataclass(frozen=True)
class Files:
    """What host and guest boot.

    :param guest_initrd: for a sandbox: our init, drivers of the devices, and socat
    """

    #: Names in the shared directory: the guest's initrd, one with the guest agent as users have it, and the kernel for VMMs that decompress none.
    GUEST, AGENT, UNCOMPRESSED = "guest.img", "agent.img", "vmlinux"

    kernel: pathlib.Path
    host_initrd: pathlib.Path
    guest_initrd: pathlib.Path


def run(command: list[str], share: pathlib.Path, environment: Mapping[str, str]) -> int:
    """Run a command as root on such a host, in the checkout; its exit code.

    :param share: a directory that host and machine share; what the command printed is in its file `output`, what the kernel said in `console`
    :param environment: beside HOME and PATH
    :raises NoHost: this machine cannot have one
    :raises RuntimeError: the host ended before the command
    """
    files = boot_files(share)
    (share / "disk").write_bytes(DISK_CONTENT.ljust(16 << 20, b"\0"))
    variables = {
        name: os.environ[name]
        for name in ("HOME", "PATH", "KATA_HYPERVISOR_CACHE", "XDG_CACHE_HOME")
        if name in os.environ
    }
    words = ["env", *(f"{name}={value}" for name, value in {**variables, **environment}.items()), *command]
    (share / "run").write_text(
        f"export PATH={shlex.quote(os.environ['PATH'])}\nip link set lo up\ncd {shlex.quote(str(ROOT))}\n"
        f"{shlex.join(words)} >{share}/output 2>&1 </dev/null\necho $? >{share}/exit-code\necho o >/proc/sysrq-trigger\nsleep 60\n"
    )
    with open(share / "qemu.log", "wb") as log:
        subprocess.run(
            qemu_command(files, share), stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=SECONDS, check=False
        )
    if not (share / "exit-code").exists():
        said = [
            (share / name).read_text(errors="replace")[-2000:]
            for name in ("qemu.log", "console", "output")
            if (share / name).exists()
        ]
        raise RuntimeError("the host ended before the command: " + "\n".join(said))
    return int((share / "exit-code").read_text())


def boot_files(directory: pathlib.Path) -> Files:
    """The kernel of host and guest, and their initrds.

    :raises NoHost: this machine has no such kernel
    """
    if platform.machine() != "x86_64":
        raise NoHost(
            f"the host would be an x86_64 one with the programs of this machine, which is {platform.machine()}"
        )
    try:
        assets = guest_assets(KERNEL_PACKAGE)
        kernel = assets.kernel.resolve()
        busybox = next(kernel.parents[3].glob("tools/busybox-static/**/bin/busybox"))
    except (RuntimeError, StopIteration) as error:
        raise NoHost(f"Debian's package {KERNEL_PACKAGE} cannot be had here: {error}") from error
    modules = next(kernel.parents[1].glob("**/modules.builtin")).parent
    common = {"busybox": str(busybox), "modules_directory": str(modules)}
    host = build_initrd(init=str(HERE / "hardware_host_init"), modules=HOST_MODULES, **common)
    socat = Program("/usr/bin/socat", "/bin/socat")
    guest = build_initrd(
        init=str(ROOT / "roles/kata_image/files/init"), modules=GUEST_MODULES, programs=[socat], **common
    )
    files = Files(kernel, directory / "host.img", directory / Files.GUEST)
    files.host_initrd.write_bytes(host.content)
    files.guest_initrd.write_bytes(guest.content)
    shutil.copyfile(kernel, directory / "vmlinuz")
    shutil.copyfile(assets.agent_initrd, directory / Files.AGENT)
    (directory / Files.UNCOMPRESSED).write_bytes(extract_vmlinux(str(kernel)))
    return files


def qemu_command(files: Files, share: pathlib.Path) -> list[str]:
    """The host's machine."""
    words = [
        "qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
    ]
    words += ["-M", "q35", "-smp", "2", "-m", "4096", "-kernel", str(files.kernel), "-initrd", str(files.host_initrd)]
    words += [
        "-append",
        f"console=ttyS0 loglevel=5 panic=-1 net.ifnames=0 intel_iommu=on iommu=nopt host.share={share}",
    ]
    words += ["-serial", f"file:{share}/console", "-device", "intel-iommu,intremap=on,caching-mode=on"]
    words += [
        "-fsdev",
        "local,id=machine,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device",
        "virtio-9p-pci,fsdev=machine,mount_tag=machine",
    ]
    words += [
        "-fsdev",
        f"local,id=share,path={share},security_model=none",
        "-device",
        "virtio-9p-pci,fsdev=share,mount_tag=share",
    ]
    words += [
        "-drive",
        f"file={share}/disk,if=none,id=disk,format=raw",
        "-device",
        f"nvme,drive=disk,serial=HARDWARE-1,addr={slot(DISK)}",
    ]
    words += ["-device", "pcie-pci-bridge,id=bridge,addr=12"]
    cards = [(LAN, "virtio-net-pci", "pcie.0", ""), (CARD, "e1000e", "pcie.0", f",mac={CARD_ADDRESS}")]
    cards += [(address, "e1000", "bridge", "") for address in NEIGHBOURS]
    for number, (address, model, bus, more) in enumerate(cards):
        words += [
            "-netdev",
            f"hubport,hubid=0,id=net{number}",
            "-device",
            f"{model},netdev=net{number},bus={bus},addr={slot(address)}{more}",
        ]
    return words


def slot(address: str) -> str:
    """The slot in a PCI address."""
    return address.partition(".")[0].rpartition(":")[2]
