"""What the command says when it cannot: one line, the log of engines, exit codes (ENGINE-CONTRACT 2.3)."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pyoci import container_user, errors
from pyoci.cli import exec as exec_verb
from pyoci.cli import list as list_verb
from pyoci.cli import options
from pyoci.host.process import Process

if TYPE_CHECKING:
    from pyoci.container import Container

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ["/usr/bin/python3", "-I", "-S", str(ROOT / "pyoci" / "__main__.py")]


def pyoci(*argv: str, env: dict[str, str] | None = None, **how: Any) -> subprocess.CompletedProcess[str]:
    """Without PATH and HOME, as podman calls it."""
    how = {"stdin": subprocess.DEVNULL, "capture_output": True, **how}
    return subprocess.run([*COMMAND, *argv], text=True, timeout=20, env=env or {}, **how)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "root")


# -- the log ----------------------------------------------------------------------------------


def test_json_log(root: str, tmp_path: Path) -> None:
    """The file is one JSON object with an RFC 3339 time; stderr has the same text."""
    log = tmp_path / "log.json"
    done = pyoci("--root", root, "--log", str(log), "--log-format", "json", "state", "nope")
    record = json.loads(log.read_text())
    assert set(record) == {"level", "msg", "time"}
    assert record["level"] == "error"
    assert record["msg"] == "container does not exist"
    assert datetime.datetime.fromisoformat(record["time"]).tzinfo
    assert done.stderr == "container does not exist\n"
    assert (done.stdout, done.returncode) == ("", 1)


def test_the_log_is_appended_to(root: str, tmp_path: Path) -> None:
    """go-runc takes the last line, and every line has to be an object."""
    log = tmp_path / "log.json"
    for verb in ("state", "start"):
        pyoci("--log-format=json", f"--log={log}", "--root", root, verb, "nope")
    assert [json.loads(line)["level"] for line in log.read_text().splitlines()] == ["error", "error"]


def test_text_log(root: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    pyoci("--root", root, "--log", str(log), "state", "nope")
    assert log.read_text().endswith(' level=error msg="container does not exist"\n')


def test_stderr_alone(root: str) -> None:
    done = pyoci("--root", root, "state", "nope")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(' level=error msg="container does not exist"\n')


def test_json_on_stderr(root: str) -> None:
    done = pyoci("--root", root, "--log-format", "json", "state", "nope")
    assert json.loads(done.stderr)["msg"] == "container does not exist"


def test_log_that_cannot_be_opened(root: str) -> None:
    done = pyoci("--root", root, "--log", "/nonexistent/log", "state", "nope")
    assert done.returncode == 1
    assert "cannot open log file /nonexistent/log: no such file or directory" in done.stderr


def test_a_hostile_name_stays_in_its_line(root: str, tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    done = pyoci("--root", root, "--log", str(log), "--log-format", "json", "state", 'a\n{"level":"error"}\x1b[2J"')
    assert done.returncode == 1
    assert len(log.read_text().splitlines()) == 1
    assert json.loads(log.read_text())
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


def test_bytes_that_are_not_utf8(root: str) -> None:
    done = subprocess.run([*COMMAND, "--root", root, "state", b"\xff\xfe"], capture_output=True, timeout=20)
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1


# -- usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("strt x", "did you mean start"),
        ("creat x", "did you mean create"),
        ("exce x", "did you mean exec"),
        ("qqq", "one of create, start"),
        ("create --bundel b x", "did you mean --bundle"),
        ("create --root /x x", "global option: it stands before the verb"),
        ("--bundle b create x", "stands after the verb"),
        ("create --pid-file", "flag needs an argument: -pid-file"),
        ("create", "create needs a container id"),
        ("start", "usage: pyoci start [OPTIONS] CONTAINER-ID"),
        ("start a b", "takes no further argument: b"),
        ("list x", "takes no further argument: x"),
        ("help strat", "did you mean"),
        ("list --format xml", "one of table, json"),
    ],
)
def test_wrong_usage_points_to_the_right_one(line: str, text: str) -> None:
    done = pyoci(*line.split())
    assert done.returncode == 1
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_help(argv: list[str]) -> None:
    done = pyoci(*argv)
    assert (done.returncode, done.stderr) == (0, "")
    assert "GLOBAL OPTIONS" in done.stdout
    assert "   create " in done.stdout


@pytest.mark.parametrize("argv", [["create", "--help"], ["help", "create"], ["create", "-h"], ["--help", "create"]])
def test_help_of_a_verb(argv: list[str]) -> None:
    """podman asks `checkpoint --help` for its exit status."""
    done = pyoci(*argv)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--console-socket PATH" in done.stdout


@pytest.mark.parametrize("argv", [["--version"], ["-v"], ["version"]])
def test_version(argv: list[str]) -> None:
    """dockerd reads it."""
    name, commit, spec = pyoci(*argv).stdout.splitlines()
    assert name.startswith("pyoci version 0.")
    assert commit.startswith("commit: ")
    assert spec == "spec: 1.3.0"


def test_full_stdout() -> None:
    with open("/dev/full", "wb") as full:
        done = pyoci("--version", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert "cannot write to stdout: no space left on device" in done.stderr


# -- exit codes and texts ---------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["start", "state", "kill", "delete"])
def test_no_such_container(root: str, verb: str) -> None:
    """L08 L10 L14: "does not exist" is what shims look for."""
    done = pyoci("--root", root, verb, "nope")
    assert done.returncode == 1
    assert "container does not exist" in done.stderr


def test_exec_failure_is_255(root: str) -> None:
    assert pyoci("--root", root, "exec", "nope", "true").returncode == 255
    assert pyoci("--root", root, "exec").returncode == 1


def test_forced_delete_of_nothing(root: str) -> None:
    done = pyoci("--root", root, "delete", "--force", "nope")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "../x", "a b", "x" * 1025])
def test_bad_id(root: str, id: str) -> None:
    """L03: nothing is made."""
    done = pyoci("--root", root, "create", id)
    assert done.returncode == 1
    assert "container id" in done.stderr
    assert not os.path.exists(root)


def test_no_bundle(root: str, tmp_path: Path) -> None:
    """L03"""
    done = pyoci("--root", root, "create", "--bundle", str(tmp_path / "none"), "x")
    assert done.returncode == 1
    assert "no such file or directory" in done.stderr
    assert not os.path.exists(root)


def test_list_of_nothing(root: str) -> None:
    assert pyoci("--root", root, "list").stdout.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert pyoci("--root", root, "list", "-q").stdout == ""
    assert json.loads(pyoci("--root", root, "list", "--format=json").stdout) == []


def test_spec(tmp_path: Path) -> None:
    """As runc: never over a config.json that is there."""
    assert pyoci("spec", "--bundle", str(tmp_path)).stdout == ""
    before = (tmp_path / "config.json").read_text()
    assert json.loads(before)["ociVersion"]
    done = pyoci("spec", cwd=tmp_path)
    assert done.returncode == 1
    assert "File config.json exists. Remove it first" in done.stderr
    assert (tmp_path / "config.json").read_text() == before


def test_spec_through_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to(tmp_path / "elsewhere")
    assert pyoci("spec", cwd=tmp_path).returncode == 1
    assert not (tmp_path / "elsewhere").exists()


def test_plan(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    pyoci("spec", cwd=tmp_path)
    shown = pyoci("plan", str(tmp_path)).stdout
    assert "container:\n   0  " in shown
    assert "/mounts/0" in shown
    data = json.loads(pyoci("plan", "--json", str(tmp_path)).stdout)
    assert data["host"]["terminal"] is True
    assert data["ops"][-1]["op"] == "exec"


# -- surprises --------------------------------------------------------------------------------

BROKEN = """
import sys
sys.path.append({root!r})
from pyoci import cli, container
def open(id, root=None):
    raise ZeroDivisionError("division\\nby zero")
container.Container.open = open
sys.exit(cli.main(sys.argv[1:]))
"""


def broken(*argv: str) -> subprocess.CompletedProcess[str]:
    code = BROKEN.format(root=str(ROOT))
    return subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", code, *argv], text=True, capture_output=True)


def test_internal_error_is_one_line() -> None:
    done = broken("state", "x")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "internal error: ZeroDivisionError: division\\\\nby zero" in done.stderr
    assert broken("exec", "x", "true").returncode == 255


def test_traceback_under_debug(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = broken("--debug", "--log", str(log), "--log-format=json", "state", "x")
    assert "Traceback" in done.stderr
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[-1]["level"] == "error"
    assert {line["level"] for line in lines[:-1]} == {"debug"}


WAITING = """
import sys, time
sys.path.append({root!r})
from pyoci import cli, container
def open(id, root=None):
    try:
        print("go", flush=True)
        time.sleep(10)
    finally:
        print("undone", flush=True)
container.Container.open = open
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_interrupted(number: signal.Signals) -> None:
    """A signal that ends the command lets it undo what it began."""
    argv = ["/usr/bin/python3", "-I", "-S", "-c", WAITING.format(root=str(ROOT)), "state", "x"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    process.stdout.readline()
    process.send_signal(number)
    out, error = process.communicate(timeout=10)
    assert out == "undone\n"
    assert f"interrupted by signal {number.value}" in error
    assert process.returncode == 128 + number


def test_attackers_directory(tmp_path: Path) -> None:
    """Nothing is imported from the working directory."""
    for name in ("json", "os", "errno", "pyoci", "_json", "select"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken over')")
    assert pyoci("--version", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}).stdout.startswith("pyoci version")


# -- the process of exec ----------------------------------------------------------------------

OWN: dict[str, Any] = {
    "terminal": True,
    "cwd": "/own",
    "args": ["own"],
    "env": ["PATH=/bin", "A=1"],
    "user": {"uid": 1, "gid": 2, "additionalGids": [3]},
    "capabilities": {"bounding": ["CAP_KILL"], "inheritable": ["CAP_KILL"]},
    "noNewPrivileges": True,
    "consoleSize": {"height": 1, "width": 2},
}


def build(*argv: str, own: dict[str, Any] | None = OWN) -> dict[str, Any]:
    container = cast("Container", SimpleNamespace(config={"process": own}, user=user))
    return exec_verb.build(container, options.parse(argv, exec_verb.OPTIONS, mixed=False))


def user(who: str, groups: list[str], base: dict[str, Any]) -> dict[str, Any]:
    """Container.user for numbers, which needs no container."""
    return container_user.Lookup(Process(0, 0)).user(base, who, groups)


def test_exec_keeps_the_containers_process() -> None:
    """P21: what no option changes is config.json's, but the terminal."""
    made = build("id", "sh", "-c", "x")
    assert made == {**OWN, "args": ["sh", "-c", "x"], "terminal": False}
    assert OWN["args"] == ["own"]


def test_exec_options() -> None:
    made = build(
        *("-t --cwd /x -e A=2 -e B=3 --user 5:6 -g 7 -g 8 --no-new-privs=false --apparmor p --process-label l".split()),
        *("-c net_raw --cap CAP_KILL id sh".split()),
    )
    assert made["terminal"] is True
    assert made["cwd"] == "/x"
    assert made["env"] == ["PATH=/bin", "A=2", "B=3"]
    assert made["user"] == {"uid": 5, "gid": 6, "additionalGids": [3, 7, 8]}
    assert made["noNewPrivileges"] is False
    assert (made["apparmorProfile"], made["selinuxLabel"]) == ("p", "l")
    assert made["capabilities"] == {
        "bounding": ["CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_NET_RAW", "CAP_KILL"],
        "permitted": ["CAP_NET_RAW", "CAP_KILL"],
        "inheritable": ["CAP_KILL"],  # CVE-2022-29162: never by --cap
    }


def test_exec_user_without_group_keeps_the_group() -> None:
    assert build("-u", "9", "id", "sh")["user"]["gid"] == 2


def test_exec_in_a_container_without_process() -> None:
    assert build("id", "sh", own=None)["cwd"] == "/"


@pytest.mark.parametrize(
    "argv",
    [["id"], ["-e", "A", "id", "x"], ["-e", "=1", "id", "x"], ["-u", "1:", "id", "x"]],
)
def test_exec_refuses(argv: list[str]) -> None:
    with pytest.raises(errors.UsageError):
        build(*argv)


def test_exec_process_and_command() -> None:
    with pytest.raises(errors.UsageError, match="both"):
        exec_verb.read(options.parse(["-p", "f", "id", "sh"], exec_verb.OPTIONS, mixed=False))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], None),
        (["/x"], {"": "/x"}),
        (["cpu:/x", "memory,pids:/y"], {"cpu": "/x", "memory": "/y", "pids": "/y"}),
    ],
)
def test_exec_cgroups(given: list[str], wanted: dict[str, str] | None) -> None:
    assert exec_verb.cgroups(given) == wanted


@pytest.mark.parametrize("given", [["/x", "/y"], ["a:b:c"], ["cpu:"], [""]])
def test_exec_cgroups_refused(given: list[str]) -> None:
    with pytest.raises(errors.UsageError):
        exec_verb.cgroups(given)


# -- list -------------------------------------------------------------------------------------


def test_table_is_runcs() -> None:
    """Bytes of runc 1.1.5."""
    rows = [
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"],
        ["c1", "8608", "running", "/tmp/clit/b", "2026-11-21T21:56:33.850482615Z", "root"],
    ]
    assert list_verb.table(rows) == (
        "ID          PID         STATUS      BUNDLE        CREATED                          OWNER\n"
        "c1          8608        running     /tmp/clit/b   2026-11-21T21:56:33.850482615Z   root\n"
    )
    assert list_verb.table(rows[:1]).startswith("ID          PID         STATUS      BUNDLE      CREATED     OWNER")
