"""The process on paper, by create and by exec: rows P01 to P21, S10, H01 to H05, L05, L17."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pyoci import errors, json, linux, plan
from pyoci.plan import ops
from pyoci.plan.options import Target
from tests import golden
from tests.unit.planning import config, find, index, make, names, namespaces, one, refused, user_namespace

BITS = linux.CAPABILITY_BIT


class Program:
    """Stands in for a compiled seccomp profile."""

    def __init__(self, listener: bool = False) -> None:
        self.code = b"\6\0\0\0\0\0\xff\x7f"
        self.flags = 2
        self.listener = listener
        self.warnings = ["a warning"]


def mask(*caps: str) -> int:
    return sum(1 << BITS["CAP_" + name] for name in caps)


def process(**changes: Any) -> plan.Plan:
    return make(process=changes)


def execute(given: dict[str, Any] | None = None, facts: Any = None, options: Any = None, **changes: Any) -> plan.Plan:
    """The plan of an exec into a container with all the namespaces of its config."""
    given = given or config()
    merged = given["process"] | changes
    return plan.make_exec(merged, given, golden.target_of(given), facts or golden.facts(), options or golden.options())


def test_order() -> None:
    """Where a step stands is what makes it safe; see plan/process.py."""
    given = config(
        linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}},
        process={
            "terminal": True,
            "noNewPrivileges": True,
            "env": ["PATH=/bin"],
            "oomScoreAdj": 5,
            "user": {"uid": 7, "gid": 7},
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        },
        hooks={p: [{"path": "/h"}] for p in ("createRuntime", "createContainer", "startContainer")},
        hostname="h",
    )
    made = make(given, options=golden.options(seccomp=lambda profile: Program()))
    steps = [name for name in names(made) if name not in ("mknod", "symlink")]
    assert (
        steps
        == (
            "oom_score_adj enter unshare fork keyring propagation rootfs console setsid ctty hostname sync hook pivot "
            "rlimit umask bounding cwd setids cwd caps no_new_privs home lookup ready fifo hook seccomp exec"
        ).split()
    )


def test_p01_p02_terminal() -> None:
    made = process(terminal=True, consoleSize={"height": 24, "width": 80}, user={"uid": 9, "gid": 1})
    op = one(made, "console")
    assert [op.num(name) for name in ("height", "width", "uid", "bind")] == [24, 80, 9, 1]
    assert (made.terminal, made.console_size) == (True, (24, 80))
    assert one(execute(terminal=True), "console").num("bind") == 0


def test_p02_size_without_terminal_is_ignored() -> None:
    made = process(consoleSize={"height": 24, "width": 80})
    assert "console" not in names(made)
    assert (made.terminal, made.console_size) == (False, None)


def test_p03_cwd_is_tried_as_root_and_as_the_user() -> None:
    made = process(cwd="/work", user={"uid": 1000, "gid": 1000})
    assert [op.num("flags") for op in find(made, "cwd")] == [ops.CWD_TRY, 0]
    made = process(cwd="/work")
    assert [op.num("flags") for op in find(made, "cwd")] == [0]
    assert one(made, "mkdir").num("flags") == ops.MKDIR_OPTIONAL


def test_p04_p05_args_and_env() -> None:
    made = process(args=["ls", "-l"], env=["A=1", "PATH=/a:/b", "HOME=/h"])
    op = one(made, "exec")
    assert op.strs == [b"ls", b"-l", b"A=1", b"PATH=/a:/b", b"HOME=/h"]
    assert (op.num("argc"), op.num("envc"), op.num("preserve")) == (2, 3, 0)
    lookup = one(made, "lookup")
    assert (lookup.string("file"), lookup.string("path")) == (b"ls", b"/a:/b")
    assert "home" not in names(made)


def test_p05_no_path_no_program() -> None:
    assert one(process(env=[]), "lookup").string("path") == b""


def test_home_is_looked_up_when_env_has_none() -> None:
    assert one(process(env=["HOMER=x"], user={"uid": 5, "gid": 0}), "home").num("uid") == 5


@pytest.mark.parametrize("args", [[], [""], None])
def test_p05_nothing_to_execute(args: Any) -> None:
    refused(config(process={"args": args}), "/process/args")


def test_p06_rlimits() -> None:
    limits = [
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2},
        {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
    ]
    found = find(process(rlimits=limits), "rlimit")
    assert [(op.num("resource"), op.num("soft"), op.num("hard")) for op in found] == [(7, 1, 2), (4, -1, -1)]
    assert found[1].describe() == "set RLIMIT_CORE to unlimited:unlimited"


def test_p06_p07_bad_rlimits() -> None:
    limit = {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
    refused(config(process={"rlimits": [limit, limit]}), "/process/rlimits/1/type")
    refused(config(process={"rlimits": [limit | {"type": "RLIMIT_X"}]}), "/process/rlimits/0/type")


def test_p09_capabilities() -> None:
    sets = {
        "bounding": ["CAP_CHOWN", "CAP_KILL"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    }
    made = process(capabilities=sets)
    assert one(made, "bounding").num("caps") == mask("CHOWN", "KILL")
    caps = one(made, "caps")
    assert caps.num("permitted") == mask("CHOWN", "KILL")
    assert caps.num("effective") == mask("CHOWN")
    assert caps.num("inheritable") == caps.num("ambient") == mask("KILL")
    assert made.warnings == []


def test_p09_no_capabilities_is_none() -> None:
    made = process()
    assert one(made, "bounding").num("caps") == 0
    assert one(made, "caps").nums == [0, 0, 0, 0]


def test_p10_what_cannot_be_granted_is_a_warning() -> None:
    sets = {"bounding": ["CAP_NEVER", "CAP_CHOWN"], "permitted": ["CAP_CHECKPOINT_RESTORE"], "effective": ["CAP_CHOWN"]}
    made = make(process={"capabilities": sets}, facts=golden.facts(last_cap=37))
    assert one(made, "bounding").num("caps") == mask("CHOWN")
    assert one(made, "caps").nums == [0, 0, 0, 0]
    assert [warning.split(":")[0] for warning in made.warnings] == [
        f"/process/capabilities/{name}" for name in ("bounding", "permitted", "effective")
    ]


def test_p10_ambient_needs_permitted_and_inheritable() -> None:
    """buildah asks for all as ambient with nothing inheritable."""
    made = process(capabilities={"permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]})
    assert one(made, "caps").num("ambient") == 0
    assert made.warnings == []


def test_p11_no_new_privileges() -> None:
    assert "no_new_privs" in names(process(noNewPrivileges=True))
    assert "no_new_privs" not in names(process(noNewPrivileges=False))


@pytest.mark.parametrize(("value", "steps"), [(None, []), (0, [0]), (-1000, [-1000]), (5, [5])])
def test_p12_oom_score_adj(value: int | None, steps: list[int]) -> None:
    made = process(oomScoreAdj=value) if value is not None else process()
    assert [op.num("value") for op in find(made, "oom_score_adj")] == steps
    assert not steps or names(made)[0] == "oom_score_adj"


def test_p17_user() -> None:
    op = one(process(user={"uid": 5, "gid": 6, "additionalGids": [10, 2**32 - 2]}), "setids")
    assert (op.num("uid"), op.num("gid")) == (5, 6)
    assert struct.unpack("<2I", op.string("groups")) == (10, 2**32 - 2)
    assert op.num("flags") == ops.SETGROUPS | ops.KEEPCAPS | ops.CHOWN_STDIO


def test_p17_groups_are_dropped_too() -> None:
    op = one(process(), "setids")
    assert op.string("groups") == b""
    assert op.num("flags") == ops.SETGROUPS | ops.KEEPCAPS


def test_p17_stdio_belongs_to_the_root_of_a_user_namespace() -> None:
    made = make(linux=user_namespace())
    assert find(made, "setids")[-1].num("flags") & ops.CHOWN_STDIO


def test_p17_rootless_without_setgroups() -> None:
    single = [{"containerID": 0, "hostID": 1000, "size": 1}]
    part = user_namespace() | {"uidMappings": single, "gidMappings": single}
    facts = golden.facts(euid=1000)
    assert not find(make(linux=part, facts=facts), "setids")[-1].num("flags") & ops.SETGROUPS
    given = config(linux=part, process={"user": {"uid": 0, "gid": 0, "additionalGids": [0]}})
    assert "newgidmap" in refused(given, "/process/user/additionalGids", facts).hint
    ranges = [*single, {"containerID": 1, "hostID": 100000, "size": 9}]
    made = make(linux=part | {"gidMappings": ranges}, facts=facts)
    assert find(made, "setids")[-1].num("flags") & ops.SETGROUPS


def test_p18_umask() -> None:
    assert one(process(user={"uid": 0, "gid": 0, "umask": 0o77}), "umask").num("umask") == 0o77
    assert one(process(user={"uid": 0, "gid": 0, "umask": 0}), "umask").num("umask") == 0
    assert one(make(facts=golden.facts(umask=0o27)), "umask").num("umask") == 0o27


def test_keyring() -> None:
    assert one(make(options=golden.options("box")), "keyring").string("name") == b"_ses.box"
    assert "keyring" not in names(make(options=golden.options(no_new_keyring=True)))


def test_l25_l26_preserved_descriptors() -> None:
    assert one(make(options=golden.options(preserve_fds=3)), "exec").num("preserve") == 3


def test_s10_seccomp_is_the_last_step_before_execve() -> None:
    given = config(linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}})
    options = golden.options(seccomp=lambda profile: Program())
    for made in (make(given, options=options), execute(given, options=options)):
        assert names(made)[-2:] == ["seccomp", "exec"]
        assert made.ops[-2].string("program") == Program().code
        assert made.ops[-2].num("flags") == 2
        assert made.warnings == ["a warning"]


NOTIFY = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "listenerPath": "/run/agent",
    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
}


def test_s06_a_listener_is_handed_over_before_create_returns() -> None:
    hooks = {"startContainer": [{"path": "/h"}]}
    assert names(make(linux={"seccomp": NOTIFY}, hooks=hooks))[-5:] == ["ready", "seccomp", "fifo", "hook", "exec"]
    silent = NOTIFY | {"syscalls": []}
    assert names(make(linux={"seccomp": silent}, hooks=hooks))[-5:] == ["ready", "fifo", "hook", "seccomp", "exec"]


def test_s06_s10_exec_waits_until_its_listener_was_fetched() -> None:
    made = execute(config(linux={"seccomp": NOTIFY}))
    assert names(made)[-2:] == ["seccomp", "exec"]
    assert made.fds[one(made, "seccomp").num("gate") - 1] == "gate"
    assert "wait" in one(made, "seccomp").describe()
    assert one(execute(config(linux={"seccomp": NOTIFY | {"syscalls": []}})), "seccomp").num("gate") == 0


def test_a01_unknown_system_calls_can_be_an_error() -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["frob"], "action": "SCMP_ACT_KILL"}]}
    assert "frob" in make(linux={"seccomp": profile}).warnings[0]
    given = config(linux={"seccomp": profile}, annotations={"run.oci.seccomp_fail_unknown_syscall": "1"})
    assert "frob" in str(refused(given, "/linux/seccomp"))
    assert make(config(linux={"seccomp": profile}, annotations={"run.oci.seccomp_fail_unknown_syscall": "0"}))


def test_a01_a_filter_of_the_callers_own() -> None:
    key = "run.oci.seccomp_bpf_data"
    made = make(annotations={key: "BgAAAAAA/38="})  # BPF_RET SECCOMP_RET_ALLOW
    assert one(made, "seccomp").string("program") == bytes.fromhex("060000000000ff7f")
    for text in ("", "BgAAAAAA/3", "!!!!", "BgAA"):
        refused(config(annotations={key: text}), f"/annotations/{key}")


def test_seccomp_is_compiled_here_without_a_cache() -> None:
    made = make(linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}})
    assert len(one(made, "seccomp").string("program")) % 8 == 0


def test_l05_without_process_the_container_waits() -> None:
    given = config()
    del given["process"]
    made = make(given)
    assert names(made)[-2:] == ["ready", "fifo"]
    assert made.fds == ["fifo"]


# -- exec ------------------------------------------------------------------------------------


def test_p21_exec_has_the_process_ops_of_create() -> None:
    given = config(process={"capabilities": {"bounding": ["CAP_KILL"]}, "user": {"uid": 5, "gid": 5}})
    begin, end = "umask", ("ready", "fifo", "fork", "setsid")
    created, executed = make(given), execute(given)

    def tail(made: plan.Plan) -> list[tuple[str, list[int], list[bytes]]]:
        return [(op.name, op.nums, op.strs) for op in made.ops[index(made, begin) :] if op.name not in end]

    assert tail(created) == tail(executed)


def test_exec_joins_what_differs() -> None:
    target = Target(7, {"pid": "/proc/7/ns/pid", "mount": "/proc/7/ns/mnt", "user": "/proc/7/ns/user"})
    given = config()
    target.cgroup = {"version": 2, "dirs": {"": "/sys/fs/cgroup/c"}, "keep": [], "mount": "/sys/fs/cgroup"}
    made = plan.make_exec(given["process"], given, target, golden.facts(), golden.options())
    assert names(made)[:8] == ["enter", "fork", "join", "join", "join", "setids", "keyring", "root_here"]
    assert made.fds == ["ns:pid:/proc/7/ns/pid", "ns:mount:/proc/7/ns/mnt", "ns:user:/proc/7/ns/user"]
    assert made.ops[0].string("path") == b"/sys/fs/cgroup/c"
    assert (made.uid_map, made.cgroup) == ("", None)


def test_exec_enters_the_pid_namespace_with_the_rights_of_the_container() -> None:
    """SECURITY 10: what the container's processes can see, and trace, is nothing they are not already."""
    made = execute(terminal=True, noNewPrivileges=True)
    steps = names(made)
    assert steps[steps.index("no_new_privs") :] == ["no_new_privs", "lookup", "fork", "setsid", "ctty", "exec"]
    assert [op.num("shed") for op in find(made, "fork")] == [0, 1]


def test_exec_without_pid_namespace_does_not_fork() -> None:
    target = Target(7, {"network": "/proc/7/ns/net"})
    given = config()
    made = plan.make_exec(given["process"], given, target, golden.facts(), golden.options())
    assert "fork" not in names(made)


def test_exec_runs_no_hooks() -> None:
    given = config(hooks={point: [{"path": "/h"}] for point in ("prestart", "createContainer", "startContainer")})
    made = execute(given)
    assert made.hooks == {}
    assert "hook" not in names(made)


def test_exec_without_cgroups() -> None:
    given = config()
    made = plan.make_exec(given["process"], given, Target(7, {}), golden.facts(), golden.options())
    assert "enter" not in names(made)


# -- hooks -----------------------------------------------------------------------------------


def test_h01_h05_hooks_of_the_container() -> None:
    create = [{"path": "/h1", "args": ["one", "two"], "env": ["A=b"], "timeout": 3}, {"path": "/h2"}]
    made = make(hooks={"createContainer": create, "startContainer": [{"path": "/h3"}]})
    found = find(made, "hook")
    assert [op.string("path") for op in found] == [b"/h1", b"/h2", b"/h3"]
    assert [op.where for op in found] == [
        "/hooks/createContainer/0",
        "/hooks/createContainer/1",
        "/hooks/startContainer/0",
    ]
    assert found[0].strs[3:] == [b"one", b"two", b"A=b"]
    assert [found[0].num(name) for name in ("timeout", "argc", "envc")] == [3000, 2, 1]
    assert found[1].strs[3:] == [b"/h2"]
    assert [found[1].num(name) for name in ("timeout", "argc", "envc")] == [0, 1, 0]
    steps = names(made)
    assert steps.index("hook") < steps.index("pivot")
    assert steps.index("fifo") < len(steps) - 1 - steps[::-1].index("hook")


def test_h02_l17_state_with_room_for_the_pid() -> None:
    state = {
        "ociVersion": "1.3.0",
        "id": 'a"b\\c\n\x01\u00e9',
        "status": "x",
        "pid": 1,
        "bundle": "/b",
        "annotations": {"k\t": "v"},
    }
    hooks = {point: [{"path": "/h"}] for point in ("createContainer", "startContainer")}
    made = make(hooks=hooks, options=golden.options(state=state))
    for op, status in zip(find(made, "hook"), ("creating", "created"), strict=True):
        value = json.loads(op.string("prefix") + b"42" + op.string("suffix"))
        assert value == state | {"status": status, "pid": 42}


@pytest.mark.parametrize(
    ("hooks", "waits"),
    [
        ({}, False),
        ({"prestart": []}, False),
        ({"prestart": [{"path": "/h"}]}, True),
        ({"createRuntime": [{"path": "/h"}]}, True),
        ({"poststart": [{"path": "/h"}], "createContainer": [{"path": "/h"}]}, False),
    ],
)
def test_h01_the_host_is_waited_for_when_it_has_hooks(hooks: dict[str, Any], waits: bool) -> None:
    made = make(hooks=hooks)
    syncs = [op.num("sync") for op in find(made, "sync")]
    assert (ops.SYNC_HOOKS in syncs) == waits
    assert made.hooks == hooks


def test_l24_error_has_pointer_and_hint() -> None:
    with pytest.raises(errors.InvalidConfig) as caught:
        make(linux={"namespaces": namespaces(without="uts")}, hostname="x")
    assert "config.json /hostname" in str(caught.value)
    assert "hint" in str(caught.value)


def test_a01_output_of_the_hooks() -> None:
    hooks = {"createContainer": [{"path": "/h1"}], "startContainer": [{"path": "/h2"}]}
    annotations = {"run.oci.hooks.stdout": "/log/out", "run.oci.hooks.stderr": "/log/err"}
    made = make(hooks=hooks, annotations=annotations)
    assert made.fds == ["append:file:/log/out", "append:file:/log/err", "fifo"]
    assert [(op.num("stdout"), op.num("stderr")) for op in find(made, "hook")] == [(1, 2), (1, 2)]
    one_file = make(hooks=hooks, annotations=dict.fromkeys(annotations, "/log/both"))
    assert one_file.fds == ["append:file:/log/both", "fifo"]
    assert [(op.num("stdout"), op.num("stderr")) for op in find(make(hooks=hooks), "hook")] == [(0, 0), (0, 0)]
    refused(config(hooks=hooks, annotations={"run.oci.hooks.stdout": "log"}), "/annotations/run.oci.hooks.stdout")


@pytest.mark.parametrize(("value", "kept"), [("1", True), ("0", False), ("", False)])
def test_a01_keep_original_groups(value: str, kept: bool) -> None:
    annotations = {"run.oci.keep_original_groups": value}
    user = {"uid": 5, "gid": 5, "additionalGids": [7]}
    made = make(process={"user": user}, annotations=annotations)
    op = one(made, "setids")
    assert bool(op.num("flags") & ops.SETGROUPS) is not kept
    assert op.string("groups") == (b"" if kept else (7).to_bytes(4, "little"))
    assert bool(made.warnings) is kept
