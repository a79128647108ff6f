"""--change of commit and import: the Dockerfile instructions that change an image's config."""

from __future__ import annotations

import json
import shlex

from pyoci.mydocker import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


def apply(config: Mapping[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """A config with instructions applied in order.  Raises errors.UsageError."""
    found = dict(config)
    for text in texts:
        word, _, rest = text.strip().partition(" ")
        rest = rest.strip()
        change = _CHANGES.get(word.upper())
        if change is None or not rest:
            raise errors.UsageError(f"{text!r} cannot be applied", hint=f"there are {', '.join(sorted(_CHANGES))}")
        change(found, rest)
    return found


def _words(text: str) -> list[str]:
    """["a", "b"] as JSON, or a line for a shell."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            raise errors.UsageError(f"{text!r} is no JSON array") from None
        if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
            raise errors.UsageError(f"{text!r} is no array of strings")
        return found
    return ["/bin/sh", "-c", text]


def _pairs(text: str) -> list[tuple[str, str]]:
    """a=b c="d e", or the old `a b c`."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise errors.UsageError(f"{text!r}: {error}") from None
    if "=" not in words[0]:
        name, _, value = text.partition(" ")
        return [(name, value.strip())]
    pairs = [word.partition("=") for word in words]
    if any(not name or not equals for name, equals, _ in pairs):
        raise errors.UsageError(f"{text!r} is no list of NAME=VALUE")
    return [(name, value) for name, _, value in pairs]


def _cmd(config: dict[str, Any], text: str) -> None:
    config["Cmd"] = _words(text)


def _entrypoint(config: dict[str, Any], text: str) -> None:
    config["Entrypoint"] = _words(text)


def _env(config: dict[str, Any], text: str) -> None:
    for name, value in _pairs(text):
        others = [entry for entry in config.get("Env") or [] if entry.partition("=")[0] != name]
        config["Env"] = [*others, f"{name}={value}"]


def _label(config: dict[str, Any], text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(text))}


def _expose(config: dict[str, Any], text: str) -> None:
    ports: dict[str, Any] = {port if "/" in port else f"{port}/tcp": {} for port in text.split()}
    config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **ports}


def _volume(config: dict[str, Any], text: str) -> None:
    names = _words(text) if text.startswith("[") else text.split()
    config["Volumes"] = {**(config.get("Volumes") or {}), **{name: {} for name in names}}


def _user(config: dict[str, Any], text: str) -> None:
    config["User"] = text


def _workdir(config: dict[str, Any], text: str) -> None:
    config["WorkingDir"] = text if text.startswith("/") else f"{config.get('WorkingDir') or ''}/{text}"


def _stopsignal(config: dict[str, Any], text: str) -> None:
    config["StopSignal"] = text


_CHANGES = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
