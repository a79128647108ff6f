"""The inverse of plan.ops.encode, as libexec/plan.c has it: what a test wants to know of an encoded plan."""

from __future__ import annotations

import struct

from pyoci.plan.ops import HEADER, LENGTH, MAGIC, OPS, RECORD, Op

BY_CODE = {definition.code: definition for definition in OPS.values()}


def decode(data: bytes) -> list[Op]:
    """The operations (their `where` is lost).  Raises ValueError for anything malformed."""
    try:
        magic, total, count = HEADER.unpack_from(data)
        if magic != MAGIC or total != len(data):
            raise ValueError("not a plan of this version")
        ops = []
        offset = HEADER.size
        for _ in range(count):
            decoded, offset = _decode_one(data, offset)
            ops.append(decoded)
    except struct.error as error:
        raise ValueError(f"truncated plan: {error}") from None
    if offset != total:
        raise ValueError("bytes after the last operation")
    return ops


def _decode_one(data: bytes, offset: int) -> tuple[Op, int]:
    code, nstrs, size, *nums = RECORD.unpack_from(data, offset)
    end = offset + size
    if code not in BY_CODE or size % 8 or end > len(data) or size < RECORD.size:
        raise ValueError(f"bad record at {offset}")
    definition = BY_CODE[code]
    strs = []
    position = offset + RECORD.size
    for _ in range(nstrs):
        (length,) = LENGTH.unpack_from(data, position)
        position += LENGTH.size
        if position + length + 1 > end or data[position + length] != 0:
            raise ValueError(f"bad string at {position}")
        strs.append(data[position : position + length])
        position += length + 1
    return Op(definition, nums[: len(definition.nums)], strs, ""), end
