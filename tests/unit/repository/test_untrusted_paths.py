# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Code that works in directories that a VMM or a jail can write to does so through `untrusted/files.py` alone.

Every call in the checked files that touches the file system by name is listed here with the reason why its path is ours alone. A call that is
not listed is a fault: go through `Directory`, or add it with its reason. To check more files, add them to CHECKED.
"""

from __future__ import annotations

import ast
import pathlib

import pytest

MODULE_UTILS = pathlib.Path(__file__).resolve().parents[3] / "plugins/module_utils"

#: Modules beside the drivers that work in run directories, or with processes of VMMs.
OTHERS = (
    "engine/converge",
    "engine/journal",
    "engine/operations",
    "engine/waiting",
    "host/console_logs",
    "host/id_mapped_mounts",
    "host/mounts",
    "host/processes",
    "host/run_directory",
    "host/sockets",
    "host/spawn",
    "host/systemd",
    "host/users",
)

#: Files that are checked, below `plugins/module_utils`.
CHECKED = sorted(
    str(path.relative_to(MODULE_UTILS))
    for path in [
        # The mock has no VMM, so nobody else writes to its directories.
        *(path for path in (MODULE_UTILS / "hypervisors").rglob("*.py") if path.name != "mock.py"),
        *(MODULE_UTILS / f"{name}.py" for name in OTHERS),
    ]
)

#: Calls that touch the file system by name.
BY_NAME = {
    "open",
    "os.open",
    "os.unlink",
    "os.remove",
    "os.rename",
    "os.replace",
    "os.link",
    "os.symlink",
    "os.mkdir",
    "os.makedirs",
    "os.rmdir",
    "os.mknod",
    "os.mkfifo",
    "os.chmod",
    "os.lchown",
    "os.chown",
    "os.stat",
    "os.lstat",
    "os.listdir",
    "os.scandir",
    "os.walk",
    "os.readlink",
    "os.truncate",
    "os.utime",
    "os.access",
    "os.statvfs",
    "os.path.exists",
    "os.path.lexists",
    "os.path.isfile",
    "os.path.isdir",
    "os.path.islink",
    "os.path.getsize",
    "os.path.getmtime",
    "os.path.samefile",
    "os.path.realpath",
    "shutil.rmtree",
    "shutil.copy",
    "shutil.copy2",
    "shutil.copyfile",
    "shutil.copytree",
    "shutil.move",
    "shutil.chown",
    "glob.glob",
    "glob.iglob",
    "tempfile.mkstemp",
    "tempfile.mkdtemp",
}

USERS = "a file that the task names"
PROC = "the kernel's"
JAILS = "the directory of all jails, or one above it: root's and closed to others (check_base)"
STATE = "the state directory, which is the task's user's alone"
TEMPLATE = "a template's own directory, which is the task's user's, below parents that are checked (check_parents)"
RUN = "the run directory, which is the task's user's alone"

#: By file and function: the calls that may be there, and why.
ALLOWED: dict[tuple[str, str], tuple[set[str], str]] = {
    ("engine/converge.py", "main"): ({"os.path.exists"}, STATE),
    ("engine/converge.py", "_has_directories"): (
        {"os.path.lexists"},
        "whether a sandbox has any directory; nothing is read there",
    ),
    ("hypervisors/common/boot_files.py", "check_boot_files"): ({"os.path.exists", "os.path.isfile", "open"}, USERS),
    ("hypervisors/common/vmm_process.py", "check_file"): ({"os.path.exists"}, USERS),
    ("hypervisors/firecracker/facts.py", "firecracker_facts"): ({"os.access", "os.path.realpath"}, USERS),
    ("hypervisors/qemu/facts.py", "qemu_facts"): ({"os.access"}, USERS),
    ("hypervisors/firecracker/details.py", "driver_details"): ({"os.path.exists"}, RUN),
    ("hypervisors/firecracker/disk_resize.py", "find"): ({"os.stat"}, USERS),
    ("hypervisors/firecracker/disk_resize.py", "resize"): ({"os.truncate", "os.stat"}, USERS),
    ("hypervisors/firecracker/jail_files.py", "give"): ({"os.open"}, STATE),
    ("hypervisors/firecracker/jail_files.py", "is_volume"): ({"os.lstat"}, STATE),
    ("hypervisors/firecracker/jail_files.py", "_make_parents"): ({"os.path.isdir", "os.mkdir", "os.chmod"}, JAILS),
    ("hypervisors/firecracker/jail_files.py", "bring"): ({"os.path.realpath", "os.open"}, USERS),
    ("hypervisors/firecracker/jail_files.py", "_bring_draft"): ({"os.open"}, "a descriptor, by /proc/self/fd"),
    ("hypervisors/firecracker/jail_files.py", "check_disk"): ({"os.stat"}, USERS),
    ("hypervisors/firecracker/jail_files.py", "remove"): ({"os.path.lexists", "os.rmdir"}, JAILS),
    ("hypervisors/firecracker/jail_files.py", "keep_log"): (
        {"os.path.lexists", "open"},
        "the jail's own directory, and a descriptor",
    ),
    ("hypervisors/firecracker/jailer.py", "free_uid"): ({"glob.glob", "os.lstat"}, JAILS),
    ("hypervisors/firecracker/jailer.py", "find_jail"): ({"glob.glob", "os.lstat"}, JAILS),
    ("hypervisors/firecracker/jailer.py", "check_base"): ({"os.lstat", "os.statvfs"}, JAILS),
    ("hypervisors/firecracker/jailer.py", "cgroup_version"): ({"os.path.exists"}, PROC),
    ("hypervisors/firecracker/jailer.py", "remove"): ({"os.rmdir"}, "a cgroup"),
    ("hypervisors/firecracker/jailer.py", "_remove_cgroup"): ({"os.rmdir"}, "a cgroup"),
    ("hypervisors/firecracker/jailer.py", "_places"): ({"glob.glob", "os.path.isdir"}, "cgroups"),
    ("hypervisors/firecracker/preparation.py", "read_cpu_config"): ({"os.path.realpath"}, USERS),
    ("hypervisors/firecracker/preparation.py", "_plan_jail"): ({"os.path.realpath"}, USERS),
    ("hypervisors/firecracker/preparation.py", "find_jailer"): ({"os.path.realpath", "os.access"}, USERS),
    ("hypervisors/firecracker/preparation.py", "_is_namespace"): ({"os.stat"}, USERS),
    ("hypervisors/firecracker/snapshots.py", "save"): ({"os.makedirs", "os.chmod"}, STATE),
    ("hypervisors/firecracker/snapshots.py", "_link_base"): ({"os.link"}, STATE),
    ("hypervisors/firecracker/snapshots.py", "_let_in"): ({"os.open"}, STATE),
    ("hypervisors/firecracker/snapshots.py", "_drop"): ({"os.unlink"}, STATE),
    ("hypervisors/firecracker/snapshots.py", "read"): ({"open", "os.stat"}, STATE),
    ("host/sparse_files.py", "is_full"): ({"os.open"}, STATE),
    ("host/sparse_files.py", "copy"): ({"os.open"}, STATE),
    ("host/sparse_files.py", "lay_over"): ({"os.open"}, STATE),
    ("hypervisors/firecracker/start.py", "argv"): ({"os.path.realpath"}, USERS),
    ("hypervisors/firecracker/threads.py", "vcpu_threads"): ({"os.listdir", "open"}, PROC),
    ("hypervisors/firecracker/vmm.py", "leftovers"): (
        {"os.path.lexists"},
        "the run directory, a jail's own directory, and the kernel's",
    ),
    ("hypervisors/firecracker/vmm.py", "written"): ({"os.path.lexists"}, "the jail's own directory, which is root's"),
    ("hypervisors/firecracker/vmm.py", "kill"): ({"os.unlink"}, RUN),
    ("hypervisors/firecracker/vmm.py", "in_jail"): (
        {"os.stat"},
        "the jail's root directory itself, which lies in a directory of root's",
    ),
    ("host/run_directory.py", "_make_directories"): (
        {"os.path.lexists", "os.mkdir", "os.chmod"},
        "the run directory and those above it, before there is a VMM",
    ),
    ("host/mounts.py", "points_below"): ({"open"}, PROC),
    # A VMM's user may go through a QEMU's run directory and make no name in it (run_directory.make_run_dir); ACRN's VMM is root.
    ("host/console_logs.py", "cut"): ({"os.open"}, "without following a link, and with its type checked"),
    ("host/console_logs.py", "cut_all"): ({"glob.glob"}, RUN),
    ("host/console_logs.py", "free_space"): ({"os.statvfs"}, RUN),
    ("hypervisors/acrn/vmm.py", "leftovers"): ({"os.path.lexists"}, RUN),
    ("hypervisors/acrn/vmm.py", "kill"): ({"os.unlink"}, RUN),
    ("hypervisors/acrn/vmm.py", "check_host"): ({"os.path.exists"}, "the host's devices"),
    ("hypervisors/qemu/accelerator.py", "_device_problem"): ({"os.open"}, "/dev/kvm"),
    ("hypervisors/qemu/accelerator.py", "_question"): ({"open"}, PROC),
    ("hypervisors/qemu/cloning.py", "make_memory_file"): ({"os.open", "os.truncate", "os.unlink"}, TEMPLATE),
    ("hypervisors/qemu/cloning.py", "keep_memory_file"): ({"os.open"}, TEMPLATE),
    ("hypervisors/qemu/devices/disks.py", "_check_file"): ({"os.access"}, USERS),
    ("hypervisors/qemu/devices/fs.py", "complete"): ({"os.path.isdir", "os.path.realpath"}, USERS),
    ("hypervisors/qemu/devices/fs.py", "check_host"): ({"os.path.isdir"}, USERS),
    ("hypervisors/qemu/devices/net.py", "_check_interface"): ({"os.path.exists"}, "the host's devices"),
    ("hypervisors/qemu/devices/net.py", "_address_of"): ({"open"}, PROC),
    ("hypervisors/qemu/devices/vsock.py", "check_host"): ({"os.path.exists"}, "the host's devices"),
    ("hypervisors/qemu/devices/vsock.py", "_reserve_cid"): ({"os.open"}, "the host's devices"),
    ("hypervisors/qemu/firmware.py", "check_firmware"): ({"os.lstat"}, STATE),
    ("hypervisors/qemu/firmware.py", "_checked_size"): ({"open"}, USERS),
    ("hypervisors/qemu/firmware.py", "_copy_variables"): ({"os.open"}, STATE),
    ("hypervisors/qemu/firmware.py", "open_firmware"): (
        {"open", "os.open", "os.path.lexists"},
        "files that the task names, and the copy in the state directory, which is the task's user's alone",
    ),
    ("hypervisors/qemu/migration.py", "write_state"): ({"os.makedirs", "os.open", "os.replace", "os.unlink"}, STATE),
    ("hypervisors/qemu/migration.py", "read_description"): ({"open", "os.stat"}, STATE),
    ("hypervisors/qemu/migration.py", "read_state"): ({"os.open"}, STATE),
    ("hypervisors/qemu/preparation.py", "_check_boot_sector"): ({"open"}, USERS),
    ("hypervisors/qemu/preparation.py", "_check_places"): ({"os.path.exists", "os.path.isdir"}, USERS),
    ("hypervisors/qemu/start.py", "start"): ({"os.path.realpath"}, USERS),
    ("hypervisors/qemu/devices/vfio.py", "check"): ({"os.path.exists", "os.path.isdir"}, PROC),
    ("hypervisors/qemu/devices/vfio.py", "lent"): ({"os.chown", "os.stat"}, "the kernel's device node, in /dev"),
    ("hypervisors/qemu/devices/vfio.py", "_group_of"): ({"os.path.realpath"}, PROC),
    ("hypervisors/qemu/devices/vfio.py", "_driver_of"): ({"os.path.exists", "os.path.realpath"}, PROC),
    ("hypervisors/qemu/devices/vfio.py", "_used_by_host"): ({"os.listdir"}, PROC),
    ("hypervisors/qemu/devices/vfio.py", "_is_bridge"): ({"open"}, PROC),
    ("hypervisors/qemu/devices/virtiofsd.py", "find_daemon"): ({"os.access", "os.path.isfile"}, USERS),
    ("hypervisors/qemu/devices/virtiofsd.py", "start"): ({"os.path.exists"}, RUN),
    ("hypervisors/qemu/vmm.py", "leftovers"): ({"os.listdir"}, RUN),
    ("hypervisors/qemu/vmm.py", "_end_own_processes"): ({"os.lstat"}, RUN),
    ("host/id_mapped_mounts.py", "open_for"): ({"os.open"}, USERS),
    ("host/id_mapped_mounts.py", "_user_namespace"): ({"open", "os.open"}, PROC),
    ("engine/operations.py", "_take_steps"): ({"os.path.exists"}, RUN),
    ("engine/operations.py", "_identity_and_size"): ({"os.stat"}, "nothing but its size is taken"),
    ("host/processes.py", "boot_id"): ({"open"}, PROC),
    ("host/processes.py", "_start_time"): ({"open"}, PROC),
    ("host/processes.py", "_executable"): ({"os.readlink"}, PROC),
    ("host/processes.py", "command_line"): ({"open"}, PROC),
    ("host/processes.py", "owner_of"): ({"os.stat"}, PROC),
    ("host/processes.py", "uid_of"): ({"open"}, PROC),
    ("host/processes.py", "command_lines"): ({"os.listdir"}, PROC),
    ("host/spawn.py", "spawn_detached"): (
        {"os.path.exists", "os.path.getsize", "os.path.realpath"},
        "nothing but the log's size is taken",
    ),
    ("host/users.py", "own_user"): ({"os.stat"}, "the host's devices"),
    ("host/users.py", "own_uid"): (
        {"glob.glob", "os.lstat"},
        "run directories and jails themselves, in directories that are the task's user's alone",
    ),
    ("host/users.py", "owners_of_processes"): ({"os.listdir"}, PROC),
    ("host/users.py", "may_use"): ({"os.path.realpath", "os.stat"}, USERS),
    ("host/sockets.py", "check_socket_place"): ({"os.lstat"}, USERS),
    ("host/sockets.py", "is_socket"): ({"os.lstat"}, "no link is followed, and nothing but its type is taken"),
    ("host/sockets.py", "check_served"): ({"os.path.realpath"}, USERS),
    ("host/systemd.py", "has_systemd"): ({"os.path.isdir"}, PROC),
    ("engine/journal.py", "log_of"): ({"os.listdir", "os.stat"}, "what the VMM has open"),
    ("engine/waiting.py", "_printed"): ({"open"}, "a descriptor"),
    ("host/mounts.py", "file_system_of"): ({"open", "os.path.realpath"}, "the kernel's, and a path that is only named"),
    ("host/mounts.py", "mount_number"): ({"open"}, PROC),
}


def calls_by_name(source: str) -> dict[str, set[str]]:
    """By function: the calls in it that touch the file system by name. A call relative to a descriptor (`dir_fd`) does not."""
    found: dict[str, set[str]] = {}

    def visit(node: ast.AST, function: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = (
                child.name if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not function else function
            )
            if isinstance(child, ast.Call):
                name = ast.unparse(child.func)
                relative = any(keyword.arg and keyword.arg.endswith("dir_fd") for keyword in child.keywords)
                if name in BY_NAME and not relative:
                    found.setdefault(inner, set()).add(name)
            visit(child, inner)

    visit(ast.parse(source), "")
    return found


@pytest.mark.parametrize("name", CHECKED)
def test_files_that_others_can_write_to_are_reached_through_the_door(name: str) -> None:
    for function, calls in calls_by_name((MODULE_UTILS / name).read_text(encoding="utf-8")).items():
        allowed, _reason = ALLOWED.get((name, function), (set(), ""))
        assert calls <= allowed, (
            f"{name}: {function or 'the module'} calls {', '.join(sorted(calls - allowed))} with a path"
        )


def test_the_list_has_nothing_that_is_not_there() -> None:
    for (name, function), (calls, reason) in ALLOWED.items():
        found = calls_by_name((MODULE_UTILS / name).read_text(encoding="utf-8")).get(function, set())
        assert calls == found, f"{name}: {function} has {found}"
        assert reason


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f(jail):\n    os.chown(jail.path('x'), 1, 1)", {"f": {"os.chown"}}),
        ("def f(jail):\n    def g():\n        shutil.rmtree(jail.root)", {"f": {"shutil.rmtree"}}),
        ("class C:\n    def f(self):\n        with open(self.path) as s: pass", {"f": {"open"}}),
        ("def f(d):\n    os.mkdir('x', dir_fd=d)", {}),
    ],
)
def test_the_search_finds_what_it_must(source: str, found: dict[str, set[str]]) -> None:
    assert calls_by_name(source) == found
