"""Hooks that run inside the container: createContainer and startContainer (rows H01 to H05, L17)."""

from __future__ import annotations

from pyoci import errors
from pyoci.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.plan.draft import Draft

# crun's annotations: files of the host to which the hooks' output is appended
OUTPUTS = ("run.oci.hooks.stdout", "run.oci.hooks.stderr")
# which status the state on stdin has (runtime.md, Lifecycle, steps 8 and 12)
_STATUS = {"createContainer": "creating", "startContainer": "created"}
_ESCAPES: dict[int, str] = {code: f"\\u{code:04x}" for code in range(32)}
_ESCAPES.update({ord('"'): '\\"', ord("\\"): "\\\\"})


def make(draft: Draft, point: str) -> list[ops.Op]:
    """The hooks of one point in their order.  nsexec writes the pid it has in the container between the
    two halves of the state; a hook has the environment that the config gives it and no other."""
    listed = (draft.config.get("hooks") or {}).get(point) or ()
    if not listed:
        return []
    before, after = _state(draft.options.state, _STATUS[point])
    stdout, stderr = [_output(draft, key) for key in OUTPUTS]
    steps = []
    for index, hook in enumerate(listed):
        args = hook.get("args") or [hook["path"]]
        env = hook.get("env") or []
        steps.append(
            ops.op(
                "hook",
                hook["path"],
                before,
                after,
                *args,
                *env,
                timeout=(hook.get("timeout") or 0) * 1000,
                argc=len(args),
                envc=len(env),
                stdout=stdout,
                stderr=stderr,
                where=f"/hooks/{point}/{index}",
            )
        )
    return steps


def _output(draft: Draft, key: str) -> int:
    """The number of an op's file: see the op.  Raises InvalidConfig."""
    path = (draft.config.get("annotations") or {}).get(key)
    if not path:
        return 0
    if not path.startswith("/"):
        raise errors.InvalidConfig(f"{path!r} is not an absolute path", where=f"/annotations/{key}")
    return draft.descriptor(f"append:file:{path}") + 1


def on_host(hooks: dict[str, Any]) -> bool:
    """Whether the host side has hooks to run while the container is being created."""
    return bool(hooks.get("prestart") or hooks.get("createRuntime"))


def _state(state: dict[str, Any], status: str) -> tuple[str, str]:
    """The state as JSON, cut where the pid belongs."""
    members = []
    for key, value in state.items():
        if key not in ("status", "pid"):
            members.append(f"{_quote(key)}:{_value(value)}")
    members.append(f'"status":{_quote(status)}')
    return "{" + ",".join(members) + ',"pid":', "}"


def _value(value: str | dict[str, str]) -> str:
    if isinstance(value, dict):
        return "{" + ",".join([f"{_quote(k)}:{_quote(v)}" for k, v in value.items()]) + "}"
    return _quote(value)


def _quote(text: str) -> str:
    return '"' + text.translate(_ESCAPES) + '"'
