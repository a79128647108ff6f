"""pyoci validate: every fault with its place, section and hint; what the host lacks; what is not known."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from pyoci import cli, errors, json, schema, spec
from pyoci.cli import validate
from pyoci.host import facts, lacks
from pyoci.plan.facts import Facts
from tests.unit import test_spec

pytest.importorskip("jsonschema")


def bundle(directory: Path, config: Any) -> Path:
    (directory / "rootfs").mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def shown(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code = cli.main(["validate", "--json", *argv])
    return code, json.loads(capfd.readouterr().out.encode())


def wheres(entries: list[dict[str, str]]) -> list[str]:
    return [entry["where"] for entry in entries]


def test_valid(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = spec.default()
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    code, found = shown(capfd, str(bundle(tmp_path, config)))
    assert (code, found["valid"], found["faults"]) == (0, True, [])
    assert cli.main(["validate", str(tmp_path / "config.json")]) == 0


def test_every_fault_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """L29."""
    config = test_spec.changed(test_spec.changed(spec.default(), "/process/cwd", "tmp"), "/hostname", 1)
    config["linux"]["resources"] = {"cpu": {"quota": 9, "burst": 10}}
    code, found = shown(capfd, str(bundle(tmp_path, config)))
    assert code == 1
    assert {entry["where"]: entry["spec"] for entry in found["faults"]} == {
        "/process/cwd": "config.md#process",
        "/hostname": "config.md#hostname",
        "/linux/resources/cpu/burst": "config-linux.md#cpu",
    }
    (cwd,) = [entry for entry in found["faults"] if entry["where"] == "/process/cwd"]
    assert cwd["hint"] == "write /tmp (the working directory, absolute)"


def test_text(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = test_spec.changed(spec.default(), "/process/cwd", "tmp")
    assert cli.main(["validate", str(bundle(tmp_path, config))]) == 1
    out = capfd.readouterr().out.splitlines()
    assert out[0] == "/process/cwd: cwd must be an absolute path, not 'tmp'"
    assert out[1].strip() == "hint: write /tmp (the working directory, absolute)"
    assert out[2].strip() == "see config.md#process"


def test_stdin(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{}")))
    code, found = shown(capfd, "-")
    assert (code, sorted(wheres(found["faults"]))) == (1, ["/ociVersion", "/root"])


@pytest.mark.parametrize("data", [b"{", b'{"a": 1, "a": 2}', b'"\xff"'])
def test_not_json(tmp_path: Path, data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """L01."""
    (tmp_path / "config.json").write_bytes(data)
    code, found = shown(capfd, str(tmp_path))
    assert (code, len(found["faults"])) == (1, 1)


def test_no_such_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(tmp_path / "nosuch")]) == 1
    assert "no such file or directory" in capfd.readouterr().err


def test_root_must_be_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """M01."""
    (tmp_path / "config.json").write_text(json.dumps(spec.default()))
    code, found = shown(capfd, str(tmp_path))
    assert (code, wheres(found["faults"])) == (1, ["/root/path"])


def test_unknown_and_deprecated(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """L23: warnings, not faults."""
    config = spec.default()
    config["process"]["enviroment"] = []
    config["mounts"][0]["optoins"] = []
    config["annotations"] = {"free": "name"}
    config["hooks"] = {"prestart": [{"path": "/bin/true"}]}
    code, found = shown(capfd, str(bundle(tmp_path, config)))
    assert code == 0
    warnings = {entry["where"]: entry for entry in found["warnings"]}
    assert warnings["/mounts/0/optoins"]["hint"] == "did you mean options?"
    assert warnings["/process/enviroment"]["message"] == "is not known, and ignored"
    assert warnings["/hooks/prestart"]["message"] == "is deprecated"
    assert not [where for where in warnings if where.startswith("/annotations")]


def test_advice(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """D01, L02, A01: what the spec says SHOULD NOT be."""
    config = spec.default()
    config["ociVersion"] = "1.99.0"
    config["annotations"] = {"org.opencontainers.image.stopSignal": "SIGINT", "org.opencontainers.mine": "x"}
    config["linux"]["devices"] = [{"path": f"/dev/{n}", "type": "c", "major": 1, "minor": 3} for n in "ab"]
    config["linux"]["devices"] += [{"path": f"/dev/{n}", "type": "p"} for n in "cd"]
    code, found = shown(capfd, str(bundle(tmp_path, config)))
    assert code == 0
    wanted = {"/ociVersion", "/annotations/org.opencontainers.mine", "/linux/devices/1"}
    assert wanted <= set(wheres(found["warnings"]))
    assert not {"/linux/devices/3", "/annotations/org.opencontainers.image.stopSignal"} & set(wheres(found["warnings"]))


@test_spec.needs_engines
def test_nothing_real_is_unknown() -> None:
    """What engines write is in the schema."""
    found = {fault.where for path in test_spec.CONFIGS for fault in schema.unknown(json.loads(path.read_bytes()))}
    assert found == set()


def test_every_pointer_has_a_section() -> None:
    for _, where, *_ in test_spec.INVALID:
        assert validate.section(str(where)).partition("#")[0] in ("config.md", "config-linux.md")
    assert validate.section("/linux/resources/memory/limit") == "config-linux.md#memory"
    assert validate.section("") == "config.md"


def lacking(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], **known: Any) -> dict[str, str]:
    monkeypatch.setattr(facts, "read", lambda: Facts(**known))
    return {fault.where: fault.message for fault in lacks.check(config)}


def test_host_lacks_controllers(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"linux": {"resources": {"memory": {"limit": 1}, "pids": {"limit": 1}, "network": {"classID": 1}}}}
    found = lacking(monkeypatch, config, cgroup_mode="unified", cgroup_controllers=("pids",))
    assert set(found) == {"/linux/resources/memory", "/linux/resources/network"}
    config = {"linux": {"resources": {"pids": {"limit": 1}, "unified": {"memory.high": "1"}}}}
    found = lacking(monkeypatch, config, cgroup_mode="legacy", cgroup_mounts={"pids": "/x"})
    assert set(found) == {"/linux/resources/unified"}


def test_host_lacks_security_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"process": {"apparmorProfile": "x", "selinuxLabel": "y"}, "linux": {"mountLabel": "z"}}
    found = lacking(monkeypatch, config, apparmor=True)
    assert set(found) == {"/process/selinuxLabel", "/linux/mountLabel"}


def test_host_lacks_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "process": {"capabilities": {"bounding": ["CAP_OF_TOMORROW"]}},
        "mounts": [
            {"destination": "/a", "type": "nosuchfs", "source": "x"},
            {"destination": "/b", "source": "/nosuch", "options": ["bind"]},
            {"destination": "/c", "source": "/nosuch", "options": ["bind", "nofail"]},
        ],
        "linux": {
            "namespaces": [{"type": "network", "path": "/nosuch"}],
            "netDevices": {"nosuch0": {}},
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nosuch"},
        },
    }
    assert set(lacking(monkeypatch, config)) == {
        "/process/capabilities/bounding/0",
        "/mounts/0/type",
        "/mounts/1/source",
        "/linux/namespaces/0/path",
        "/linux/netDevices/nosuch0",
        "/linux/seccomp/listenerPath",
    }


def test_without_jsonschema(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Any) -> None:
        raise errors.Error("the package jsonschema is missing")

    monkeypatch.setattr(schema, "explain", missing)
    faults, warnings = validate.explain({}, 2)
    assert [fault.where for fault in faults] == ["/ociVersion", "/root"]
    assert "jsonschema is missing" in warnings[0].message


def test_what_only_the_plan_finds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """L29: every one of them, at its own place, though the plan stops at the first."""
    config = spec.default()
    at = len(config["mounts"])
    config["mounts"] += [
        {"destination": "/proc/sys", "type": "tmpfs"},
        {"destination": "/fine", "type": "tmpfs", "options": ["X-mount.owner=walnut"]},
        {"destination": "/a", "type": "tmpfs", "options": ["X-mount.mode=9"]},
        {"destination": "/b"},
    ]
    config["annotations"] = {"run.oci.seccomp_bpf_data": "%"}
    code, found = shown(capfd, str(bundle(tmp_path, config)))
    assert code == 1
    assert wheres(found["faults"]) == [
        f"/mounts/{at}/destination",
        f"/mounts/{at + 2}/options/0",
        f"/mounts/{at + 3}",
        "/annotations/run.oci.seccomp_bpf_data",
    ]


def test_what_cannot_be_planned_here_is_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C22: on the other version of cgroups it would be applied."""
    unified = Facts(cgroup_mode="unified", cgroup_unified="/sys/fs/cgroup", cgroup_controllers=("memory", "cpu"))
    monkeypatch.setattr(facts, "read", lambda *_: unified)
    config = spec.default()
    config["linux"]["resources"] = {"memory": {"swappiness": 5}, "cpu": {"realtimeRuntime": 1000}}
    code, found = shown(capfd, str(bundle(tmp_path, config)))
    assert (code, found["faults"]) == (0, [])
    warned = {entry["where"]: entry["message"] for entry in found["warnings"]}
    for where in ("/linux/resources/memory/swappiness", "/linux/resources/cpu/realtimeRuntime"):
        assert "create will refuse it here" in warned[where]
