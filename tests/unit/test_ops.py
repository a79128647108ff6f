"""The op table: one truth in Python and C, an exact codec, sentences for every op."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci.plan import ops, wording
from tests.unit import plan_reader

LIBEXEC = Path(__file__).parents[2] / "libexec"


def c_enum() -> dict[str, int]:
    header = (LIBEXEC / "nsexec.h").read_text()
    return {name.lower(): int(code) for name, code in re.findall(r"\bOP_([A-Z_]+) = (\d+),", header)}


def c_rules() -> dict[str, int]:
    """Number of fixed strings of each op in the reader's table."""
    text = (LIBEXEC / "plan.c").read_text()
    return {name.lower(): int(fixed) for name, fixed in re.findall(r"\{ OP_([A-Z_]+), (-?\d+), ", text)}


def test_codes_are_those_of_the_c_enum() -> None:
    assert {name: definition.code for name, definition in ops.OPS.items()} == c_enum()


def test_every_op_has_a_handler_and_a_rule() -> None:
    handlers = re.findall(r"\[OP_([A-Z_]+)\] =", (LIBEXEC / "nsexec.c").read_text())
    verbs = re.findall(r"\bcase OP_([A-Z_]+):", (LIBEXEC / "verbs.c").read_text())
    assert sorted(name.lower() for name in handlers + verbs) == sorted(set(ops.OPS) - {"verb"})
    fixed = {name: len([s for s in d.strs if not s.endswith("*")]) for name, d in ops.OPS.items()}
    assert c_rules() == fixed


def test_limits_are_those_of_c() -> None:
    header = (LIBEXEC / "nsexec.h").read_text()
    assert f"#define MAX_FDS {ops.MAX_FDS} " in header
    assert "#define PLAN_MAX (16u << 20)" in header
    assert ops.MAX_PLAN == 16 << 20


def test_no_op_has_more_numbers_than_a_record_holds() -> None:
    assert max(len(d.nums) for d in ops.OPS.values()) <= ops.NUMS


@st.composite
def an_op(draw: st.DrawFn) -> ops.Op:
    definition = draw(st.sampled_from(sorted(ops.OPS.values(), key=lambda d: d.code)))
    nums = draw(
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=len(definition.nums), max_size=len(definition.nums))
    )
    text = st.binary(max_size=40).map(lambda b: b.replace(b"\0", b""))
    strs = draw(st.lists(text, min_size=len(definition.strs), max_size=len(definition.strs)))
    return ops.Op(definition, nums, strs, "")


@given(st.lists(an_op(), max_size=12))
def test_decode_is_the_inverse_of_encode(plan: list[ops.Op]) -> None:
    decoded = plan_reader.decode(ops.encode(plan))
    assert [(o.name, o.nums, o.strs) for o in decoded] == [(o.name, o.nums, o.strs) for o in plan]


@given(st.binary(max_size=200))
def test_decode_of_garbage_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        plan_reader.decode(ops.HEADER.pack(ops.MAGIC, 16 + len(data), 1) + data[:-1])


@given(an_op())
def test_every_op_has_a_sentence(item: ops.Op) -> None:
    if item.definition.strs[-1:] == ("strings*",):
        item.nums[item.definition.nums.index("argc")] = 1
    assert item.describe()
    assert wording.as_dict(item)["op"] == item.name


def test_op_refuses_what_the_table_does_not_know() -> None:
    with pytest.raises(KeyError):
        ops.op("mount", "tmpfs", "tmpfs", "/x", "", flag=1)
    with pytest.raises(KeyError):
        ops.op("no-such-op")
    with pytest.raises(ValueError):
        ops.op("bind", "/only-one")


def test_a_plan_too_large_for_nsexec_is_refused() -> None:
    with pytest.raises(ValueError, match="more than"):
        ops.encode([ops.op("cwd", b"x" * ops.MAX_PLAN)])
