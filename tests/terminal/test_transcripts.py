"""What each command prints, on each home; and what goes wrong says what to do.

`python -m pytest tests/terminal --rewrite` writes the transcripts anew: look at each changed line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.retry_policies import Constant
from resonate.server.auth import Authenticator, BearerToken, Identity
from resonate.server.base import Settings
from resonate.urls import shown
from tests import databases
from tests.homes import until
from tests.server.serving import serving
from tests.terminal import playing

HOMES = (
    pytest.param("memory", marks=pytest.mark.slow),  # that which asks for a token has the same behind it
    "file",
    pytest.param("postgres", marks=pytest.mark.slow),
    "token",
)
"""A server in memory as `resonate dev` is one, a file, a database, and a server that asks for a token."""

TOKEN = "right-token"


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param == "file":
            url = f"sqlite:///{tmp_path}/app.db?synchronous=off"
        elif request.param == "postgres":
            url = databases.fresh_url()
        elif request.param == "token":
            auth = Authenticator(tokens=[BearerToken(TOKEN, Identity("all", role="admin"))])
            url = stack.enter_context(serving(settings=Settings(auth=auth))).url
            monkeypatch.setenv("RESONATE_TOKEN", TOKEN)
        else:
            url = stack.enter_context(serving()).url
        monkeypatch.setenv("RESONATE_URL", url)
        monkeypatch.setenv("TZ", "UTC")
        monkeypatch.chdir(tmp_path)
        yield url


@pytest.fixture
def client(home: str) -> Iterator[Resonate]:
    client = Resonate(url=home, pid="worker-1", log_level="CRITICAL")
    for function in (charge, order, fails, stubborn, checkout):
        client.register(function)
    client.start()
    yield client
    client.stop()


def charge(ctx: Context, amount: int) -> dict[str, int]:
    return {"amount": amount}


def order(ctx: Context, amount: int) -> Any:
    charged = yield ctx.run(charge, amount)
    approval = yield ctx.promise()
    return [charged, (yield approval)]


def fails(ctx: Context, what: str) -> None:
    raise LookupError(f"no {what}")


def stubborn(ctx: Context) -> Any:
    return (yield ctx.run(fails, "luck").options(retry_policy=Constant(delay=3600, max_retries=1)))


def checkout(ctx: Context) -> Any:
    first = yield ctx.begin_rpc("order", 1)
    yield ctx.begin_rpc("unknown").options(target="nobody")
    yield ctx.sleep(3600)
    return (yield first)


def reached(client: Resonate, id: str, state: str) -> bool:
    """Whether an execution is in a state; printed, so that a failing test shows how far it came."""
    tree = client.get(id).tree()
    print(tree.state, [(call.id, call.state) for call in tree.calls], tree.error)
    return tree.state == state


@pytest.mark.parametrize("name", playing.names())
def test_what_commands_print(name: str, home: str, client: Resonate, request: pytest.FixtureRequest) -> None:
    def wait(id: str, state: str) -> None:
        if state == "open":  # it waits, and so does what it has begun
            until(lambda: [wait.kind for wait in client.get(id).why()] == ["promise", "worker", "sleep"])
            return
        until(lambda: reached(client, id, state))

    told = playing.played(name, wait, dict.fromkeys((shown(home), home, home.partition("?")[0]), "HOME"))

    if request.config.getoption("--rewrite"):
        playing.path(name).write_text(told)
    assert told == playing.path(name).read_text()
