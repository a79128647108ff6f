"""Scheduling, placement, personality and labels on paper: P08, P13-P16, Z02-Z04, M21, and limits in user namespaces."""

from __future__ import annotations

from typing import Any

import pytest

from pyoci import errors, linux, plan
from pyoci.plan import attributes, ops
from pyoci.plan.options import Target
from tests import golden
from tests.unit import plan_reader
from tests.unit.planning import config, find, index, make, names, on, one, refused, user_namespace


def process(**changes: Any) -> plan.Plan:
    return make(process=changes)


def execute(**changes: Any) -> plan.Plan:
    """The plan of exec with a process of its own."""
    given = config(process=changes)
    cgroup = {"version": 2, "dirs": {"": "/sys/fs/cgroup/c"}, "keep": [], "mount": "/sys/fs/cgroup"}
    target = Target(7, {"pid": "/proc/7/ns/pid", "mount": "/proc/7/ns/mnt"}, cgroup)
    return plan.make_exec(given["process"], given, target, golden.facts(), golden.options())


# -- scheduling -----------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "number"), attributes.POLICIES.items())
def test_p13_policies(policy: str, number: int) -> None:
    made = process(scheduler={"policy": policy})
    op = made.scheduler if policy == "SCHED_DEADLINE" else one(made, "scheduler")
    assert op
    assert op.num("policy") == number


def test_p13_numbers() -> None:
    op = one(process(scheduler={"policy": "SCHED_RR", "priority": 7, "nice": -3}), "scheduler")
    assert [op.num(key) for key in ("priority", "nice", "pid")] == [7, -3, 0]
    wanted = {"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3}
    late = process(scheduler=wanted).scheduler
    assert late
    assert [late.num(key) for key in ("runtime", "deadline", "period")] == [1, 2, 3]
    refused(config(process={"scheduler": wanted | {"period": 1 << 63}}), "/process/scheduler/period")


@pytest.mark.parametrize(("flag", "bit"), attributes.SCHED_FLAGS.items())
def test_p13_flags(flag: str, bit: int) -> None:
    made = process(scheduler={"policy": "SCHED_OTHER", "flags": [flag, "SCHED_FLAG_KEEP_PARAMS"]})
    op = made.scheduler or one(made, "scheduler")
    assert op.num("options") == bit | 0x10


def test_p13_with_the_rights_of_the_host() -> None:
    """In a user namespace nobody may raise a priority."""
    made = make(process={"scheduler": {"policy": "SCHED_FIFO", "priority": 1}}, linux=user_namespace())
    assert names(made)[0] == "scheduler"
    assert made.scheduler is None


@pytest.mark.parametrize(
    "wanted", [{"policy": "SCHED_DEADLINE"}, {"policy": "SCHED_RR", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}]
)
def test_p13_what_is_not_inherited_is_for_the_host(wanted: dict[str, Any]) -> None:
    for made in (process(scheduler=wanted), execute(scheduler=wanted)):
        assert "scheduler" not in names(made)
        assert made.scheduler


@pytest.mark.parametrize(("kind", "number"), attributes.IO_CLASSES.items())
def test_p15_io_priority(kind: str, number: int) -> None:
    op = one(process(ioPriority={"class": kind, "priority": 5}), "io_priority")
    assert (op.num("class"), op.num("priority")) == (number, 5)
    assert one(execute(ioPriority={"class": kind}), "io_priority").num("priority") == 0


def test_p16_affinity_of_exec() -> None:
    made = execute(execCPUAffinity={"initial": "0-2", "final": "1,64"})
    first, second = find(made, "affinity")
    assert (first.string("cpus"), first.string("mask")) == (b"0-2", b"\7" + bytes(7))
    assert second.string("mask") == b"\2" + bytes(7) + b"\1" + bytes(7)
    steps = names(made)
    assert steps[0] == "affinity"
    assert steps[steps.index("fork") + 1] == "affinity"
    assert len(find(execute(execCPUAffinity={"initial": "0"}), "affinity")) == 1


def test_p16_not_of_the_container() -> None:
    assert "affinity" not in names(process(execCPUAffinity={"initial": "0", "final": "0"}))


@pytest.mark.parametrize("text", ["", "a", "1-", "2-1", "-1", "1,,2", "0-999999", "1;2", "9" * 5000, "\u00b2"])
def test_mask_refuses(text: str) -> None:
    with pytest.raises(errors.InvalidConfig):
        attributes.mask(text, "/x")


# -- personality and memory ------------------------------------------------------------------


@pytest.mark.parametrize(("domain", "persona"), [("LINUX", 0), ("LINUX32", 8)])
def test_z02_personality(domain: str, persona: int) -> None:
    assert one(make(linux={"personality": {"domain": domain}}), "personality").num("persona") == persona


@pytest.mark.parametrize(("mode", "number"), attributes.MEMORY_MODES.items())
def test_z04_modes(mode: str, number: int) -> None:
    op = one(make(linux={"memoryPolicy": {"mode": mode, "nodes": "0-1,3"}}), "mempolicy")
    assert (op.num("memory"), op.string("mask")[0]) == (number, 0b1011)


@pytest.mark.parametrize(("flag", "bit"), attributes.MEMORY_FLAGS.items())
def test_z04_flags(flag: str, bit: int) -> None:
    op = one(make(linux={"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]}}), "mempolicy")
    assert op.num("memory") == 2 | bit


def test_z04_without_nodes() -> None:
    assert one(make(linux={"memoryPolicy": {"mode": "MPOL_LOCAL"}}), "mempolicy").string("mask") == b""


def test_z02_z04_p21_also_for_exec() -> None:
    given = config(linux={"personality": {"domain": "LINUX32"}, "memoryPolicy": {"mode": "MPOL_LOCAL"}})
    made = plan.make_exec(given["process"], given, Target(7, {}), golden.facts(), golden.options())
    assert {"personality", "mempolicy"} <= set(names(made))


# -- labels ----------------------------------------------------------------------------------


def labels(made: plan.Plan) -> list[tuple[bytes, bytes]]:
    return [(op.string("file"), op.string("value")) for op in find(made, "label")]


def test_p08_apparmor() -> None:
    made = make(process={"apparmorProfile": "web"}, facts=golden.facts(apparmor=True))
    assert labels(made) == [(b"self/attr/apparmor/exec", b"exec web")]
    assert one(made, "label").string("other") == b"self/attr/exec"
    assert index(made, "label") < index(made, "setids")


def test_p14_selinux() -> None:
    made = make(process={"selinuxLabel": "u:r:t:s0:c1,c2"}, facts=golden.facts(selinux=True))
    assert labels(made) == [(b"self/attr/keycreate", b"u:r:t:s0:c1,c2"), (b"self/attr/exec", b"u:r:t:s0:c1,c2")]
    assert index(made, "label") < index(made, "keyring")
    no_keyring = golden.options(no_new_keyring=True)
    made = make(process={"selinuxLabel": "x"}, facts=golden.facts(selinux=True), options=no_keyring)
    assert labels(made) == [(b"self/attr/exec", b"x")]


@pytest.mark.parametrize(("key", "name"), [("apparmorProfile", "AppArmor"), ("selinuxLabel", "SELinux")])
def test_p08_p14_without_the_module(key: str, name: str) -> None:
    with pytest.raises(errors.SetupError, match=f"this host has no {name}") as caught:
        process(**{key: "x"})
    assert caught.value.where == f"/process/{key}"


def test_p08_unconfined_is_what_a_host_without_apparmor_is() -> None:
    assert labels(process(apparmorProfile="unconfined")) == []
    made = make(process={"apparmorProfile": "unconfined"}, facts=golden.facts(apparmor=True))
    assert labels(made) == [(b"self/attr/apparmor/exec", b"exec unconfined")]


TMPFS = {"destination": "/t", "type": "tmpfs", "options": ["mode=700"]}


def test_m21_mount_label() -> None:
    mounts = [
        TMPFS,
        {"destination": "/proc", "type": "proc"},
        {"destination": "/b", "source": "/b", "options": ["bind"]},
    ]
    made = make(mounts=mounts, linux={"mountLabel": "u:o:f:s0:c1,c2"}, facts=golden.facts(selinux=True))
    assert on(made, "/t")[0].string("data") == b'mode=700,context="u:o:f:s0:c1,c2"'
    assert on(made, "/proc")[0].string("data") == b""
    with pytest.raises(errors.SetupError, match="no SELinux"):
        make(mounts=mounts, linux={"mountLabel": "x"})


def test_m21_v1_cgroup_view() -> None:
    facts = golden.facts(selinux=True, cgroup_mode="legacy", cgroup_unified="", cgroup_mounts={"cpu": "/cg/cpu"})
    made = make(mounts=[{"destination": "/c", "type": "cgroup"}], linux={"mountLabel": "x"}, facts=facts)
    assert on(made, "/c")[0].string("data") == b'mode=755,context="x"'


@pytest.mark.parametrize("kind", ["fscontext", "defcontext", "rootcontext"])
def test_a01_mount_context_type(kind: str) -> None:
    def labelled(kind: str) -> plan.Plan:
        annotations = {"run.oci.mount_context_type": kind}
        return make(
            mounts=[TMPFS], linux={"mountLabel": "x"}, annotations=annotations, facts=golden.facts(selinux=True)
        )

    assert on(labelled(kind), "/t")[0].string("data") == f'mode=700,{kind}="x"'.encode()
    with pytest.raises(errors.InvalidConfig, match="is none of"):
        labelled("size")


# -- limits ----------------------------------------------------------------------------------

NOFILE = [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 1 << 20}]


def test_p06_limits_in_a_user_namespace_are_raised_before() -> None:
    made = make(process={"rlimits": NOFILE}, linux=user_namespace())
    first, second = find(made, "rlimit")
    assert (first.num("early"), second.num("early")) == (1, 0)
    assert index(made, "rlimit") < index(made, "unshare")
    assert first.num("resource") == linux.RLIMITS["RLIMIT_NOFILE"]
    assert "raising" in first.describe()


@pytest.mark.parametrize("facts", [{}, {"userns": True}, {"euid": 1000}])
def test_p06_limits_are_set_once(facts: dict[str, Any]) -> None:
    part = user_namespace() if facts else {}
    assert len(find(make(process={"rlimits": NOFILE}, linux=part, facts=golden.facts(**facts)), "rlimit")) == 1


def test_describe_of_the_ops() -> None:
    made = make(
        process={"scheduler": {"policy": "SCHED_IDLE"}, "ioPriority": {"class": "IOPRIO_CLASS_IDLE"}},
        linux={"personality": {"domain": "LINUX32"}},
    )
    text = [item.describe() for item in made.ops]
    assert "set scheduling policy SCHED_IDLE" in text
    assert "set personality LINUX32" in text
    assert plan_reader.decode(ops.encode(made.ops))
