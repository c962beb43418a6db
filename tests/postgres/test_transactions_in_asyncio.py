"""`begin_run_in` inside an event loop, which it never blocks."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from resonate import Context, Resonate
from resonate.errors import InsideEventLoop
from tests import databases
from tests.postgres.cluster import binaries

pytestmark = pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")


def ship(ctx: Context, id: str) -> str:
    return f"shipped {id}"


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


@pytest.fixture
def url() -> str:
    return databases.fresh_url()


async def waits(url: str) -> None:
    """Return when a session waits for another one's transaction."""
    async with await psycopg.AsyncConnection.connect(databases.bare(url), autocommit=True) as session:
        while await (await session.execute("SELECT 1 FROM pg_locks WHERE NOT granted")).fetchone() is None:
            await asyncio.sleep(0.01)


@in_a_loop
async def test_the_loop_goes_on_while_one_transaction_waits_for_another(url: str) -> None:
    first, second = (psycopg.connect(databases.bare(url)) for _ in range(2))
    async with Resonate(url=url) as client:
        client.register(ship)
        handle = await client.aio.begin_run_in(first, "s", ship, "a")
        waiting = asyncio.create_task(client.aio.begin_run_in(second, "s", ship, "a"))
        await waits(url)

        first.commit()
        joined = await waiting
        second.commit()

        assert await handle == await joined == "shipped a"
    first.close()
    second.close()


@in_a_loop
async def test_what_is_cancelled_while_it_waits_leaves_the_connection_to_its_owner(url: str) -> None:
    first, second = (psycopg.connect(databases.bare(url)) for _ in range(2))
    async with Resonate(url=url) as client:
        client.register(ship)
        await client.aio.begin_run_in(first, "s", ship, "a")
        waiting = asyncio.create_task(client.aio.begin_run_in(second, "s", ship, "a"))
        await waits(url)

        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        second.rollback()
        assert second.execute("SELECT 1").fetchone() == (1,)
    first.close()
    second.close()


@in_a_loop
async def test_the_blocking_form_is_refused_on_the_clients_loop(url: str) -> None:
    async with Resonate(url=url) as client:
        client.register(ship)
        with (
            psycopg.connect(databases.bare(url)) as session,
            pytest.raises(InsideEventLoop, match=r"r\.aio\.begin_run_in"),
        ):
            client.begin_run_in(session, "s", ship, "a")


@in_a_loop
async def test_what_only_a_coroutine_can_write_through_is_refused(url: str) -> None:
    engine = create_async_engine(databases.bare(url).replace("postgresql:", "postgresql+psycopg:"))
    async with (
        Resonate(url=url) as client,
        await psycopg.AsyncConnection.connect(databases.bare(url)) as connection,
        AsyncSession(engine) as session,
        engine.connect() as core,
    ):
        client.register(ship)
        begin: Any = client.aio.begin_run_in

        for one in (connection, session, core):
            with pytest.raises(TypeError, match=f"got {type(one).__name__}, which only a coroutine can"):
                await begin(one, "s", ship, "a")
    await engine.dispose()
