"""The verbs that need no interpreter, written down when create ends: pure.

ROOT/ID/verbs.plan holds ops in the format of every plan, one part per verb, each begun by a `verb` op.  The
launcher (libexec/verbs.c) walks the part of its verb, and starts Python for whatever is not plain or fails.
So a part may be left out, and is where the verb would have to do more than its ops say.
"""

from __future__ import annotations

from pyoci import json
from pyoci.plan import cgroup
from pyoci.plan.ops import VERBS, Op, op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_PID, _STATUS = '"pid": 0', '"status": "stopped"'  # as json.dumps writes them in the state of a stopped container


def make(record: dict[str, Any], document: dict[str, Any], files: Sequence[str]) -> list[Op]:
    """The ops of a container that has been created.

    record:   the facts of state.json
    document: what `state` prints for it, with status stopped and pid 0
    files:    the names in the state directory, in the order in which delete removes them
    """
    who = [op("process", pid=record["pid"], start=record["start"]), *_frozen(record["cgroup"])]
    steps = [_verb("state"), *who, op("report", *_report(document))]
    if record["process"] and not record["hooks"].get("poststart") and not record.get("notify"):
        steps += [_verb("start"), *who, op("release")]
    steps += [_verb("kill"), *who, op("signal")]
    # a scope is systemd's to end, an RDT class not the launcher's
    later = record["cgroup"].get("systemd") or record.get("notify") or record.get("rdt")
    if not (record["hooks"].get("poststop") or later):
        steps += [_verb("delete"), *who, op("end"), *_remove(record["cgroup"])]
        steps += [*[op("unlink", name) for name in files], op("forget")]
    return steps


def _verb(name: str) -> Op:
    return op("verb", verb=VERBS[name])


def _frozen(record: dict[str, Any]) -> list[Op]:
    file = cgroup.freezer(record) if record else ""
    return [op("frozen", file, "0" if record["version"] == 2 else "THAWED")] if file else []


def _report(document: dict[str, Any]) -> tuple[str, str, str]:
    """What stands before the pid, between it and the status, and after.  Both come before anything that could
    hold the same text: only ociVersion and id precede them."""
    text = json.dumps(document, indent=2) + "\n"
    before, _, rest = text.partition(_PID)
    between, _, after = rest.partition(_STATUS)
    return before + '"pid": ', between + '"status": "', '"' + after


def _remove(record: dict[str, Any]) -> list[Op]:
    if not record:
        return []
    return [op("rmdir", path) for _, path in cgroup.unique(record) if path not in record["keep"]]
