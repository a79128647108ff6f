"""linux.intelRdt on a directory that stands in for resctrl, which few CPUs have: rows Z05 to Z09."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pyoci import errors, kernel
from pyoci.host import rdt
from pyoci.plan import rdt as plan_rdt
from pyoci.plan import text, verbs
from tests.unit.planning import config, make, refused

L3, MB = "L3:0=f;1=f0", "MB:0=20;1=70"


class Resctrl:
    """A tree like the one that resctrl mounts: a new directory has its files, and rmdir takes them along.

    What is written to a file is appended, so that the order can be seen.
    """

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.fill(root)
        (root / "mon_groups").mkdir()
        (root / "info").mkdir()
        (root / "info/last_cmd_status").write_text("ok\n")
        patch.setattr(rdt, "root", str(root))
        patch.setattr(rdt, "make_directory", self.mkdir)
        patch.setattr(kernel, "rmdir", self.rmdir, raising=False)
        patch.setattr("pyoci.host.cgroupfs.write", self.write)

    def fill(self, group: Path) -> None:
        (group / "schemata").write_text("    L3:0=fffff;1=fffff\n    MB:0=100;1=100\n")
        (group / "tasks").write_text("")

    def mkdir(self, path: str) -> None:
        os.mkdir(path)
        self.fill(Path(path))
        if "mon_groups" not in path:
            (Path(path) / "mon_groups").mkdir()

    def rmdir(self, path: str, **_: Any) -> None:
        if not str(path).startswith(str(self.root)):
            os.rmdir(path)
        elif not os.path.isdir(path):
            raise FileNotFoundError(2, "no such file or directory")
        else:
            shutil.rmtree(path)

    def write(self, file: str, value: str) -> None:
        if "bad" in value:
            (self.root / "info/last_cmd_status").write_text("Non-hex character in the mask\n")
            raise OSError(22, "invalid argument")
        with open(file, "a" if os.path.exists(file) else "x", encoding="ascii") as stream:
            stream.write(value)

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def groups(self) -> set[str]:
        return {entry.name for entry in self.root.iterdir() if (entry / "tasks").exists()}


@pytest.fixture
def resctrl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resctrl:
    return Resctrl(tmp_path, monkeypatch)


def planned(**wanted: Any) -> plan_rdt.Rdt:
    return plan_rdt.make(wanted, "c1")


def apply(plan: plan_rdt.Rdt, pid: int = 77) -> dict[str, Any]:
    record = rdt.check(plan)
    rdt.create(plan, record)
    rdt.enter(record, pid)
    return record


# -- the plan -------------------------------------------------------------------------------


def test_z05_unset_is_untouched() -> None:
    assert make().rdt is None
    wanted = make(linux={"intelRdt": {}}).rdt
    assert wanted
    assert (wanted.group, wanted.named, wanted.schemas) == ("container", False, [])


def test_z06_order() -> None:
    plan = planned(schemata=["L3:0=3", "MB:0=30"], memBwSchema=MB, l3CacheSchema=L3)
    assert plan.schemas == [
        (L3, "/linux/intelRdt/l3CacheSchema"),
        (MB, "/linux/intelRdt/memBwSchema"),
        ("L3:0=3\nMB:0=30", "/linux/intelRdt/schemata"),
    ]


def test_z05_the_root_class_is_not_changed() -> None:
    assert planned(closID="/").group == ""
    refused(config(linux={"intelRdt": {"closID": "/", "l3CacheSchema": L3}}), "/linux/intelRdt/l3CacheSchema")


@pytest.mark.parametrize("schema", ["L3", "L3:", "L3:0", "0=f", "L3:0=f;1"])
def test_schema_that_is_none(schema: str) -> None:
    refused(config(linux={"intelRdt": {"l3CacheSchema": schema}}), "/linux/intelRdt/l3CacheSchema")


def test_it_is_in_the_printed_plan() -> None:
    made = make(linux={"intelRdt": {"closID": "gold", "memBwSchema": MB, "enableMonitoring": True}})
    shown = text.render(made)
    assert "use the RDT class gold, or make it" in shown
    assert "use the RDT class gold, which must be there" in text.render(make(linux={"intelRdt": {"closID": "gold"}}))
    assert "make the RDT class container, and remove it" in text.render(make(linux={"intelRdt": {"schemata": [L3]}}))
    assert MB in shown
    assert "monitor it as container" in shown
    assert text.as_dict(made)["host"]["intelRdt"] == {"class": "gold", "schemata": [MB]}


def test_z08_delete_is_not_for_the_launcher() -> None:
    record = {"pid": 1, "start": 2, "cgroup": {}, "process": True, "hooks": {}}
    document = {"ociVersion": "1", "id": "i", "pid": 0, "status": "stopped"}

    def has_delete(**more: Any) -> bool:
        steps = verbs.make(record | more, document, [])
        return any(op.name == "verb" and op.num("verb") == 4 for op in steps)

    assert has_delete()
    assert not has_delete(rdt={"groups": [], "remove": [], "new": False})


# -- the directories ------------------------------------------------------------------------


def test_z05_a_class_of_its_own(resctrl: Resctrl) -> None:
    """Made under the container's id, and removed with it (Z08)."""
    record = apply(planned(l3CacheSchema=L3, memBwSchema=MB))
    assert resctrl.read("c1/schemata").splitlines()[2:] == [L3, MB]
    assert resctrl.read("c1/tasks") == "77"
    rdt.destroy(record)
    assert resctrl.groups() == set()
    rdt.destroy(record)


def test_z05_the_root_class(resctrl: Resctrl) -> None:
    record = apply(planned(closID="/"))
    assert resctrl.read("tasks") == "77"
    rdt.destroy(record)
    assert resctrl.root.exists()


def test_z05_without_resctrl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rdt, "root", str(tmp_path / "none"))
    with pytest.raises(errors.SetupError, match="Intel RDT is not available") as caught:
        rdt.check(planned())
    assert caught.value.where == "/linux/intelRdt"


def test_z07_z08_a_named_class_is_made_and_stays(resctrl: Resctrl) -> None:
    rdt.destroy(apply(planned(closID="gold", memBwSchema=MB)))
    assert resctrl.groups() == {"gold"}


def test_z07_a_named_class_that_has_to_be_there(resctrl: Resctrl) -> None:
    with pytest.raises(errors.SetupError, match="there is no RDT class gold") as caught:
        rdt.check(planned(closID="gold"))
    assert caught.value.where == "/linux/intelRdt/closID"
    resctrl.mkdir(f"{resctrl.root}/gold")
    apply(planned(closID="gold"))
    assert resctrl.read("gold/tasks") == "77"


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("l3CacheSchema", "L3:0=fffff;1=fffff", True),
        ("l3CacheSchema", "L3:1=0fffff", True),
        ("memBwSchema", "MB: 0 = 100 ; 1=100", True),
        ("schemata", ["L3:0=fffff", "MB:1=100"], True),
        ("l3CacheSchema", "L3:0=f", False),
        ("memBwSchema", "MB:0=90", False),
        ("schemata", ["L2:0=f"], False),
        ("l3CacheSchema", "L3:2=fffff", False),
    ],
)
def test_z07_a_class_that_is_there_has_to_fit(resctrl: Resctrl, key: str, value: Any, fits: bool) -> None:
    """It is compared, and not written."""
    resctrl.mkdir(f"{resctrl.root}/gold")
    before = resctrl.read("gold/schemata")
    if fits:
        apply(planned(closID="gold", **{key: value}))
    else:
        with pytest.raises(errors.SetupError, match="the RDT class gold has") as caught:
            rdt.check(planned(closID="gold", **{key: value}))
        assert caught.value.where == f"/linux/intelRdt/{key}"
    assert resctrl.read("gold/schemata") == before


@pytest.mark.parametrize("named", [{}, {"closID": "gold"}, {"closID": "/"}])
def test_z09_monitoring(resctrl: Resctrl, named: dict[str, str]) -> None:
    """A group below the class, removed with the container."""
    if named.get("closID") == "gold":
        resctrl.mkdir(f"{resctrl.root}/gold")
    record = apply(planned(enableMonitoring=True, **named))
    group = {"gold": "gold/", "/": ""}.get(named.get("closID", ""), "c1/")
    assert resctrl.read(f"{group}mon_groups/c1/tasks") == "77"
    assert resctrl.read(f"{group}tasks") == "77"
    rdt.destroy(record)
    assert not (resctrl.root / f"{group}mon_groups/c1").exists()


def test_z09_no_monitor_left(resctrl: Resctrl, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str) -> None:
        if "mon_groups" in path:
            raise OSError(28, "no space left on device")
        resctrl.mkdir(path)

    monkeypatch.setattr(rdt, "make_directory", full)
    plan = planned(enableMonitoring=True)
    record = rdt.check(plan)
    with pytest.raises(errors.SetupError, match="no space left") as caught:
        rdt.create(plan, record)
    assert caught.value.where == "/linux/intelRdt/enableMonitoring"
    rdt.undo(record)
    assert resctrl.groups() == set()


def test_refused_schema_says_what_the_kernel_says(resctrl: Resctrl) -> None:
    plan = planned(closID="gold", l3CacheSchema="L3:0=bad")
    record = rdt.check(plan)
    with pytest.raises(errors.SetupError, match="Non-hex character in the mask") as caught:
        rdt.create(plan, record)
    assert caught.value.where == "/linux/intelRdt/l3CacheSchema"
    rdt.undo(record)
    assert resctrl.groups() == set()
