"""Device rules: one meaning, and both forms the kernel takes mean the same (rows D05, D06, C23)."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pyoci import errors
from pyoci.plan import devchange, devfilter, devprogram
from pyoci.plan.devfilter import ALL, ANY, MKNOD, READ, WRITE

DENY_ALL: dict[str, Any] = {"allow": False, "access": "rwm"}


def run(code: bytes, kind: str, access: int, major: int, minor: int) -> int:
    """A machine for the instructions the filter uses, as strict as the verifier where it matters."""
    program = list(struct.iter_unpack("<BBhi", code))
    context = struct.pack("<III", access << 16 | {"b": 1, "c": 2}[kind], major, minor)
    registers: dict[int, int] = {}
    at = 0
    while True:
        op, regs, offset, value = program[at]
        dst, src = regs & 15, regs >> 4
        at += 1
        low = value & 0xFFFFFFFF
        if op == 0x61:
            assert src == 1 and offset in (0, 4, 8)
            registers[dst] = struct.unpack_from("<I", context, offset)[0]
        elif op == 0xBC:
            registers[dst] = registers[src] & 0xFFFFFFFF
        elif op == 0x54:
            registers[dst] &= low
        elif op == 0x74:
            registers[dst] >>= low
        elif op == 0xB7:
            registers[dst] = value
        elif op == 0x56:
            at += offset if registers[dst] != low else 0
        elif op == 0x46:
            at += offset if registers[dst] & low else 0
        elif op == 0x05:
            at += offset
        else:
            assert op == 0x95, f"instruction {op:#x}"
            assert registers[0] in (0, 1)
            return registers[0]


def reachable(code: bytes) -> bool:
    """The verifier refuses dead code and jumps out of the program."""
    program = list(struct.iter_unpack("<BBhi", code))
    seen, todo = set(), [0]
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        assert at < len(program), "runs off the end"
        seen.add(at)
        op, _, offset, _ = program[at]
        if op != 0x95:
            todo += [at + 1 + offset] if op == 0x05 else [at + 1]
        if op in (0x56, 0x46):
            todo.append(at + 1 + offset)
    return len(seen) == len(program)


def meaning(rules: list[devfilter.Rule], kind: str, access: int, major: int, minor: int) -> int:
    """The words of the module: the last rule that speaks about a device and a kind of access wins."""
    for bit in (MKNOD, READ, WRITE):
        if not access & bit:
            continue
        allowed = False
        for rule in rules:
            if rule.type in ("a", kind) and rule.major in (ANY, major) and rule.minor in (ANY, minor):
                allowed = rule.allow if rule.access & bit else allowed
        if not allowed:
            return 0
    return 1


def v1(rules: list[devfilter.Rule], kind: str, access: int, major: int, minor: int) -> int:
    """security/device_cgroup.c: a default, and exceptions that match whole (allowed) or in part (denied)."""
    default, table = devfilter.exceptions(rules)
    found = [a for (t, x, y), (a, _) in table.items() if t == kind and x in (ANY, major) and y in (ANY, minor)]
    if default:
        return int(not any(a & access for a in found))
    return int(any(a & access == access for a in found))


numbers = st.none() | st.integers(0, 2)
device_rules = st.lists(
    st.fixed_dictionaries(
        {"allow": st.booleans()},
        optional={
            "type": st.sampled_from("abcu"),
            "major": numbers,
            "minor": numbers,
            "access": st.sampled_from(["r", "w", "m", "rw", "rm", "rwm"]),
        },
    ),
    max_size=8,
)
requests = st.tuples(
    st.sampled_from("bc"), st.sampled_from([MKNOD, READ, WRITE, READ | WRITE]), st.integers(0, 6), st.integers(0, 6)
)


@given(device_rules, st.lists(requests, min_size=1, max_size=30))
def test_program_means_the_list(devices: list[dict[str, Any]], wanted: list[tuple[str, int, int, int]]) -> None:
    rules = devfilter.rules(devices)
    code = devprogram.program(rules)
    assert reachable(code)
    for request in wanted:
        assert run(code, *request) == meaning(rules, *request)


@given(device_rules, st.lists(requests, min_size=1, max_size=30))
def test_v1_means_the_list(devices: list[dict[str, Any]], wanted: list[tuple[str, int, int, int]]) -> None:
    rules = devfilter.rules(devices)
    try:
        devfilter.exceptions(rules)
    except errors.InvalidConfig as error:
        assert error.where.startswith("/linux/resources/devices/")
        return
    for request in wanted:
        # v1 wants all of an open in one exception: where two wildcards meet it is stricter, never laxer
        assert v1(rules, *request) <= meaning(rules, *request)
        if request[1] in (MKNOD, READ, WRITE):
            assert v1(rules, *request) == meaning(rules, *request)


def test_default_is_the_default_devices_only() -> None:
    """D06: without rules, the default devices and nothing else; any node may be made."""
    for devices in (None, [], [DENY_ALL]):
        rules = devfilter.rules(devices)
        code = devprogram.program(rules)
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, 7), (10, 200)):
            assert run(code, "c", READ | WRITE, major, minor) == v1(rules, "c", READ | WRITE, major, minor) == 1
        assert run(code, "b", READ, 8, 0) == v1(rules, "b", READ, 8, 0) == 0
        assert run(code, "c", READ, 1, 1) == 0
        assert run(code, "b", MKNOD, 8, 0) == 1


def test_listed_order() -> None:
    """D05: the same rules in another order mean something else."""
    allow, deny = {"allow": True, "type": "c", "major": 10, "minor": 229}, {"allow": False, "type": "c", "major": 10}
    assert run(devprogram.program(devfilter.rules([allow, deny])), "c", READ, 10, 229) == 0
    assert run(devprogram.program(devfilter.rules([deny, allow])), "c", READ, 10, 229) == 1
    assert v1(devfilter.rules([allow, deny]), "c", READ, 10, 229) == 0


def test_everything_allowed() -> None:
    """Privileged: the defaults add nothing, and the program is an unconditional yes."""
    rules = devfilter.rules([DENY_ALL, {"allow": True, "access": "rwm"}])
    assert [str(rule) for rule in rules] == ["allow a *:* rwm"]
    assert devfilter.lines(rules) == [("devices.allow", "a", "/linux/resources/devices/1")]
    assert run(devprogram.program(rules), "b", ALL, 4095, 1 << 20) == 1


def test_lines() -> None:
    lines = devfilter.lines(devfilter.rules([DENY_ALL, {"allow": True, "type": "b", "major": 8, "access": "r"}]))
    assert lines[0] == ("devices.deny", "a", "/linux/resources/devices/0")
    assert lines[1] == ("devices.allow", "b 8:* rm", "/linux/resources/devices/1")  # m: from the default *:*
    assert ("devices.allow", "c 136:* rwm", "") in lines


def test_hole_in_a_wider_rule_is_refused_on_v1() -> None:
    rules = devfilter.rules(
        [{"allow": True, "type": "c", "major": 10}, {"allow": False, "type": "c", "major": 10, "minor": 229}]
    )
    with pytest.raises(errors.InvalidConfig, match=r"cannot deny c 10:229 rwm within") as caught:
        devfilter.lines(rules)
    assert caught.value.where == "/linux/resources/devices/1"
    assert run(devprogram.program(rules), "c", READ, 10, 229) == 0
    assert run(devprogram.program(rules), "c", READ, 10, 228) == 1


@pytest.mark.parametrize(
    ("rule", "where"),
    [({"type": "x"}, "/0/type"), ({"access": "rx"}, "/0/access"), ({"access": ""}, "/0/access")],
)
def test_nonsense_is_refused(rule: dict[str, Any], where: str) -> None:
    with pytest.raises(errors.InvalidConfig) as caught:
        devfilter.rules([rule])
    assert caught.value.where == devfilter.WHERE + where


def test_numbers_above_31_bits() -> None:
    rules = devfilter.rules([{"allow": True, "type": "c", "major": 0xFFFFFFFF, "minor": 1}])
    code = devprogram.program(rules)
    assert run(code, "c", READ, 0xFFFFFFFF, 1) == 1
    assert run(code, "c", READ, 1, 1) == 0


# -- cgroup v1: other rules for a cgroup that has some ---------------------------------------


class Kernel:
    """A cgroup of v1 as security/device_cgroup.c keeps it; what is refused is an assertion."""

    def __init__(self, rules: list[devfilter.Rule]) -> None:
        self.below = False
        self.everything = True
        self.table: dict[devfilter.Key, int] = {}
        self.write(devfilter.lines(rules))

    @property
    def content(self) -> str:
        if self.everything:
            return devchange.EVERYTHING
        return "\n".join(devfilter.line(*key, access) for key, access in self.table.items())

    def write(self, lines: list[tuple[str, str, str]]) -> None:
        for file, text, _ in lines:
            if text == "a":
                assert not self.below
                self.everything, self.table = file == devchange.ALLOW, {}
                continue
            ((key, access),) = devchange.listed(text).items()
            if (file == devchange.ALLOW) != self.everything:
                self.table[key] = self.table.get(key, 0) | access
            else:
                self.table[key] = self.table.get(key, 0) & ~access
            if not self.table[key]:
                del self.table[key]

    def meaning(self) -> tuple[bool, dict[devfilter.Key, int]]:
        return self.everything, dict(self.table)


def planned(devices: list[dict[str, Any]]) -> list[devfilter.Rule]:
    rules = devfilter.rules(devices)
    try:
        devfilter.exceptions(rules)
    except errors.InvalidConfig:
        assume(False)
    return rules


@given(device_rules, device_rules)
def test_a_change_means_the_list(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    """With cgroups below it does not begin with "a"; what undoes it does so after each part of it."""
    old, new = planned(first), planned(second)
    end, cgroup = Kernel(new).meaning(), Kernel(old)
    before = cgroup.meaning()
    cgroup.below = not before[0] and not end[0]
    writes, undo = devchange.lines(new, cgroup.content, cgroup.below, "")
    cgroup.write(writes)
    assert cgroup.meaning() == end
    for count in range(len(writes) + 1 if cgroup.below else 0):
        cgroup = Kernel(old)
        cgroup.below = True
        cgroup.write(writes[:count])
        if count < len(writes) and writes[count][0] == devchange.ALLOW:
            assert all(cgroup.table[key] & access == access for key, access in before[1].items())
        cgroup.write(undo)
        assert cgroup.meaning() == before


RAW = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}
ALL_BUT = [{"allow": True, "access": "rwm"}, {"allow": False, "type": "c", "major": 10, "minor": 229}]


def test_a_change_is_the_difference() -> None:
    rules = devfilter.rules([RAW])
    content = Kernel(rules).content
    assert devchange.lines(rules, content, True, "") == ([], [])
    wanted = devfilter.rules([RAW | {"access": "w"}, RAW | {"minor": 230}])
    assert devchange.lines(wanted, content, True, "") == (
        [
            ("devices.allow", "c 10:229 w", f"{devfilter.WHERE}/0"),
            ("devices.allow", "c 10:230 rm", f"{devfilter.WHERE}/1"),
            ("devices.deny", "c 10:229 r", f"{devfilter.WHERE}/0"),
        ],
        [
            ("devices.allow", "c 10:229 r", ""),
            ("devices.deny", "c 10:229 w", ""),
            ("devices.deny", "c 10:230 rm", ""),
        ],
    )


def test_a_change_where_all_is_allowed() -> None:
    """Its exceptions are not shown: the list is written anew, and with cgroups below what is denied is added."""
    everything, all_but = devfilter.rules(ALL_BUT[:1]), devfilter.rules(ALL_BUT)
    assert devchange.lines(everything, devchange.EVERYTHING, True, "") == ([], [])
    assert devchange.lines(everything, devchange.EVERYTHING, False, "")[0][0][:2] == ("devices.allow", "a")
    writes, undo = devchange.lines(all_but, devchange.EVERYTHING, True, "")
    assert [line[:2] for line in writes] == [("devices.deny", "c 10:229 rw")]
    assert devchange.lines(all_but, devchange.EVERYTHING, False, "")[0][1:] == writes
    assert undo == []


@pytest.mark.parametrize("first", [[RAW], ALL_BUT])
def test_a_change_of_the_default(first: list[dict[str, Any]]) -> None:
    """It is written anew, which takes a cgroup with none below."""
    cgroup, rules = Kernel(devfilter.rules(first)), devfilter.rules(ALL_BUT if first == [RAW] else [RAW])
    before = cgroup.meaning()
    with pytest.raises(errors.SetupError, match="others below") as caught:
        devchange.lines(rules, cgroup.content, True, "/devices")
    assert caught.value.where == "/devices"
    writes, undo = devchange.lines(rules, cgroup.content, False, "/devices")
    cgroup.write(writes)
    assert cgroup.meaning() == Kernel(rules).meaning()
    cgroup.write(undo)
    assert cgroup.meaning() == (before if first == [RAW] else (True, {}))
