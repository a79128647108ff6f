"""The bundles of bundles/: each runs and shows what its README says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.integration.harness import PROJECT, Box, Terminal, pyoci_only

BUNDLES = PROJECT / "bundles"
NAMES = sorted(path.parent.name for path in BUNDLES.glob("*/config.json"))


def use(box: Box, name: str) -> None:
    """Make the box that bundle: its config, on the rootfs of the tests."""
    box.config = json.loads((BUNDLES / name / "config.json").read_text())
    assert box.config["root"]["path"] == "rootfs"


def lines(box: Box, name: str) -> list[str]:
    use(box, name)
    return box.run().out.splitlines()


def test_there_are_enough() -> None:
    assert {"hello", "shell", "userns", "limits", "hooks", "seccomp", "readonly", "exec"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_bundle_says_what_it_is(name: str) -> None:
    """One line of README."""
    assert len((BUNDLES / name / "README.md").read_text().splitlines()) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_bundle_can_be_created(box: Box, name: str) -> None:
    use(box, name)
    box.process["terminal"] = False
    box.create()
    assert box.status == "created"


def test_hello(box: Box) -> None:
    assert lines(box, "hello") == ["hello from a container"]


def test_shell(box: Box) -> None:
    use(box, "shell")
    box.write()
    with Terminal(box.argv("run", "--bundle", str(box.bundle), box.id)) as person:
        person.read("# ")
        person.type("exit 5\n")
        assert person.wait() == 5


def test_userns(box: Box) -> None:
    ids, id_map, *_ = lines(box, "userns")
    assert ids.startswith("uid=0(root) gid=0(root)")
    assert id_map.split() == ["0", "100000", "65536"]


def test_limits(box: Box) -> None:
    assert lines(box, "limits") == ["256", "32", str(64 << 20)]


def test_hooks(box: Box) -> None:
    domain, state = lines(box, "hooks")
    assert domain == "named-by-a-hook"
    assert json.loads(state)["status"] == "created"
    assert json.loads(state)["pid"] == 1


def test_seccomp(box: Box) -> None:
    assert lines(box, "seccomp") == ["Seccomp:\t2", "no new user namespace: seccomp says so"]


def test_readonly(box: Box) -> None:
    use(box, "readonly")
    result = box.run()
    assert result.out.splitlines() == ["only /tmp is writable", "0"]
    assert result.err.count("Read-only file system") == 2


def test_exec(box: Box) -> None:
    use(box, "exec")
    box.create()
    box.start()
    assert "sleep 1000" in box.exec("ps").out
    process = json.loads((BUNDLES / "exec/process.json").read_text())
    ids, *rest = box.exec_json(process).out.splitlines()
    assert ids.startswith("uid=1000")
    assert rest == ["/tmp", "process.json"]


@pyoci_only("writes its own version and host name")
@pytest.mark.parametrize("options", [[], ["--rootless"]])
def test_spec_is_what_runc_writes(box: Box, options: list[str], tmp_path: Path) -> None:
    """pyoci spec and runc spec: the same config but for the version of the spec and the host name."""
    made = []
    for number, argv in enumerate((box.argv("spec"), ["runc", "spec"])):
        directory = tmp_path / str(number)
        directory.mkdir()
        subprocess.run([*argv, *options, "--bundle", str(directory)], check=True)
        made.append(json.loads((directory / "config.json").read_text()))
    for config in made:
        del config["ociVersion"], config["hostname"]
    made[1]["process"]["capabilities"].pop("ambient", None)  # runc 1.1 sets them, later ones do not
    made[0]["process"]["capabilities"].pop("ambient", None)
    assert made[0] == made[1]


def test_spec_runs(box: Box) -> None:
    """What `spec` writes runs as it is, but for the terminal."""
    (box.bundle / "config.json").unlink(missing_ok=True)
    box.rt("spec", "--bundle", str(box.bundle))
    box.config = json.loads((box.bundle / "config.json").read_text())
    box.process["terminal"] = False
    assert box.sh("echo fine") == "fine\n"
    assert box.rt("spec", "--bundle", str(box.bundle), check=False).code == 1  # it overwrites nothing


def test_make_rootfs(tmp_path: Path) -> None:
    """bundles/make-rootfs: by path, a second time without a change, and never for what is no bundle."""
    (tmp_path / "config.json").write_text("{}")
    make = str(BUNDLES / "make-rootfs")
    subprocess.run([make, str(tmp_path)], check=True)
    shell = tmp_path / "rootfs/bin/sh"
    before = shell.lstat().st_ctime_ns
    subprocess.run([make, str(tmp_path)], check=True)
    assert shell.lstat().st_ctime_ns == before
    assert subprocess.run([shell, "-c", "exit 3"], check=False).returncode == 3
    assert [path.name for path in tmp_path.iterdir() if "new" in path.name] == []
    refused = subprocess.run([make, str(tmp_path / "rootfs")], check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "no bundle" in refused.stderr
