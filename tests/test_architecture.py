"""Who may import whom, read from the source: imports inside functions and for types count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import resonate

SOURCE = Path(resonate.__file__).parent

# What a part may import besides itself. A part is a module or package directly below `resonate`.
VALUES = {"errors", "storable", "signatures", "encoders", "values"}
CLIENT = {"handle", "function", "context", "logger", "options", "registry", "dependencies", "retry_policies"}
MACHINERY = {"execution", "worker", "network", "service", "storage", "protocol", "stores", "clock", "daemons"}
EVERYTHING = (
    VALUES
    | CLIENT
    | MACHINERY
    | {"models", "settings", "client", "roots", "resonate", "message_sources", "signals", "inspection", "telemetry"}
)

TABLE: dict[str, set[str]] = {
    "errors": set(),
    "clock": set(),
    "daemons": set(),
    "signatures": {"errors"},
    "retry_policies": {"errors"},
    "encoders": {"errors"},
    "dependencies": {"errors"},
    "logger": set(),
    "signals": {"errors"},
    "urls": set(),
    "storable": set(),
    "handle": {"errors", "inspection"},
    "protocol": {"errors"},
    "values": {"signatures", "encoders", "errors"},
    "registry": {"signatures", "storable", "errors"},
    "options": {"retry_policies", "storable", "errors"},
    "storage": {"protocol", "urls", "daemons", "errors"},
    "service": {"storage", "protocol", "clock", "daemons", "errors"},
    "execution": {"protocol", "options", "retry_policies"} | VALUES,
    "inspection": {"protocol", "execution", "values", "storable", "errors"},
    "function": {"handle", "options", "errors"},
    "context": {"execution", "logger", "registry", "dependencies", "options", "retry_policies"} | VALUES,
    "network": {"models", "protocol", "urls", "clock", "daemons", "errors"},
    "models": {"encoders", "handle", "retry_policies", "errors"},
    "stores": {"models", "network", "service", "storage", "protocol", "clock"} | VALUES,
    "worker": {
        "network",
        "execution",
        "protocol",
        "registry",
        "options",
        "retry_policies",
        "handle",
        "clock",
        "daemons",
    }
    | VALUES,
    "settings": {"dependencies", "registry", "models", "retry_policies", "storable", "storage", "urls", "errors"},
    "roots": CLIENT | VALUES | {"execution", "protocol"},
    "signing": set(),
    "conformance": set(),
    "ui": {"resonate", "inspection", "protocol", "values", "encoders", "urls", "errors"},
    "server": {"service", "storage", "protocol", "signing", "ui", "urls", "clock", "errors"},
    "client": EVERYTHING - {"resonate", "client", "message_sources", "telemetry"},
    "resonate": EVERYTHING - {"message_sources", "telemetry"},
    "telemetry": {"worker", "execution", "errors"},
    "cli": {
        "resonate",
        "conformance",
        "telemetry",
        "urls",
        "ui",
        "inspection",
        "server",
        "storage",
        "protocol",
        "values",
        "retry_policies",
        "encoders",
        "errors",
    },
    "testing": EVERYTHING | {"server"},
}

# Edges that one file of a part has and the rest of the part must not have.
EXCEPTIONS: dict[str, set[str]] = {
    "network/embedded.py": {"service"},
    "network/legacy.py": {"encoders", "values"},
}

# Re-exports for programs written for the official SDK: no logic, so they may name anything public.
ALIASES = {"__init__", "coroutine", "error", "message_sources", "retry", "types"}

PURE = ("protocol", "execution")
IMPURE = {
    "time",
    "random",
    "threading",
    "socket",
    "asyncio",
    "logging",
    "os",
    "subprocess",
    "multiprocessing",
}


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def part_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Every module that `file` imports anywhere, as an absolute dotted name, with its line."""
    package = ("resonate", *file.relative_to(SOURCE).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            if module == "resonate":  # `from resonate import values`: each name may be a module
                yield from ((node.lineno, f"resonate.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def edges(file: Path) -> Iterator[tuple[int, str]]:
    """The parts of ours that `file` imports, its own left out."""
    for line, module in imported(file):
        names = module.split(".")
        if names[0] == "resonate" and (len(names) == 1 or names[1] != part_of(file)):
            yield line, names[1] if len(names) > 1 else "__init__"


def violations(file: Path) -> list[str]:
    name = str(file.relative_to(SOURCE))
    allowed = TABLE.get(part_of(file), set()) | EXCEPTIONS.get(name, set())
    return [f"{name}:{line} imports {part}" for line, part in edges(file) if part not in allowed]


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_module_imports_only_what_its_part_may(file: Path) -> None:
    if part_of(file) in ALIASES:
        return

    assert violations(file) == []


def test_every_part_has_a_row_and_every_row_a_part() -> None:
    parts = {part_of(file) for file in files()} - ALIASES

    assert parts == set(TABLE)
    assert {name for name in EXCEPTIONS if not (SOURCE / name).exists()} == set()


def test_the_table_has_no_cycle() -> None:
    left = {part: set(allowed) for part, allowed in TABLE.items()}
    for name, allowed in EXCEPTIONS.items():
        left[name.partition("/")[0]] |= allowed

    while left:
        bottom = {part for part, allowed in left.items() if not allowed & left.keys() - {part}}
        assert bottom, f"these parts import each other in a circle: {sorted(left)}"
        left = {part: allowed for part, allowed in left.items() if part not in bottom}


@pytest.mark.parametrize("part", PURE)
def test_a_pure_part_knows_no_clock_thread_file_or_chance(part: str) -> None:
    impure = [
        f"{file.relative_to(SOURCE)}:{line} imports {module}"
        for file in sorted((SOURCE / part).rglob("*.py"))
        for line, module in imported(file)
        if module.partition(".")[0] in IMPURE
    ]

    assert impure == []


def test_an_alias_module_defines_nothing_of_its_own() -> None:
    for name in sorted(ALIASES):
        file = SOURCE / f"{name}.py"
        if not file.exists():
            continue
        defined = [
            node.name
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ]
        assert defined == [], f"{name}.py is a file of re-exports"


def test_the_reader_sees_imports_in_functions_for_types_and_relative_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    file = tmp_path / "protocol" / "machine.py"
    file.parent.mkdir()
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "import resonate.worker.lease\n"
        "from .. import storage\n"
        "from . import records\n"
        "if TYPE_CHECKING:\n    from resonate.service import Service\n"
        "def late():\n    from resonate import clock\n    import time\n"
    )

    assert violations(file) == [
        "protocol/machine.py:2 imports worker",
        "protocol/machine.py:3 imports storage",
        "protocol/machine.py:6 imports service",
        "protocol/machine.py:8 imports clock",
    ]
    assert (9, "time") in set(imported(file))
