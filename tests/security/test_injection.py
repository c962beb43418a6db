"""Ids, tags and names that mean something elsewhere: to SQL, HTTP, file systems, HTML. Here they are text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

import resonate.ui
from resonate import Resonate
from resonate.server.base import Settings
from resonate.server.running import Server
from resonate.storage.base import Storage
from resonate.storage.postgres import location
from tests.databases import emptied as empty_database
from tests.server.serving import HOMES, Client, Listener, promise, serving

SQL = [
    "'; DROP TABLE promises; --",
    "' OR '1'='1",
    '"; DELETE FROM promises; --',
    "a%' --",
    "a_b%",
    "\\'; SELECT 1; --",
    "$1",
    ":id",
    "?",
    "{0}",
    "%s",
    "%(id)s",
]
UNUSUAL = [
    "a\r\nx-evil: 1",
    "a\nset-cookie: x=1",
    "../../../../etc/passwd",
    "..",
    ".",
    "/",
    "a/b",
    "a%2fb",
    "a%00b",
    "?x=1#y",
    "<script>alert(1)</script>",
    "\u202egpj",
    "e\u0301",
    "\U0001f600",
    "\x1b[2J",
    " ",
    "İ",
    "con",
    "-rf",
]


@pytest.fixture(params=[*HOMES, "postgres"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    storage: Storage = empty_database() if request.param == "postgres" else HOMES[request.param]()
    with serving(storage, Settings(ui="full")) as running:
        yield running


def test_sql_in_ids_and_tags_is_text(server: Server) -> None:
    with closing(Client(server)) as client:
        for text in SQL:
            tags = {"resonate:scope": "global", text: text}
            assert client.ask("promise.create", promise(text, **tags))[0] == 200
        for text in SQL:
            status, found = client.ask("promise.get", {"id": text})
            assert (status, found["promise"]["id"], found["promise"]["tags"][text]) == (200, text, text)
            status, found = client.ask("promise.search", {"tags": {text: text}, "limit": 100})
            assert [each["id"] for each in found["promises"]] == [text]
            status, found = client.ask("promise.search", {"limit": 1, "cursor": text})
            assert status == 200
            assert all(each["id"] > text for each in found["promises"])
        assert len(client.ask("promise.search", {"limit": 1000})[1]["promises"]) == len(SQL)


def test_an_id_of_any_form_is_only_text(server: Server) -> None:
    with closing(Client(server)) as client:
        for id in UNUSUAL:
            assert client.ask("promise.create", promise(id, "poll://any@g"))[0] == 200
            status, body, headers = client.http("GET", f"/ui/api/call?id={quote(id, safe='')}")
            assert (status, json.loads(body)["id"]) == (200, id)
            assert {"x-evil", "set-cookie"}.isdisjoint(headers)
            status, _, headers = client.http("GET", f"/ui/api/export?id={quote(id, safe='')}")
            assert status == 200
            assert re.fullmatch(r'attachment; filename="[\w.-]+"', headers["content-disposition"])
    with closing(Listener(server, quote("a\r\nx: y", safe=""), quote("../b\0", safe=""))) as listener:
        assert listener.status in (200, 404)
    for id in ("a\0b", "\ud800", ""):
        with closing(Client(server)) as client:
            assert client.ask("promise.create", promise(id))[0] == 400


@pytest.mark.parametrize(
    "schema",
    ["a; DROP SCHEMA public", 'a"b', "a.b", "A", "pg_catalog", "1a", "", "a'", "a b", "ü", "a" * 41, "a\n"],
)
def test_a_schema_is_a_plain_name(schema: str) -> None:
    with pytest.raises(ValueError, match="schema"):
        location.parse(f"postgresql://127.0.0.1/db?schema={quote(schema)}")


@pytest.mark.parametrize("name", ["a\r\nx: y", "a/b", "a?b", "a#b", "a b", "a@b", "\0", ""])
def test_groups_and_pids_cannot_leave_the_path_of_a_stream(name: str) -> None:
    for given in ({"group": name}, {"pid": name} if name else {"group": name}):
        with pytest.raises(ValueError, match=r"group|pid"):
            Resonate(url="http://127.0.0.1:1", **given)


@pytest.mark.parametrize(
    "path", ["/ui/../app.js", "/ui/%2e%2e/app.py", "/ui/..%2f..%2fapplication.py", "/ui//etc/passwd", "/ui/%00"]
)
def test_the_page_has_its_own_files_and_no_others(path: str) -> None:
    with serving(settings=Settings(ui="full")) as server, closing(Client(server)) as client:
        assert client.http("GET", path)[0] == 404


def test_no_script_of_the_page_makes_elements_of_markup() -> None:
    static = Path(resonate.ui.__file__).parent / "static"
    bad = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|javascript:"
    )
    found = [(file.name, match[0]) for file in static.glob("*.js") for match in bad.finditer(file.read_text())]

    assert found == []
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=", (static / "index.html").read_text())
