"""What options mean, without root: mounts, users, keys, restart delays, the record and its config.json."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import click
import pytest

from pyoci.mydocker import (
    clock,
    config,
    console,
    delegation,
    inroot,
    lifecycle,
    logs,
    logwriter,
    mounts,
    observed,
    ports,
    restart,
    runoptions,
    runspec,
    seccomp,
    users,
)
from pyoci.mydocker.errors import UsageError
from pyoci.mydocker.image import Process


class FakeImage:
    """As much of an image as the record takes."""

    def __init__(self, **found: Any) -> None:
        self.id = "sha256:" + "0" * 64
        self.process = Process(found)


def given(*args: str) -> dict[str, Any]:
    """The options of a command line."""
    found: dict[str, Any] = {}

    @click.command()
    @runoptions.all_options
    def command(**options: Any) -> None:
        found.update(options)

    command.main([*args], standalone_mode=False)
    return found


def record(*args: str, command: tuple[str, ...] = ("sh",), **image: Any) -> dict[str, Any]:
    made = runspec.make(given(*args), FakeImage(**image), "image", command, detached=False)  # type: ignore[arg-type]
    made["id"] = "1" * 64
    return made


def made(*args: str, **image: Any) -> dict[str, Any]:
    place = config.Place("/rootfs", "/dir", users.User(0, 0, [], "/root"))
    return config.make(record(*args, **image), place)


# -- records ----------------------------------------------------------------------------------


def test_entrypoint_and_command() -> None:
    image = {"Entrypoint": ["/entry"], "Cmd": ["default"], "Env": ["A=1", "VALUELESS", "B=2"]}
    assert made(command=(), **image)["process"]["args"] == ["/entry", "default"]
    assert made(command=("x",), **image)["process"]["args"] == ["/entry", "x"]
    assert made("--entrypoint", "/own", command=(), **image)["process"]["args"] == ["/own"]
    assert made("--entrypoint", "", command=("x",), **image)["process"]["args"] == ["x"]
    with pytest.raises(UsageError, match="No command"):
        record(command=())


def test_valueless_env_of_an_image_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the host")
    env = made(Env=["SECRET", "A=1"])["process"]["env"]
    assert not [entry for entry in env if "SECRET" in entry]
    assert "SECRET=of the host" in made("-e", "SECRET")["process"]["env"]  # the user may


def test_the_book_s_spellings() -> None:
    found = given("-ti", "-name", "bird", "-cpuset", "0", "-cpushare", "512", "-net", "one", "-m", "100m")
    assert (found["tty"], found["interactive"], found["name"]) == (True, True, "bird")
    assert (found["cpuset_cpus"], found["cpu_shares"], found["network"]) == ("0", 512, ("one",))


@pytest.mark.parametrize(
    "args",
    [
        ["-m", "1k"],
        ["--memory-swap", "1g"],
        ["--userns", "keep-id"],
        ["--ip6", "fd00::2"],
        ["-p", "[::1]:80:80"],
        ["--rm", "--restart", "always"],
        ["--restart", "sometimes"],
        ["--restart", "always:3"],
        ["--restart", f"on-failure:{'9' * 5000}"],
        ["--userns", f"auto:size={'9' * 5000}"],
        ["--userns", "auto:size=0"],
        ["--log-opt", f"max-file={'9' * 5000}"],
        ["-m", "9" * 5000],
        ["-p", "80:80", "--network", "host"],
        ["--network", "host", "--network", "one"],
        ["--pid", "x"],
        ["--uts", "container:x"],
        ["-w", "relative"],
        ["--hostname", "a\nb"],
        ["--hostname", "-x"],
        ["--add-host", "x:no-address"],
        ["--add-host", "a b:1.2.3.4"],
        ["--dns", "x"],
        ["--dns-search", "a\nnameserver 1.1.1.1"],
        ["--ulimit", "nofile=9:1"],
        ["--ulimit", "what=1"],
        ["--log-opt", "max-size=x"],
        ["--log-opt", "colour=red"],
        ["--security-opt", "what"],
        ["--security-opt", "seccomp=/no/such/file"],
        ["-e", "=x"],
        ["--cpus", "100000"],
        ["-v", "/a:/b", "--tmpfs", "/b"],
    ],
    ids=" ".join,
)
def test_refused(args: list[str]) -> None:
    with pytest.raises(UsageError):
        record(*args)


def test_mounts() -> None:
    def oci(mount: dict[str, Any]) -> tuple[str, ...]:
        found = mounts.oci(mount)
        return (found["source"], found["destination"], *found["options"])

    assert oci(mounts.volume("/a:/b")) == ("/a", "/b", "rbind", "rprivate", "rw")
    assert oci(mounts.volume("/a:/b/../c:ro,rshared")) == ("/a", "/c", "rbind", "rshared", "ro")
    assert mounts.volume("data:/b")["name"] == "data"
    assert mounts.volume("/b")["type"] == "volume"
    assert oci(mounts.mount("type=bind,src=/a,dst=/b,readonly")) == ("/a", "/b", "rbind", "rprivate", "ro")
    assert "size=1048576" in mounts.oci(mounts.mount("type=tmpfs,target=/t,tmpfs-size=1m"))["options"]
    assert mounts.tmpfs("/t:size=1m,exec")["options"] == ["nosuid", "nodev", "size=1m", "exec"]
    for text in ("", ":", "/a:", "a/b:/c", "/a:/b:what", "/a:b", "/a:/", "a:b:c:d", "../../etc/x y:/"):
        with pytest.raises(UsageError):
            mounts.volume(text)
    for text in (
        "type=bind,source=a,target=/b",
        "type=what,target=/b",
        "target=b",
        "type=bind,source=/a,target=/b,x=y",
    ):
        with pytest.raises(UsageError):
            mounts.mount(text)


def test_limits_are_those_asked_for() -> None:
    resources = made("-m", "64m", "--cpus", "0.25", "--pids-limit", "9")["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 << 20, "swap": 128 << 20}
    assert resources["cpu"] == {"period": 100_000, "quota": 25_000}
    assert resources["pids"] == {"limit": 9}
    assert set(made()["linux"]["resources"]) == {"devices"}


def test_seccomp_rules_by_capability() -> None:
    def names(*capabilities: str) -> set[str]:
        found = seccomp.resolve(seccomp.default(), capabilities)
        allowed = [rule for rule in found["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule]
        return {name for rule in allowed for name in rule["names"]}

    plain = names()
    assert {"read", "openat", "execve", "futex", "statx"} <= plain
    never = {
        "mount",
        "bpf",
        "setns",
        "unshare",
        "clone3",
        "keyctl",
        "kexec_load",
        "io_uring_setup",
        "userfaultfd",
        "ptrace",
    }
    assert not plain & (never - {"ptrace"})
    assert {"mount", "setns", "clone3"} <= names("CAP_SYS_ADMIN")
    assert "bpf" in names("CAP_BPF")
    assert "keyctl" not in names("CAP_SYS_ADMIN")


# -- users ------------------------------------------------------------------------------------


def resolve(root: Path, text: str) -> tuple[int, int, list[int], str]:
    fd = inroot.open_directory(str(root))
    try:
        found = users.resolve(fd, text)
    finally:
        os.close(fd)
    return found.uid, found.gid, found.groups, found.home


def test_users(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nwalnut:x:7:8::/home/w:/bin/sh\n1:x:0:0::/:/\nbad:x:-1:x::/:\n"
    )
    (etc / "group").write_text("oak:x:20:walnut,x\nelm:x:21:root\n")
    assert resolve(tmp_path, "") == (0, 0, [0, 21], "/root")
    assert resolve(tmp_path, "walnut") == (7, 8, [8, 20], "/home/w")
    assert resolve(tmp_path, "walnut:elm")[:2] == (7, 21)
    assert resolve(tmp_path, "1")[0] == 1  # digits are an id, although there is a user of that name
    assert resolve(tmp_path, "99:98")[:2] == (99, 98)
    for text in ("nobody", "bad", "walnut:pine", "99999999999", "2147483648", "1:4294967295", "-1", "\uff11"):
        with pytest.raises(UsageError):
            resolve(tmp_path, text)


def test_users_of_hostile_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (tmp_path / "passwd").write_text("outside:x:0:0::/:/\n")
    os.symlink("../../passwd", root / "etc" / "passwd")
    os.mkfifo(root / "etc" / "group")  # would hold a reader up for ever
    with pytest.raises(UsageError):
        resolve(root, "outside")
    assert resolve(root, "5")[:3] == (5, 0, [])


# -- keys -------------------------------------------------------------------------------------


def test_detach_keys() -> None:
    sequence = console.parse_keys("ctrl-p,ctrl-q")
    assert sequence == b"\x10\x11"
    assert console.parse_keys("a,ctrl-@") == b"a\x00"
    keys = console.Keys(sequence)
    assert keys.feed(b"abc") == (b"abc", False)
    assert keys.feed(b"x\x10") == (b"x", False)
    keys.since += 1000  # however slow this machine is
    assert keys.timeout()
    assert keys.feed(b"y") == (b"\x10y", False)
    assert keys.feed(b"\x10\x10") == (b"\x10", False)
    assert keys.feed(b"\x11rest") == (b"", True)
    assert console.Keys(b"").feed(b"\x10\x11") == (b"\x10\x11", False)
    late = console.Keys(sequence)
    late.feed(b"\x10")
    late.since += 1000
    assert late.flush() == b""  # not yet
    late.since -= 2000
    assert late.flush() == b"\x10"
    with pytest.raises(UsageError):
        console.parse_keys("ctrl-pq")


# -- restarts ---------------------------------------------------------------------------------


def test_ports_in_ps() -> None:
    entries = [
        port for text in ("8080:80", "8082-8084:82-84", "127.0.0.1:8081:81", "53:53/udp") for port in ports.parse(text)
    ]
    assert ports.texts(entries) == [
        "0.0.0.0:8080->80/tcp",
        "0.0.0.0:8082-8084->82-84/tcp",
        "127.0.0.1:8081->81/tcp",
        "0.0.0.0:53->53/udp",
    ]


def test_limits_of_an_ordinary_user() -> None:
    """As far as there are controllers; what is left over is named, and makes no scope."""
    wanted = record("-m", "64m", "--cpus", "0.5", "--cpuset-cpus", "0", "--pids-limit", "9")
    place = config.Place("/rootfs", "/dir", users.User(0, 0, [], "/root"))
    place.rootless = True
    found = config.make(wanted, place)["linux"]
    assert found["resources"].keys() == {"devices"}
    assert "cgroupsPath" not in found
    place.controllers = frozenset({"memory", "cpu"})
    found = config.make(wanted, place)["linux"]
    assert found["resources"].keys() == {"devices", "memory", "cpu"}
    assert found["resources"]["cpu"].keys() == {"period", "quota"}
    assert found["cgroupsPath"] == f"user.slice:mydocker:{wanted['id']}"
    limits = config.limits(wanted["host"], True)
    assert delegation.choose(limits, place.controllers)[1] == ["cpuset", "pids"]
    assert delegation.choose(limits, frozenset({"memory", "cpu", "cpuset", "pids"})) == (limits, [])


def ended(code: int = 1, restarts: int = 0, stopped: bool = False, ran: float = 1) -> observed.State:
    facts = {**observed.FRESH, "started": clock.stamp(1000), "finished": clock.stamp(1000 + ran)}
    return observed.State("exited", 0, {**facts, "exit_code": code, "restarts": restarts, "stopped": stopped})


@pytest.mark.parametrize("name", ["9" * 5000, "RTMIN+\u00b2", f"RTMIN+{'9' * 5000}", "\u0663", "0"])
def test_no_signals(name: str) -> None:
    with pytest.raises(UsageError, match="Invalid signal"):
        lifecycle.container_signal(name)


def test_signals() -> None:
    names = ("9", "SIGKILL", "rtmin+2", "RTMIN")
    assert [*map(lifecycle.container_signal, names)] == [9, 9, signal.SIGRTMIN + 2, signal.SIGRTMIN]


def test_restart_delays() -> None:
    always = restart.parse("always")
    assert restart.delay(restart.parse("no"), ended()) is None
    assert restart.delay(always, ended(0)) == 0.1
    assert restart.delay(always, ended(restarts=3)) == 0.8
    assert restart.delay(always, ended(restarts=50)) == 60
    assert restart.delay(always, ended(restarts=50, ran=11)) == 0.1
    assert restart.delay(always, ended(stopped=True)) is None
    assert restart.delay(restart.parse("on-failure"), ended(0)) is None
    assert restart.delay(restart.parse("on-failure:2"), ended(restarts=1)) is not None
    assert restart.delay(restart.parse("on-failure:2"), ended(restarts=2)) is None


# -- logs -------------------------------------------------------------------------------------


def test_log_writer(tmp_path: Path) -> None:
    writer = logwriter.Writer(str(tmp_path), 300, 3)
    for number in range(20):
        writer.write(writer.line(b"2026-01-02T03:04:05.123456789+00:00 stdout F line %d" % number))
    assert sorted(path.name for path in tmp_path.glob("json*")) == ["json.log", "json.log.1", "json.log.2"]
    kept = [entry.text for entry in logs.Log(str(tmp_path)).entries()]
    assert kept == [f"line {number}\n" for number in range(20 - len(kept), 20)]
    assert [entry.text for entry in logs.Log(str(tmp_path)).entries(2)] == ["line 18\n", "line 19\n"]


def test_log_lines(tmp_path: Path) -> None:
    writer = logwriter.Writer(str(tmp_path), 0, 1)
    euro = "€".encode()
    lines = [
        b"T stdout P a" + euro[:1],
        b"T stderr F between",
        b"T stdout F " + euro[1:] + b"b",
        b"T stdout F \xff",
        b"junk",
    ]
    found = [json.loads(line)["log"] for line in map(writer.line, lines) if line]
    assert found == ["a", "between\n", "€b\n", "\ufffd\n"]


def test_since() -> None:
    assert logs.when("1700000000.5") == 1700000000.5
    assert logs.when("1970-01-01T00:01:00Z") == 60
    assert logs.when("1h30m") == pytest.approx(logs.when("90m"), abs=1)
    with pytest.raises(UsageError):
        logs.when("yesterday")
