# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the modules' argument specs from the declarations of the options, and parse a task's options into a `SandboxSpec`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, HypervisorError
from ..records.layout import RUN_ROOT, STATE_ROOT, clean_path, id_text, validate_id
from .config import checked_value
from .declarations import Option
from .kernel_params import split_quoted_words
from .resource_options import RESOURCE_OPTIONS, VOLUME_SUBOPTIONS, checked_resource
from .shown import SECRET, shown_options
from .spec import DISRUPTIONS, STATES, SandboxSpec, declared_options

if TYPE_CHECKING:
    from .spec import TemplateSpec

#: Sizes that must not be zero in a task. In a record and a configuration file zero means "not set".
AT_LEAST_ONE = ("vcpus", "memory_mb")

#: The longest time limit, a week in seconds.
MOST_SECONDS = 604800

DIRECTORY_SPEC: dict[str, dict[str, Any]] = {
    "state_dir": {"type": "path", "default": STATE_ROOT},
    "run_dir": {"type": "path", "default": RUN_ROOT},
}

TIMEOUT_SPEC: dict[str, dict[str, Any]] = {
    "start_timeout": {"type": "int", "default": 60},
    "stop_timeout": {"type": "int", "default": 10},
    "save_timeout": {"type": "int", "default": 300},
    "lock_timeout": {"type": "int", "default": 60},
}


class OnDemand(dict[str, Any]):
    """A dictionary that is made when it is first read. Ansible reads the spec of suboptions only where a task gives them.

    :param make: makes its content; without it, the dictionary is empty (ansible-test makes empty ones)
    """

    def __init__(self, make: Callable[[], Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        self._make = make

    def _made(self) -> OnDemand:
        make, self._make = self._make, None
        if make is not None:
            self.update(make())
        return self

    def __getitem__(self, key: str) -> Any:
        return super(OnDemand, self._made()).__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        return super(OnDemand, self._made()).__iter__()

    def __len__(self) -> int:
        return super(OnDemand, self._made()).__len__()

    def __contains__(self, key: object) -> bool:
        return super(OnDemand, self._made()).__contains__(key)

    def __eq__(self, other: object) -> bool:
        return super(OnDemand, self._made()).__eq__(other)

    __hash__ = None

    def get(self, key: str, default: Any = None) -> Any:
        return super(OnDemand, self._made()).get(key, default)

    def keys(self) -> Any:
        return super(OnDemand, self._made()).keys()

    def values(self) -> Any:
        return super(OnDemand, self._made()).values()

    def items(self) -> Any:
        return super(OnDemand, self._made()).items()


def device_suboptions() -> dict[str, dict[str, Any]]:
    """The suboptions of a device. Reading them imports all kinds of devices, which takes some milliseconds."""
    from .device_kinds import DEVICE_SUBOPTIONS

    return DEVICE_SUBOPTIONS


def option_spec(declared: Option) -> dict[str, Any]:
    """The argument spec of one option. There is no default: an omitted option keeps its value."""
    spec: dict[str, Any] = {"type": declared.type}
    if declared.name in RESOURCE_OPTIONS:
        if declared.elements:
            spec["elements"] = declared.elements
        if declared.name == "volumes":
            spec["options"] = VOLUME_SUBOPTIONS
        if declared.name in SECRET:
            spec["no_log"] = True
        elif declared.name == "ssh_keys":
            spec["no_log"] = False  # Public keys.
    elif declared.type == "list":
        # Ansible would split a string at its commas, and "console=ttyS0,115200" has one.
        spec["type"] = "raw"
    if declared.aliases:
        spec["aliases"] = list(declared.aliases)
    if declared.choices:
        spec["choices"] = list(declared.choices)
    return spec


def sandbox_item_spec(hypervisors: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The options of one sandbox.

    :param hypervisors: the names of the drivers
    """
    spec: dict[str, dict[str, Any]] = {
        "id": {"type": "str", "required": True, "aliases": ["name"]},
        "state": {"type": "str", "choices": list(STATES)},
        "hypervisor": {"type": "str", "choices": list(hypervisors)},
        "config_file": {"type": "path"},
        "disruption": {"type": "str", "choices": list(DISRUPTIONS), "default": "none"},
        "wait_for": {"type": "raw"},
        "wait_timeout": {"type": "int", "default": 60},
        "devices": {"type": "list", "elements": "dict", "options": OnDemand(device_suboptions)},
        **TIMEOUT_SPEC,
    }
    for name, declared in declared_options().items():
        spec[name] = option_spec(declared)
    return spec


def sandbox_argument_spec(hypervisors: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The argument spec of `kata_sandbox`."""
    return {**sandbox_item_spec(hypervisors), **DIRECTORY_SPEC}


def take_params(module: Any) -> dict[str, Any]:
    """The task's options. From now on, the module's results show none of the secrets in them.

    Ansible hides an option with `no_log` by replacing its text, and the texts in it, wherever they occur in the result. A host name or a port in a
    guest's user data would be hidden everywhere. So the options themselves are replaced, and nothing else: no result contains them.
    """
    params: dict[str, Any] = module.params
    module.no_log_values.clear()
    shown = shown_options(params)
    if isinstance(params.get("sandboxes"), list):
        # Without the hundred options that each item omits, which would be most of the result's bytes.
        shown["sandboxes"] = [
            {name: value for name, value in shown_options(item).items() if value is not None}
            for item in params["sandboxes"]
        ]
    module.params = shown
    return params


#: Options of modules that work in guests.
GUESTS_SPEC: dict[str, dict[str, Any]] = {
    "ids": {"type": "list", "elements": "str", "required": True, "aliases": ["id", "name"]},
    "parallel": {"type": "int", "default": 16},
    "connect_timeout": {"type": "float", "default": 60},
}


def device_argument_spec() -> dict[str, dict[str, Any]]:
    """The argument spec of `kata_device`."""
    return {
        "sandbox": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "disruption": {"type": "str", "choices": ["none", "restart"], "default": "none"},
        **device_suboptions(),
        **TIMEOUT_SPEC,
        **DIRECTORY_SPEC,
    }


def parse_device_spec(params: Mapping[str, Any]) -> SandboxSpec:
    """The options of `kata_device` as a request about its sandbox.

    :raises ConfigError: an option is invalid on any host
    """
    from .device_options import check_devices, validate_device_id

    options = {name: params[name] for name in ("disruption", *TIMEOUT_SPEC, *DIRECTORY_SPEC) if name in params}
    spec = parse_spec({"id": params["sandbox"], **options})
    device = None
    if params.get("state") != "absent":
        (device,) = check_devices([{name: params.get(name) for name in device_suboptions()}], spec.id, alone=True)
    spec.device_changes = {validate_device_id(params["id"], "id"): device}
    return spec


@contextlib.contextmanager
def errors_of_one_device(params: Mapping[str, Any]) -> Iterator[None]:
    """Errors about `kata_sandbox`'s option `devices` name the option of `kata_device` that has the value, else its `id`."""
    try:
        yield
    except HypervisorError as problem:
        if problem.option == "devices":
            names = [
                name
                for name in device_suboptions()
                if name != "type" and params.get(name) is not None and params[name] == problem.wanted
            ]
            problem.option = names[0] if names else "id"
            problem.wanted = problem.wanted if names else params["id"]
        raise


def template_argument_spec(hypervisors: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The argument spec of `kata_template`."""
    sandbox = sandbox_item_spec(hypervisors)
    for name in ("state", "disruption", "template", "autostart", *RESOURCE_OPTIONS):
        del sandbox[name]
    return {
        **sandbox,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "memory_dir": {"type": "path"},
        "force": {"type": "bool", "default": False},
        **DIRECTORY_SPEC,
    }


def parse_template_spec(params: Mapping[str, Any]) -> TemplateSpec:
    """The options of `kata_template` as a request.

    :raises ConfigError: an option is invalid on any host
    """
    from .spec import TemplateSpec

    state = "absent" if params.get("state") == "absent" else "saved"
    # A template never runs again, so nothing can disrupt it.
    spec = parse_spec({**params, "state": state, "disruption": "recreate"})
    image = spec.options.get("image_path", "")
    if image and not image.startswith("/"):
        raise ConfigError(
            "must be an absolute path for a template, which notices when the file changes",
            sandbox=spec.id,
            option="image_path",
            wanted=image,
        )
    memory_dir = params.get("memory_dir")
    if memory_dir is not None:
        with _named(spec.id):
            memory_dir = clean_path(memory_dir, "memory_dir")
    return TemplateSpec(**vars(spec), memory_dir=memory_dir, force=bool(params.get("force")))


def parse_spec(params: Mapping[str, Any]) -> SandboxSpec:
    """The task's options as a SandboxSpec.

    :raises ConfigError: an option is invalid on any host
    """
    sandbox = validate_id(id_text(params["id"]))
    with _named(sandbox):
        limits: dict[str, Any] = {
            name: _seconds(name, params.get(name), spec["default"]) for name, spec in TIMEOUT_SPEC.items()
        }
        hypervisor, options = params.get("hypervisor"), _given(params)
        if params.get("config_file") and params.get("state") != "absent":
            hypervisor, options = _with_config_file(
                clean_path(params["config_file"], "config_file"), hypervisor, options
            )
        return SandboxSpec(
            id=sandbox,
            state=params.get("state"),
            hypervisor=hypervisor,
            options=options,
            devices=_devices(params, sandbox),
            disruption=params.get("disruption") or "none",
            wait_for=_wait_for(params),
            state_dir=clean_path(params.get("state_dir") or STATE_ROOT, "state_dir"),
            run_dir=clean_path(params.get("run_dir") or RUN_ROOT, "run_dir"),
            **limits,
        )


@contextlib.contextmanager
def _named(sandbox: str) -> Iterator[None]:
    """Add the sandbox's id to errors about options."""
    try:
        yield
    except ConfigError as problem:
        problem.sandbox = sandbox
        raise


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the task sets, validated."""
    options = {}
    for name, declared in declared_options().items():
        value = params.get(name)
        if value is None:
            continue
        if name in RESOURCE_OPTIONS:
            options[name] = checked_resource(name, value)
            continue
        if declared.type == "list":
            value = words(name, value)
        options[name] = checked_value(declared, value, 1 if name in AT_LEAST_ONE else 0)
    return options


def _with_config_file(path: str, hypervisor: str | None, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The options of a Kata configuration file, overridden by those of the task.

    :raises HostError: the task runs as root, and another user could have written the file
    """
    from .kata_toml import load_kata_toml

    if os.geteuid() == 0:
        from ..untrusted.files import check_parents

        # It names programs that run as root, and files that the guest gets.
        check_parents(path, "config_file", shared_groups=True)
    file = load_kata_toml(path, replaced=options)
    return hypervisor or file.hypervisor_type, {**file.task_options(), **options}


def words(name: str, value: Any) -> list[str]:
    """The words of an option that is a string, split at white space outside of double quotes, or a list of words.

    :raises ConfigError: it is neither, or a word of the list has white space outside of double quotes
    """
    if isinstance(value, str):
        return split_quoted_words(value)
    if not isinstance(value, list):
        raise ConfigError("must be a string or a list of words", option=name, wanted=value)
    return [_word(name, word) for word in value]


def _word(name: str, word: Any) -> str:
    """One word of a list."""
    if isinstance(word, bool) or not isinstance(word, (str, int, float)):
        fix = (
            "Put it in quotes: YAML reads true, yes, on and their opposites as values, not as text."
            if isinstance(word, bool)
            else ""
        )
        raise ConfigError("each word of this list must be text or a number", option=name, wanted=word, fix=fix)
    if [str(word)] != split_quoted_words(str(word)):
        raise ConfigError(
            "a word of this list must not be empty or have blanks outside of double quotes",
            option=name,
            wanted=word,
            fix="Write each word as an item.",
        )
    return str(word)


def _devices(params: Mapping[str, Any], sandbox: str) -> list[dict[str, Any]] | None:
    if params.get("devices") is None:
        return None
    from .device_options import check_devices

    return check_devices(params["devices"], sandbox)


def _wait_for(params: Mapping[str, Any]) -> dict[str, Any] | None:
    if not params.get("wait_for"):
        return None
    from .wait_for import DEFAULT_TIMEOUT, parse_wait_for

    return parse_wait_for(params["wait_for"], params.get("wait_timeout") or DEFAULT_TIMEOUT)


def _seconds(name: str, value: Any, default: float) -> float:
    """A time limit in seconds.

    :raises ConfigError: it is not a number, or out of range
    """
    seconds = default if value is None else value
    least = 0 if name == "stop_timeout" else 1
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not least <= seconds <= MOST_SECONDS:
        raise ConfigError(f"must be a number of seconds from {least} to {MOST_SECONDS}", option=name, wanted=value)
    return float(seconds)
