# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kata `configuration.toml` as a HypervisorConfig, with the loader's own defaults and limits.

The loader of Kata 1.x fills in and checks more than `config.HypervisorConfig.valid` does, and differently.
"""

from __future__ import annotations

import dataclasses
import math
import os
import stat
import sys
from typing import Any, Mapping

from ..errors import AssetError, ConfigError, HostError
from ..host.units import MIB
from .config import DEFAULTS, MAX_NUMBER, MAX_VCPUS, HypervisorConfig
from .declarations import Cost, options_of
from .kernel_params import Param, add_kernel_param, parse_kernel_params, serialize_params

MIN_MEMORY_MB = 8
MAX_BRIDGES = 5
DEFAULT_MEMORY_SLOTS = 10
DEFAULT_KERNEL = "/usr/share/kata-containers/vmlinuz.container"
DEFAULT_HYPERVISOR = "/usr/bin/qemu-lite-system-x86_64"
DEFAULT_CTL = "/usr/bin/acrnctl"
BLOCK_DEVICE_DRIVERS = ("virtio-scsi", "virtio-blk", "virtio-mmio", "nvdimm")
SHARED_FILE_SYSTEMS = ("virtio-9p", "virtio-fs")
HYPERVISOR_TABLES = ("qemu", "firecracker", "acrn")
#: Tables of which Kata 1.x has one kind only, and its error for another kind.
PARTS = (
    ("proxy", "proxy type not supported"),
    ("agent", "agent type is not supported"),
    ("shim", "shim is not supported"),
)
#: Kernel parameters for an image's init, so that only the agent runs.
IMAGE_PARAMS = (
    Param("systemd.unit", "kata-containers.target"),
    Param("systemd.mask", "systemd-networkd.service"),
    Param("systemd.mask", "systemd-networkd.socket"),
)

#: The keys of a hypervisor's table that name files, and a task's options for them.
PATH_OPTIONS = {
    "path": "hypervisor_path",
    "kernel": "kernel_path",
    "image": "image_path",
    "initrd": "initrd_path",
    "firmware": "firmware_path",
    "jailer_path": "jailer_path",
    "ctlpath": "hypervisor_ctl_path",
}

#: The keys that name programs, which run with the task's rights.
PROGRAM_KEYS = ("path", "ctlpath", "jailer_path", "virtio_fs_daemon")

#: New names of keys in later releases of Kata, by key.
LATER_WORDS = {
    "block_device_driver": {
        "virtio-blk-pci": "virtio-blk",
        "virtio-blk-ccw": "virtio-blk",
        "virtio-blk-mmio": "virtio-mmio",
    },
    "virtio_fs_cache": {"never": "none"},
}
#: The most that a configuration file may have, bytes.
MOST_BYTES = 1 << 20

#: The keys of a hypervisor's table that go over unchanged, by field, for every driver.
COMMON_KEYS = {
    "huge_pages": "enable_hugepages",
    "debug": "enable_debug",
    "disable_nesting_checks": "disable_nesting_checks",
    "guest_hook_path": "guest_hook_path",
}
#: And those that only some drivers take.
DRIVER_KEYS = {
    "qemu": {
        "mem_offset": "memory_offset",
        "virtio_fs_cache_size": "virtio_fs_cache_size",
        "virtio_fs_daemon": "virtio_fs_daemon",
        "virtio_fs_cache": "virtio_fs_cache",
        "block_device_cache_set": "block_device_cache_set",
        "block_device_cache_direct": "block_device_cache_direct",
        "block_device_cache_noflush": "block_device_cache_noflush",
        "disable_block_device_use": "disable_block_device_use",
        "enable_iothreads": "enable_iothreads",
        "mem_prealloc": "enable_mem_prealloc",
        "file_backed_mem_root_dir": "file_mem_backend",
        "hotplug_vfio_on_root_bus": "hotplug_vfio_on_root_bus",
        "disable_vhost_net": "disable_vhost_net",
    },
    "firecracker": {
        "disable_block_device_use": "disable_block_device_use",
        "enable_iothreads": "enable_iothreads",
    },
    "acrn": {
        "disable_vhost_net": "disable_vhost_net",
    },
}
TEXT_KEYS = frozenset(
    [
        "path",
        "jailer_path",
        "kernel",
        "ctlpath",
        "initrd",
        "image",
        "firmware",
        "machine_accelerators",
        "kernel_params",
        "machine_type",
        "block_device_driver",
        "entropy_source",
        "shared_fs",
        "virtio_fs_daemon",
        "virtio_fs_cache",
        "file_mem_backend",
        "guest_hook_path",
    ]
)
NUMBER_KEYS = frozenset(
    [
        "default_vcpus",
        "default_maxvcpus",
        "default_memory",
        "memory_slots",
        "memory_offset",
        "default_bridges",
        "msize_9p",
        "virtio_fs_cache_size",
    ]
)
FLAG_KEYS = frozenset(
    [
        "block_device_cache_set",
        "block_device_cache_direct",
        "block_device_cache_noflush",
        "disable_block_device_use",
        "enable_iothreads",
        "enable_debug",
        "enable_mem_prealloc",
        "enable_hugepages",
        "enable_swap",
        "disable_nesting_checks",
        "use_vsock",
        "hotplug_vfio_on_root_bus",
        "disable_vhost_net",
    ]
)


@dataclasses.dataclass
class AgentSettings:
    """What the file says about Kata's agent."""

    use_vsock: bool = False
    debug: bool = False
    trace: bool = False
    trace_mode: str = ""
    trace_type: str = ""
    kernel_modules: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class FactorySettings:
    """What the file says about templates and the VM cache."""

    template: bool = False
    template_path: str = "/run/vc/vm/template"
    vm_cache_number: int = 0
    vm_cache_endpoint: str = "/var/run/kata-containers/cache.sock"


@dataclasses.dataclass
class KataConfiguration:
    """The result of reading a configuration file.

    :param proxy_type: kataProxy, or noProxy where the guest is reached over vsock
    """

    hypervisor_type: str
    hypervisor_config: HypervisorConfig
    agent: AgentSettings
    factory: FactorySettings
    proxy_type: str = "kataProxy"

    def task_options(self) -> dict[str, Any]:
        """The settings of the file as a task's options, without those that the hypervisor does not have."""
        options = {}
        for declared in options_of(HypervisorConfig):
            value = getattr(self.hypervisor_config, declared.attribute)
            if value and declared.cost_for(self.hypervisor_type) is not Cost.UNSUPPORTED:
                options[declared.name] = serialize_params(value) if declared.attribute == "kernel_params" else value
        return options


@dataclasses.dataclass(frozen=True)
class LoaderHost:
    """The facts of the host that the loader needs.

    :param cpus: its CPUs
    :param vsock_device: guests can be reached over vsock where this exists
    :param max_vcpus: what its architecture can give a VM
    """

    cpus: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    vsock_device: str = "/dev/vhost-vsock"
    max_vcpus: int = MAX_VCPUS


class _Table:
    """A table of the file, read with types; a key that is not there is empty."""

    def __init__(self, name: str, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise ConfigError(f"[{name}] is not a table")
        self.name = name
        self.values = values

    def text(self, key: str) -> str:
        value = self.values.get(key, "")
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def flag(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def number(self, key: str, signed: bool = False) -> int:
        value = self.values.get(key, 0)
        lowest, highest = (-(1 << 31), (1 << 31) - 1) if signed else (0, MAX_NUMBER)
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise self._wrong(key, f"an integer from {lowest} to {highest}")
        return value

    def words(self, key: str) -> list[str]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self._wrong(key, "a list of texts")
        return list(value)

    def any(self, key: str) -> Any:
        """The value of a key of a hypervisor's table, by the type it has there."""
        if key in TEXT_KEYS:
            return self.text(key)
        return self.flag(key) if key in FLAG_KEYS else self.number(key, signed=key == "default_vcpus")

    def check_types(self) -> None:
        """Read every key of a hypervisor's table, also those that its driver has no use for."""
        for key in (TEXT_KEYS | NUMBER_KEYS | FLAG_KEYS) & set(self.values):
            self.any(key)

    def _wrong(self, key: str, wanted: str) -> ConfigError:
        return ConfigError(f"[{self.name}] {key} is not {wanted}", option=key, wanted=self.values[key])


def load_kata_toml(
    path: str, host: LoaderHost | None = None, replaced: Mapping[str, Any] | None = None
) -> KataConfiguration:
    """Read a configuration file.

    Keys and tables that nobody knows are ignored. A proxy's and a shim's path are not looked at: nothing here starts them.

    :param replaced: options of a task, by name; they take the place of the file's before anything of it is judged, and what later releases of
        Kata call otherwise is translated. None reads the file as Kata 1.x does
    :raises ConfigError: the file is no TOML, a value has the wrong type or is impossible, or this Python cannot read TOML
    :raises AssetError: a file that it names is missing or empty
    :raises HostError: it is read for a task of root's, and another user could exchange a program that it names
    """
    try:
        document = _parse(path)
        if replaced is None:
            return _configuration(document, host or LoaderHost())
        shares = _translate(document)
        _replace_options(document, replaced)
        _check_programs(document)
        # Firecracker's vsock is a socket of its own on the host.
        found = _configuration(document, host or LoaderHost(vsock_device="/"))
        if not shares and "shared_fs" not in replaced:
            found.hypervisor_config.shared_fs = ""
        return found
    except (ConfigError, AssetError, HostError) as error:
        error.message = f"{path}: {error.message}"
        raise


def _check_programs(document: dict[str, Any]) -> None:
    """Refuse programs that another user could exchange, by the names in the file: the loader resolves links, whoever made them.

    :raises HostError: names the key's option
    """
    if os.geteuid() != 0:
        return
    from ..untrusted.files import check_parents

    for table in _tables(document).values():
        for key in PROGRAM_KEYS:
            program = table.get(key)
            if isinstance(program, str) and os.path.isabs(program):
                check_parents(program, PATH_OPTIONS.get(key, key), shared_groups=True)


def _tables(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The hypervisors' tables, by name."""
    tables = document.get("hypervisor")
    return (
        {name: table for name, table in tables.items() if isinstance(table, dict)} if isinstance(tables, dict) else {}
    )


def _translate(document: dict[str, Any]) -> bool:
    """Bring what later releases of Kata write to the words of 1.x; whether directories are shared.

    :raises ConfigError: something of it is not there at all, and what to give instead
    """
    tables = _tables(document)
    known = [name for name in HYPERVISOR_TABLES if name in tables]
    if tables and not known:
        raise ConfigError(
            f"the file configures {' and '.join(sorted(tables))}",
            option="config_file",
            fix=f"Give a file that configures one of {', '.join(HYPERVISOR_TABLES)}.",
        )
    for name in known:
        table = tables[name]
        for key, words in LATER_WORDS.items():
            if isinstance(table.get(key), str):
                table[key] = words.get(table[key], table[key])
        vcpus = table.get("default_vcpus")
        if isinstance(vcpus, float) and 0 <= vcpus < MAX_NUMBER:
            table["default_vcpus"] = math.ceil(vcpus)  # A share of a CPU counts as one.
    return not any(tables[name].pop("shared_fs") for name in known if tables[name].get("shared_fs") == "none")


def _replace_options(document: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Put a task's options into the hypervisors' tables. An image takes the place of an initrd, and the other way round."""
    given = {key: options[name] for key, name in PATH_OPTIONS.items() if options.get(name)}
    for key, other in (("image", "initrd"), ("initrd", "image")):
        if key in given and other not in given:
            given[other] = ""
    for declared in options_of(HypervisorConfig):
        value = options.get(declared.name)
        if value is not None and declared.type in ("str", "int", "bool", "path"):
            given.update(
                {
                    key: value
                    for key in (declared.name, *declared.aliases)
                    if key in TEXT_KEYS | NUMBER_KEYS | FLAG_KEYS and key not in given
                }
            )
    for table in _tables(document).values():
        table.update(given)
        if "kernel_params" in options:
            table.pop("kernel_params", None)


def _parse(path: str) -> dict[str, Any]:
    if sys.version_info < (3, 11):
        raise ConfigError(
            "reading TOML needs Python 3.11 or later on the host",
            option="config_file",
            fix="Set the options in the task.",
        )
    import tomllib  # type: ignore[import-not-found,unused-ignore]

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError("this must be a file", option="config_file", wanted=path)
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError("the file cannot be read", option="config_file", answer=str(error)) from error
    if len(data) > MOST_BYTES:
        raise ConfigError(f"the file must have at most {MOST_BYTES} bytes", option="config_file", wanted=path)
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("must be TOML", option="config_file", answer=str(error)) from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(
            "must be readable TOML", option="config_file", answer=f"{type(error).__name__}: {error}"
        ) from error


def _configuration(document: Mapping[str, Any], host: LoaderHost) -> KataConfiguration:
    tables = _Table("hypervisor", document.get("hypervisor", {})).values
    known = [name for name in HYPERVISOR_TABLES if name in tables]
    if len(known) > 1:
        raise ConfigError(f"there are tables for {' and '.join(known)}", option="hypervisor", fix="Keep one of them.")
    for name in tables:
        _Table(f"hypervisor.{name}", tables[name]).check_types()
    hypervisor = known[0] if known else "qemu"
    config = (
        _hypervisor_config(hypervisor, _Table(f"hypervisor.{hypervisor}", tables[hypervisor]), host)
        if known
        else HypervisorConfig()
    )
    for name, words in PARTS:
        _check_only_kata(name, words, document.get(name, {}))
    agent = _agent(_Table("agent", document.get("agent", {})), config.use_vsock)
    config.kernel_params = _kernel_params(config, agent)
    factory = _factory(_Table("factory", document.get("factory", {})))
    _check(hypervisor, config, factory)
    return KataConfiguration(hypervisor, config, agent, factory, "noProxy" if config.use_vsock else "kataProxy")


def _hypervisor_config(hypervisor: str, table: _Table, host: LoaderHost) -> HypervisorConfig:
    config = HypervisorConfig(
        hypervisor_path=_resolved(table.text("path") or DEFAULT_HYPERVISOR, "path"),
        kernel_path=_resolved(table.text("kernel") or DEFAULT_KERNEL, "kernel"),
        firmware_path=_resolved_if_set(table, "firmware"),
        kernel_params=parse_kernel_params(table.text("kernel_params")),
        num_vcpus=_vcpus(table.number("default_vcpus", signed=True), host),
        default_max_vcpus=_max_vcpus(table.number("default_maxvcpus"), host),
        memory_size=_memory(table.number("default_memory")),
        mem_slots=table.number("memory_slots") or DEFAULT_MEMORY_SLOTS,
        default_bridges=min(table.number("default_bridges") or DEFAULTS["default_bridges"], MAX_BRIDGES),
        entropy_source=table.text("entropy_source") or "/dev/urandom",
        block_device_driver=_one_of(table, "block_device_driver", BLOCK_DEVICE_DRIVERS),
        mlock=not table.flag("enable_swap"),
    )
    for field, key in {**COMMON_KEYS, **DRIVER_KEYS[hypervisor]}.items():
        setattr(config, field, table.any(key))
    if hypervisor == "acrn":
        config.hypervisor_ctl_path = _resolved(table.text("ctlpath") or DEFAULT_CTL, "ctlpath")
        config.image_path = _resolved(table.text("image"), "image")
        return config
    config.initrd_path, config.image_path = _initrd_and_image(table)
    if hypervisor == "firecracker":
        config.jailer_path = _resolved_if_set(table, "jailer_path")
        config.use_vsock = True
        if not os.path.exists(host.vsock_device):
            raise ConfigError(f"Firecracker needs {host.vsock_device}, and this host has none", option="hypervisor")
        return config
    config.msize_9p = table.number("msize_9p") or DEFAULTS["msize_9p"]
    config.hypervisor_machine_type = table.text("machine_type") or "pc"
    config.machine_accelerators = ",".join(
        filter(None, (word.strip(" \r\t\n") for word in table.text("machine_accelerators").split(",")))
    )
    config.shared_fs = _one_of(table, "shared_fs", SHARED_FILE_SYSTEMS)
    if config.shared_fs == "virtio-fs" and not config.virtio_fs_daemon:
        raise ConfigError("virtio-fs needs its daemon", option="virtio_fs_daemon")
    config.use_vsock = table.flag("use_vsock") and os.path.exists(host.vsock_device)
    return config


def _resolved(path: str, key: str) -> str:
    """A path made absolute, without symbolic links."""
    if not path:
        raise ConfigError(f"{key} is not set", option=key)
    if not os.path.exists(path):
        raise AssetError(f"the file {path} does not exist", option=key)
    return os.path.realpath(path)


def _resolved_if_set(table: _Table, key: str) -> str:
    path = table.text(key)
    return _resolved(path, key) if path else ""


def _initrd_and_image(table: _Table) -> tuple[str, str]:
    """The initrd or the image, whichever can be used. If the file of one is missing, the other one is used."""
    found: dict[str, str] = {}
    problems = []
    for key in ("initrd", "image"):
        try:
            found[key] = _resolved(table.text(key), key)
        except (ConfigError, AssetError) as error:
            problems.append(error.message)
    if len(found) == 2:
        raise ConfigError("there are an image and an initrd", option="image", fix="Keep one of them.")
    if not found:
        raise ConfigError(f"an initrd or an image must be set to a valid path ({', '.join(problems)})", option="image")
    return found.get("initrd", ""), found.get("image", "")


def _one_of(table: _Table, key: str, choices: tuple[str, ...]) -> str:
    """The value of a key, the first of the choices where it is not set."""
    value = table.text(key) or choices[0]
    if value not in choices:
        raise ConfigError(f"{key} must be one of {', '.join(choices)}", option=key, wanted=value)
    return value


def _vcpus(wanted: int, host: LoaderHost) -> int:
    if wanted < 0 or wanted > host.cpus:
        return host.cpus
    return wanted or int(DEFAULTS["num_vcpus"])


def _max_vcpus(wanted: int, host: LoaderHost) -> int:
    return min(min(wanted, host.cpus) if wanted else host.cpus, host.max_vcpus)


def _memory(wanted_mb: int) -> int:
    return wanted_mb if wanted_mb >= MIN_MEMORY_MB else int(DEFAULTS["memory_size"])


def _check_only_kata(name: str, words: str, tables: Any) -> None:
    """Refuse a table of a proxy, an agent or a shim of another kind than Kata's own, as Kata does.

    :raises ConfigError: names it
    """
    for kind in _Table(name, tables).values:
        if kind != "kata":
            raise ConfigError(f"{kind} {words}", option=f"{name}.{kind}", fix=f"Keep [{name}.kata] alone.")


def _agent(tables: _Table, use_vsock: bool) -> AgentSettings:
    table = _Table("agent.kata", tables.values.get("kata", {}))
    return AgentSettings(
        use_vsock,
        table.flag("enable_debug"),
        table.flag("enable_tracing"),
        table.text("trace_mode"),
        table.text("trace_type"),
        table.words("kernel_modules"),
    )


def _factory(table: _Table) -> FactorySettings:
    settings = FactorySettings(table.flag("enable_template"), vm_cache_number=table.number("vm_cache_number"))
    settings.template_path = table.text("template_path") or settings.template_path
    settings.vm_cache_endpoint = table.text("vm_cache_endpoint") or settings.vm_cache_endpoint
    return settings


def _kernel_params(config: HypervisorConfig, agent: AgentSettings) -> list[Param]:
    """The image's, the agent's and then the user's own parameters, which win."""
    params = list(IMAGE_PARAMS) if config.image_path else []
    if agent.debug:
        params.append(Param("agent.log", "debug"))
    if agent.trace and agent.trace_mode == "static":
        params.append(Param("agent.trace", agent.trace_type))
    for param in config.kernel_params:
        params = add_kernel_param(params, param)
    return params


def _check(hypervisor: str, config: HypervisorConfig, factory: FactorySettings) -> None:
    """What the loader checks when everything is known."""
    if config.memory_size == 0:
        raise ConfigError("the file must have a table of a known hypervisor", option="hypervisor")
    for kind, path in (("image", config.image_path), ("initrd", config.initrd_path)):
        size = os.path.getsize(path) if path else None
        if size == 0:
            raise AssetError(f"the {kind} {path} is empty", option=kind)
        if kind == "initrd" and size is not None and size > MIB and size // MIB >= config.memory_size:
            raise ConfigError(
                f"an initrd of {size // MIB} MiB does not fit", option="default_memory", wanted=config.memory_size
            )
    if factory.template and not config.initrd_path:
        raise ConfigError("a template needs an initrd", option="enable_template")
    if factory.vm_cache_number and hypervisor != "qemu":
        raise ConfigError("only QEMU has a VM cache", option="vm_cache_number")
