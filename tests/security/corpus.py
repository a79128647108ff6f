"""The corpus of the plan reader's fuzzer: the plans of the bundles, some made by hand, and what fuzzing has found.

python3 -m tests.security.corpus     write tests/security/corpus/ anew (finds of the fuzzer, named by a hash, stay)
"""

from __future__ import annotations

import struct
from pathlib import Path

from pyoci.plan import ops
from pyoci.plan.ops import op

CORPUS = Path(__file__).with_name("corpus")
SMALL = 4096  # bytes: larger seeds slow a fuzzer down


def seeds() -> dict[str, bytes]:
    """Name -> plan: one with each operation once, and broken ones of each kind."""
    found = {}
    for definition in ops.OPS.values():
        strings = [b"x"] * len([name for name in definition.strs if not name.endswith("*")])
        made = ops.Op(definition, [0] * len(definition.nums), list(strings), "")
        if "argc" in definition.nums:
            made.nums[definition.nums.index("argc")] = 1
            made.strs.append(b"argv")
        found[f"op-{definition.name}"] = ops.encode([made])
    whole = ops.encode([op("exec", "sh", "-c", "true", "PATH=/bin", argc=3, envc=1), op("seccomp", bytes(16))])
    found["two-ops"] = whole
    found["truncated"] = whole[:-9]
    found["trailing"] = whole + bytes(8)
    found["huge-count"] = whole[:12] + struct.pack("<I", 0xFFFFFFFF) + whole[16:]
    found["huge-string"] = whole.replace(struct.pack("<I", 4) + b"true", struct.pack("<I", 0xFFFFFFF0) + b"true")
    found["negative-argc"] = ops.encode([op("exec", "a", argc=-1, envc=2)])
    return {name: data for name, data in found.items() if len(data) <= SMALL}


def main() -> None:
    CORPUS.mkdir(exist_ok=True)
    for name, data in seeds().items():
        (CORPUS / name).write_bytes(data)
    print(f"{len(seeds())} seeds")


if __name__ == "__main__":
    main()
