"""What commands print in columns, on terminals and in pipes, and how watching ends."""

from __future__ import annotations

import sys

import pytest
import typer

from resonate.cli import output

HEADS = ("ID", "FUNCTION", "STATE", "BEGUN", "TOOK", "GROUP")
CUT = ("FUNCTION", "GROUP")


def row(id: str, function: str = "checkout_order") -> tuple[str, ...]:
    return id, function, output.state("succeeded"), "2026-11-23 14:00:00", "1h 20m", "default"


def test_one_long_id_widens_no_other_row(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 1_900

    output.table(HEADS, [row("order-1"), row(long), row("order-2")], "none", CUT)

    heads, first, over, last = capsys.readouterr().out.splitlines()
    assert heads.startswith("ID       FUNCTION")
    assert first.startswith("order-1  checkout_order")
    assert over.startswith(f"{long}  checkout_order  ")
    assert last.startswith("order-2  checkout_order")


def test_where_all_ids_are_long_each_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("ID", "STATE"), [("x" * 100, "queued")], "none")

    assert capsys.readouterr().out.splitlines() == ["ID  STATE", f"{'x' * 100}  queued"]


def test_a_narrow_terminal_leaves_out_the_last_columns_and_cuts_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")

    output.table(HEADS, [row("order-1234-567890")], "none", CUT)

    assert capsys.readouterr().out.splitlines() == [
        "ID                 FUNCTION   STATE      BEGUN",
        f"order-1234-567890  checkout…  {output.state('succeeded')}  2026-11-23 14:00:00",
    ]


def test_ctrl_c_while_watching_ends_with_the_exit_code_of_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("resonate.cli.output.time.sleep", interrupted)

    with pytest.raises(typer.Exit) as ended:
        output.watch(lambda: True, on=True)

    assert ended.value.exit_code == 130
