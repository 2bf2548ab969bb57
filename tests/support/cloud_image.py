# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud image like those of distributions, made of Debian's own packages and kept in a cache.

It has cloud-init, systemd, an ssh server and GRUB, which BIOS and UEFI start, on a disk with a GPT: the root file system last, so that it can
grow. It lacks what only costs time in a test: timers, documentation, kernel modules that no VM needs in its initrd.

Needs root and Debian's packages of `PACKAGES`. Run as a program, it prints the path of the image.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import uuid
from typing import Sequence

from tests.support.checkout import ROOT
from tests.support.guest_assets import cache_directory

#: What makes the image.
PACKAGES = ("mmdebstrap", "dosfstools", "mtools", "fdisk", "qemu-utils", "e2fsprogs")
RELEASE = "bookworm"
#: What is in it. The packages of GRUB have the parts of which the boot loaders are made, and the program that makes them.
CONTENT = (
    "linux-image-cloud-amd64 initramfs-tools systemd-sysv dbus udev kmod grub-common grub-pc-bin grub-efi-amd64-bin"
    " cloud-init cloud-guest-utils fdisk e2fsprogs openssh-server sudo iproute2 iputils-ping systemd-resolved curl ca-certificates"
)
#: A change of this file, of this number too, makes a new image.
SERIAL = 1
SECTOR = 512
MIB = 1 << 20
#: Partitions, MiB: GRUB's second stage for BIOS, the EFI system partition, the root file system.
BIOS_AT, EFI_AT, ROOT_AT, ROOT_SIZE = 1, 2, 10, 1100
ROOT_LABEL = "cloudimg-rootfs"
#: Modules of GRUB that find, read and start what is on the root partition.
GRUB_MODULES = [
    "part_gpt",
    "ext2",
    "search",
    "search_label",
    "configfile",
    "normal",
    "linux",
    "echo",
    "serial",
    "terminal",
]

GRUB_EARLY = f"search --label --set=root {ROOT_LABEL}\nset prefix=($root)/boot/grub\nconfigfile /boot/grub/grub.cfg\n"
GRUB_CONFIG = f"""\
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=0
linux /vmlinuz root=LABEL={ROOT_LABEL} ro console=tty0 console=ttyS0,115200 systemd.show_status=false
initrd /initrd.img
boot
"""
#: Units that only cost time in a test.
MASKED = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "systemd-networkd-wait-online.service",
    "systemd-timesyncd.service",
]
FILES = {
    "etc/fstab": f"LABEL={ROOT_LABEL} / ext4 rw,noatime,errors=remount-ro 0 1\n",
    "etc/hostname": "localhost\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/machine-id": "",
    "etc/cloud/cloud.cfg.d/90-quick.cfg": "ssh_genkeytypes: [ed25519]\nlocale: C.UTF-8\nmanage_etc_hosts: true\n",
    "boot/grub/grub.cfg": GRUB_CONFIG,
}
#: What the initrd has, instead of all that any machine could need.
INITRD_MODULES = "virtio_pci virtio_blk virtio_scsi sd_mod ext4\n"
UNWANTED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*")


def cloud_image() -> pathlib.Path:
    """The image, a qcow2, from the cache or made now.

    :raises RuntimeError: it could not be made
    """
    directory = cache_directory() / "cloud"
    directory.mkdir(parents=True, exist_ok=True)
    image = directory / "image.qcow2"
    source = pathlib.Path(__file__)
    with open(directory / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.exists() or image.stat().st_mtime < source.stat().st_mtime:
            with tempfile.TemporaryDirectory(dir=directory, prefix="new-") as work:
                os.replace(_build(pathlib.Path(work)), image)
    return image


def _build(work: pathlib.Path) -> pathlib.Path:
    _run(str(ROOT / "tools/install-packages.sh"), *PACKAGES)
    tree = work / "tree"
    _unpack(tree)
    bios, efi = _boot_loaders(tree)
    for folder in ("boot/efi", "var/lib/apt/lists", "var/cache/apt", "tmp", "run", "dev", "var/log/apt"):
        shutil.rmtree(tree / folder, ignore_errors=True)
        (tree / folder).mkdir(parents=True)
    os.chmod(tree / "tmp", 0o1777)
    disk = work / "disk"
    with open(disk, "wb") as stream:
        stream.truncate((ROOT_AT + ROOT_SIZE + 1) * MIB)
    table = (
        "label: gpt\n"
        f"14 : start={BIOS_AT}MiB, size={EFI_AT - BIOS_AT}MiB, type=21686148-6449-6E6F-744E-656564454649\n"
        f"15 : start={EFI_AT}MiB, size={ROOT_AT - EFI_AT}MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"
        f"1 : start={ROOT_AT}MiB, size={ROOT_SIZE}MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\n"
    )
    _run("sfdisk", "--quiet", str(disk), words=table)
    _write_bios_loader(disk, bios, tree / "usr/lib/grub/i386-pc/boot.img")
    _write_efi_partition(disk, efi, work)
    options = ["-q", "-F", "-L", ROOT_LABEL, "-d", str(tree), "-E", f"offset={ROOT_AT * MIB},lazy_itable_init=1"]
    _run("mke2fs", "-t", "ext4", *options, str(disk), f"{ROOT_SIZE}M")
    image = work / "image.qcow2"
    _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(disk), str(image))
    return image


def _unpack(tree: pathlib.Path) -> None:
    """The packages, with our files among them."""
    excluded = [f"--dpkgopt=path-exclude={path}" for path in UNWANTED]
    late = '--aptopt=Acquire::Check-Valid-Until "false"'
    include = "--include=" + ",".join(CONTENT.split())
    hooks = [
        "--essential-hook=mkdir -p $1/etc/initramfs-tools/conf.d",
        "--essential-hook=echo MODULES=list > $1/etc/initramfs-tools/conf.d/quick",
        f"--essential-hook=printf '%s\\n' {INITRD_MODULES.strip()} > $1/etc/initramfs-tools/modules",
    ]
    _run("mmdebstrap", "--quiet", "--variant=minbase", late, *excluded, include, *hooks, RELEASE, str(tree))
    for path, text in FILES.items():
        place = tree / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.write_text(text)
    for unit in MASKED:
        os.symlink("/dev/null", tree / "etc/systemd/system" / unit)
    _run("chroot", str(tree), "systemctl", "enable", "--quiet", "systemd-networkd", "ssh")
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()


def _boot_loaders(tree: pathlib.Path) -> tuple[bytes, bytes]:
    """GRUB's second stage for BIOS, and its program for UEFI; both find the root file system by its label."""
    (tree / "tmp/early.cfg").write_text(GRUB_EARLY)
    made = []
    for platform, further in (("i386-pc", ["biosdisk"]), ("x86_64-efi", ["efi_gop"])):
        command = ["grub-mkimage", "-O", platform, "-o", "/tmp/core", "-p", "/boot/grub", "-c", "/tmp/early.cfg"]
        _run("chroot", str(tree), *command, *GRUB_MODULES, *further)
        made.append((tree / "tmp/core").read_bytes())
    return made[0], made[1]


def _write_bios_loader(disk: pathlib.Path, core: bytes, boot: pathlib.Path) -> None:
    """GRUB's first stage goes into the first sector, and points to the second, which points to its own rest (GRUB's grub-core/boot/i386/pc)."""
    first = BIOS_AT * MIB // SECTOR
    sectors = -(-len(core) // SECTOR)
    assert sectors * SECTOR <= (EFI_AT - BIOS_AT) * MIB
    # The list of blocks ends with the first sector: where the rest is, how long it is, and the segment that it is loaded to.
    rest = struct.pack("<QHH", first + 1, sectors - 1, 0x820)
    core = core[: SECTOR - len(rest)] + rest + core[SECTOR:]
    with open(disk, "r+b") as stream:
        table = stream.read(SECTOR)
        code = bytearray(boot.read_bytes()[:440])
        struct.pack_into("<Q", code, 0x5C, first)
        # Hard disks only: the jump around the check of the drive's number becomes two empty instructions.
        code[0x66:0x68] = b"\x90\x90"
        stream.seek(0)
        stream.write(bytes(code) + table[440:])
        stream.seek(BIOS_AT * MIB)
        stream.write(core)


def _write_efi_partition(disk: pathlib.Path, program: bytes, work: pathlib.Path) -> None:
    loader, partition = work / "loader.efi", work / "efi"
    loader.write_bytes(program)
    with open(partition, "wb") as stream:
        stream.truncate((ROOT_AT - EFI_AT) * MIB)
    _run("mkfs.vfat", "-n", "UEFI", "-i", uuid.UUID(int=SERIAL).hex[-8:], str(partition))
    _run("mmd", "-i", str(partition), "::EFI", "::EFI/BOOT")
    _run("mcopy", "-i", str(partition), str(loader), "::EFI/BOOT/BOOTX64.EFI")
    with open(disk, "r+b") as stream:
        stream.seek(EFI_AT * MIB)
        stream.write(partition.read_bytes())


def _run(*argv: str, words: str = "") -> None:
    done = _finished(argv, words)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")


def _finished(argv: Sequence[str], words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    return subprocess.run(argv, input=words, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    print(cloud_image())
