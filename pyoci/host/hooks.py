"""Hooks that run in the runtime's own namespaces: prestart, createRuntime, poststart, poststop (rows H01-H06).

createContainer and startContainer run inside and are operations of the plan.
"""

from __future__ import annotations

from pyoci import errors, json, kernel
from pyoci.host import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

BEFORE_CREATED = ("prestart", "createRuntime")


# crun's annotations: files to which the output of hooks is appended; as in plan.hooks, which delete need not load
OUTPUTS = ("run.oci.hooks.stdout", "run.oci.hooks.stderr")


def open_output(path: str) -> int:
    """A file for the output of hooks, made if need be.  Raises errors.SetupError."""
    flags = kernel.O_WRONLY | kernel.O_CREAT | kernel.O_APPEND | kernel.O_CLOEXEC | kernel.O_NOCTTY
    try:
        return kernel.open(path, flags, 0o644)
    except OSError as error:
        raise errors.failed(f"open {path} for the output of hooks", error, "/annotations") from None


def run(hooks: Mapping[str, Any], kind: str, state: Mapping[str, Any], watch: int = -1) -> None:
    """Run the hooks of a kind in order.  Raises errors.HookError at the first that fails.

    hooks: the `hooks` of config.json.  state: what they read on stdin.  watch: pidfd of the container's init, whose
    end ends the hook too: a `delete --force` does not wait for a hook that hangs.
    """
    for index, hook in enumerate(hooks.get(kind) or ()):
        _run_one(hook, f"{kind} hook {index}", f"/hooks/{kind}/{index}", state, watch)


def run_all(hooks: Mapping[str, Any], kind: str, state: Mapping[str, Any]) -> list[str]:
    """Run the hooks of a kind in order, also after one failed (poststop, L20); returns the failures as warnings."""
    warnings = []
    for index, hook in enumerate(hooks.get(kind) or ()):
        try:
            _run_one(hook, f"{kind} hook {index}", f"/hooks/{kind}/{index}", state)
        except errors.HookError as error:
            warnings.append(str(error))
    return warnings


def _run_one(hook: Mapping[str, Any], name: str, where: str, state: Mapping[str, Any], watch: int = -1) -> None:
    path = hook["path"]
    args = hook.get("args") or [path]
    stdin = json.dumps(state).encode("utf-8", "surrogatepass")
    annotations = state.get("annotations") or {}
    files = [open_output(annotations[key]) if annotations.get(key) else -1 for key in OUTPUTS]
    try:
        result = child.run(
            path, args, _environment(hook), stdin=stdin, timeout=hook.get("timeout"), watch=watch, files=files
        )
    except OSError as error:
        text = f"{name}: run {path}: {errors.errno_text(error.errno or 0)}"
        raise errors.HookError(text, where=where, hint=child.refused(error)) from None
    finally:
        for fd in files:
            if fd >= 0:
                kernel.close(fd)
    if result.killed or result.status:
        why = result.why()
        if result.killed == child.TIMED_OUT:
            why = why.replace(child.TIMED_OUT, f"{child.TIMED_OUT} after {hook['timeout']} s", 1)
        raise errors.HookError(f"{name}: {path}: {why}", where=where)


def _environment(hook: Mapping[str, Any]) -> Mapping[str, str]:
    """The environment of the config, exactly; without one that of the runtime, as with runc: never the container's."""
    if hook.get("env") is not None:
        pairs = (entry.partition("=") for entry in hook["env"])
        return {name: value for name, equals, value in pairs if name and equals}
    environment = kernel.environment()
    if "LC_CTYPE" in environment and not _had("LC_CTYPE"):
        del environment["LC_CTYPE"]  # ours, not the caller's: CPython sets it in the C locale (PEP 538)
    return environment


def _had(name: str) -> bool:
    """Whether this process was started with that variable."""
    fd = kernel.open("/proc/self/environ", kernel.O_RDONLY | kernel.O_CLOEXEC)
    try:
        data = kernel.read_all(fd)
    finally:
        kernel.close(fd)
    return f"\0{name}=".encode() in b"\0" + data
