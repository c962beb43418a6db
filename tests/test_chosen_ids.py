"""Ids that a program chooses for its calls, with `.options(id=...)`: the same in every home."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.errors import NonDeterminismError, UsageError
from tests import databases
from tests.homes import until
from tests.server.serving import serving

HOMES = ("memory", "file", "postgres", "server")
Gen = Generator[Any, Any, Any]


class Clients:
    """Makes clients of one home; that in memory ends with its client."""

    def __init__(self, url: str | None, stack: ExitStack) -> None:
        self.url = url
        self._stack = stack

    def __call__(self, *functions: Any) -> Resonate:
        client = Resonate(url=self.url)
        for function in functions:
            client.register(function)
        self._stack.callback(client.stop)
        return client


@pytest.fixture(params=[pytest.param(home, marks=pytest.mark.slow if home == "postgres" else ()) for home in HOMES])
def clients(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Clients]:
    with ExitStack() as stack:
        urls: dict[str, Callable[[], str | None]] = {
            "memory": lambda: None,
            "file": lambda: f"sqlite:///{tmp_path}/ids.db?synchronous=off",
            "postgres": databases.fresh_url,
            "server": lambda: stack.enter_context(serving()).url,
        }
        yield Clients(urls[request.param](), stack)


def step(ctx: Context, n: int = 1) -> int:
    return n


def test_every_kind_of_call_takes_an_id_that_is_free_and_is_found_again_by_a_replay(clients: Clients) -> None:
    ran: list[int] = []

    def counted(ctx: Context, n: int) -> int:
        ran.append(n)
        return n

    def two(ctx: Context, n: int) -> Gen:
        return (yield ctx.run(counted, n)) + (yield ctx.run(counted, n + 1))

    def program(ctx: Context) -> Gen:
        found = [(yield ctx.run(counted, 1).options(id="free-step"))]
        found.append((yield ctx.run(two, 10).options(id="free-generator")))
        found.append((yield ctx.rpc(step, 2).options(id="free-rpc")))
        yield ctx.sleep(0.01).options(id="free-sleep")
        yield ctx.detached(step, 3).options(id="free-detached")
        approval = yield ctx.promise(id="free-approval")
        found.append((yield approval))
        return found

    first = clients(program, step, two, counted)
    handle = first.begin_run("p", program)
    until(lambda: first.get("p").why() != [] and "free-approval" in str(first.get("p").why()))
    if clients.url is not None:
        first.stop()
        first = clients(program, step, two, counted)
    first.promises.resolve("free-approval", data='"yes"')

    assert (handle if clients.url is None else first.get("p")).result(30) == [1, 21, 2, "yes"]
    assert ran == [1, 10, 11]
    assert first.get("free-rpc").result(30) == 2
    assert first.get("free-detached").result(30) == 3


@pytest.mark.parametrize("kind", ["run", "rpc", "promise", "sleep"])
def test_an_id_of_the_caller_itself_is_refused(clients: Clients, kind: str) -> None:
    def program(ctx: Context) -> Gen:
        call: Any = {
            "run": lambda: ctx.run(step),
            "rpc": lambda: ctx.rpc(step),
            "promise": lambda: ctx.promise(),
            "sleep": lambda: ctx.sleep(1),
        }[kind]()
        yield call.options(id=ctx.id)

    client = clients(program, step)

    with pytest.raises(UsageError, match="'p' is that of a function which waits for this very call"):
        client.run("p", program)


def test_an_id_of_a_local_caller_is_refused_though_the_call_is_the_same(clients: Clients) -> None:
    def again(ctx: Context) -> Gen:
        return (yield ctx.run(again).options(id="again"))

    client = clients(again)

    with pytest.raises(UsageError, match="'again' is that of a function which waits"):
        client.run("p", again)


def test_an_id_under_which_another_kind_of_call_is_recorded_stops_the_execution(clients: Clients) -> None:
    def one(ctx: Context) -> Gen:
        return (yield ctx.run(step).options(id="shared"))

    def other(ctx: Context) -> Gen:
        return (yield ctx.rpc(step).options(id="shared"))

    client = clients(one, other, step)
    assert client.run("a", one) == 1

    with pytest.raises(NonDeterminismError, match="recorded: plain step"):
        client.begin_run("b", other).result(30)


def test_a_partial_of_a_registered_function_is_refused_like_that_of_any_other() -> None:
    def plain(ctx: Context, x: int = 1, *, y: int = 2) -> tuple[int, int]:
        return x, y

    def program(ctx: Context) -> Gen:
        return (yield ctx.run(functools.partial(plain, y=4), 3))

    with Resonate() as client:
        client.register(plain)
        client.register(program)

        with pytest.raises(ValueError, match="got partial: wrap it in `def`"):
            client.run("a", functools.partial(plain, y=4), 3)
        with pytest.raises(ValueError, match="got partial: wrap it in `def`"):
            client.run("b", program)
