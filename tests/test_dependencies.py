"""Dependencies: objects by name and by class."""

from __future__ import annotations

from typing import Any

import pytest

from resonate.dependencies import Dependencies


class Database:
    pass


class Replica(Database):
    pass


def test_an_object_is_found_by_its_name_and_replaced_by_a_later_one() -> None:
    dependencies = Dependencies()
    dependencies.add("db", 1)
    dependencies.add("db", 2)

    assert dependencies.get("db") == 2


def test_a_name_that_was_never_set_gives_the_default() -> None:
    assert Dependencies().get("db") is None
    assert Dependencies().get("db", 7) == 7
    assert Dependencies().get(Database, 7) == 7


def test_an_object_is_found_by_its_class_and_by_a_base_of_it() -> None:
    dependencies = Dependencies()
    replica, database = Replica(), Database()
    dependencies.add_typed(replica)

    assert dependencies.get(Database) is replica
    dependencies.add_typed(database)
    assert dependencies.get(Database) is database
    assert dependencies.get(Replica) is replica
    assert dependencies.get(int) is None


@pytest.mark.parametrize("name", [1, None, b"db"])
def test_a_name_of_another_type_is_refused(name: Any) -> None:
    with pytest.raises(TypeError, match="the name of a dependency must be"):
        Dependencies().add(name, 1)
    with pytest.raises(TypeError, match="the name of a dependency must be"):
        Dependencies().get(name)


def test_the_view_shows_later_changes_and_allows_none() -> None:
    dependencies = Dependencies()
    view = dependencies.view()
    dependencies.add("db", 1)

    assert view["db"] == 1
    with pytest.raises(TypeError):
        view["db"] = 2  # type: ignore[index]
    with pytest.raises(KeyError):
        view["other"]
