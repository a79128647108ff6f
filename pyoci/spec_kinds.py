"""Rules for the strings of config.json that have a form of their own."""

from __future__ import annotations

from pyoci import json, spec_words
from pyoci.spec_rules import array, bad, no_newline, text, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.spec_rules import Found

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
ALNUM = LETTERS + DIGITS
CGROUP_PATH = ALNUM + "_-.:@/\\+=,~%#"  # ":" for systemd's SLICE:PREFIX:NAME, "\\" for its escapes
SYSCTL_NAME = ALNUM + "_-./:@+=,~%#"  # interface names are part of some


def of(characters: str, value: str) -> bool:
    """Whether value is made of these characters only."""
    return not value.strip(characters)


def _number(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and (digits == "0" or digits[0] != "0")


def _identifiers(value: str) -> bool:
    return all(part and of(ALNUM + "-", part) for part in value.split("."))


def version(value: Any) -> Found:
    """Row L02: SemVer 2.0.0, of a major version that we implement."""
    if type(value) is not str:
        return spec_words.wrong_kind("a string", value)
    rest, plus, build = value.partition("+")
    core, minus, pre = rest.partition("-")
    numbers = core.split(".")
    valid = len(numbers) == 3 and all(_number(n) and len(n) <= json.LONGEST for n in numbers)
    valid = valid and (not plus or _identifiers(build))
    if valid and minus:
        valid = _identifiers(pre) and all(_number(part) for part in pre.split(".") if part.isdigit())
    if not valid:
        return bad(f"must be a version like 1.3.0 (SemVer), not {spec_words.show(value)}")
    if numbers[0] != "1":
        return bad(f"is {spec_words.show(value)}, and only versions 1.x of the runtime-spec are supported")
    return None


def _assignment(value: Any) -> Found:
    """NAME=value; the value may hold anything but NUL."""
    found = text(value)
    if found:
        return found
    name, equals, _ = value.partition("=")
    if not equals:
        return bad(f"must be NAME=value, not {spec_words.show(value)}", "write NAME= for an empty value")
    if not name:
        return bad(f"must be NAME=value, not {spec_words.show(value)}")
    return word(name)


_assignments = array(_assignment)


def environment(value: Any) -> Found:
    """Row P04: an array of NAME=value."""
    if type(value) is list:
        for item in value:
            if type(item) is not str or item.find("=") < 1 or not item[: item.index("=")].isprintable():
                return _assignments(value)
        if "\0" not in "".join(value):
            return None
    return _assignments(value)


def key(value: str) -> Found:
    """Row A01: the name of an annotation."""
    return text(value) if value else bad("is an empty name")


def host_name(value: Any) -> Found:
    """sethostname(2) and setdomainname(2) take 64 bytes."""
    found = word(value)
    if not found and len(value.encode("utf-8", "surrogatepass")) > 64:
        return bad("must not be longer than 64 bytes")
    return found


def cgroup_path(value: Any) -> Found:
    """Row C01: linux.cgroupsPath, either driver's form."""
    if type(value) is not str:
        return spec_words.wrong_kind("a string", value)
    if not of(CGROUP_PATH, value):
        return bad(f"must be made of letters, digits and _-.:@/\\+=,~%#; not {spec_words.show(value)}")
    if ".." in value.split("/"):
        return bad(f"must not contain .. as in {spec_words.show(value)}")
    return None


def sysctl_name(value: str) -> Found:
    """sysctl(8): words separated by dots or slashes."""
    if not of(SYSCTL_NAME, value) or not all(value.replace("/", ".").split(".")):
        return bad("is not the name of a sysctl", "names look like net.ipv4.ip_forward")
    return None


def unified_name(value: str) -> Found:
    """Row C21: a file of the cgroup, CONTROLLER.PARAMETER."""
    controller, _, parameter = value.partition(".")
    if not controller or not parameter or not of(ALNUM + "_.-", value):
        return bad("is not the name of a cgroup file", "names look like memory.high")
    return None


def device_name(value: Any) -> Found:
    """What dev_valid_name() of the kernel takes as the name of a network interface."""
    if type(value) is not str:
        return spec_words.wrong_kind("a string", value)
    size = len(value.encode("utf-8", "surrogatepass"))
    if not 0 < size < 16 or value in (".", "..") or any(c in "/:\x7f" or c <= " " for c in value):
        return bad(
            f"must be the name of a network interface, not {spec_words.show(value)}", "1 to 15 bytes, no space, / or :"
        )
    return None


def device_access(value: Any) -> Found:
    if type(value) is not str:
        return spec_words.wrong_kind("a string", value)
    if not value or not of("rwm", value) or len(set(value)) < len(value):
        return bad(f"must be one or more of r, w, m; not {spec_words.show(value)}")
    return None


def page_size(value: Any) -> Found:
    """Row C17: the name of a huge page size."""
    if type(value) is not str:
        return spec_words.wrong_kind("a string", value)
    if value[-2:] not in ("KB", "MB", "GB") or not _number(value[:-2]) or value[0] == "0":
        return bad(f"must be a page size like 2MB, not {spec_words.show(value)}")
    return None


def id_list(value: Any) -> Found:
    """Numbers and ranges: "0-3,7" (CPUs, NUMA nodes); rows P16, Z04."""
    if type(value) is not str:
        return spec_words.wrong_kind("a string", value)
    for item in value.replace(" ", "").split(",") if value else ():
        first, dash, last = item.partition("-")
        if not (_digits(first) and (_digits(last) if dash else True)) or (dash and int(first) > int(last)):
            return bad(f"must be a list like 0-3,7; not {spec_words.show(value)}")
    return None


def _digits(value: str) -> bool:
    return 0 < len(value) < 8 and value.isascii() and value.isdigit()


def cpuset(value: Any) -> Found:
    """cpuset.cpus and cpuset.mems: the kernel parses more forms than we know."""
    if type(value) is not str:
        return spec_words.wrong_kind("a string", value)
    if not of(ALNUM + " ,-:/", value):
        return bad(f"must be a list like 0-3,7; not {spec_words.show(value)}")
    return None


def clos_id(value: Any) -> Found:
    """Row Z05: a directory of resctrl, or "/" for its root."""
    found = no_newline(value)
    if not found and (value in ("", ".", "..") or ("/" in value and value != "/")):
        return bad(f"must be the name of a directory, or /; not {spec_words.show(value)}")
    return found


def weight(value: Any) -> Found:
    """Rows C14, C15: a blkio weight; 0 is what engines send for unset."""
    if type(value) is int and (value == 0 or 10 <= value <= 1000):
        return None
    if type(value) is int:
        return bad(f"must be in 10..1000, not {spec_words.show(value)}", "0 leaves it as it is")
    return spec_words.wrong_kind("an integer", value)
