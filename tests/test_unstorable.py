"""Text that cannot be stored is refused in every place where it could come in, before anything is written."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from resonate import Resonate
from resonate.errors import UsageError

pytestmark = pytest.mark.usefixtures("place")

LATER = int(time.time() * 1000) + 100_000

PLACES: dict[str, Callable[[Resonate, str], Any]] = {
    "the name of a function": lambda r, text: r.begin_rpc("p", text, 1),
    "the name in a schedule": lambda r, text: r.schedule("p", text, "* * * * *"),
    "a target": lambda r, text: r.options(target=text).begin_rpc("p", "f"),
    "a tag": lambda r, text: r.options(tags={"a": text}).begin_rpc("p", "f"),
    "an idempotency key": lambda r, text: r.options(idempotency_key=text).begin_rpc("p", "f"),
    "a tag of a promise": lambda r, text: r.promises.create("p", LATER, tags={"a": text}),
    "the name of a tag": lambda r, text: r.promises.create("p", LATER, tags={text: "a"}),
    "a header": lambda r, text: r.promises.create("p", LATER, headers={"a": text}),
    "the key of a promise": lambda r, text: r.promises.create("p", LATER, ikey=text),
    "a tag of a schedule": lambda r, text: r.schedules.create(
        "p", "* * * * *", "x{{.id}}", 1000, promise_tags={"a": text}
    ),
    "a function looked for": lambda r, text: r.list(function=text),
    "a group looked for": lambda r, text: r.list(group=text),
    "the beginning of an id": lambda r, text: r.list(prefix=text),
    "a tag looked for": lambda r, text: r.list(tags={"a": text}),
    "promises looked for": lambda r, text: r.promises.search(tags={"a": text}),
    "a group": lambda r, text: Resonate(group=text),
    "a pid": lambda r, text: Resonate(pid=text),
}


@pytest.mark.parametrize("text", ["a\ud800b", "a\0b"], ids=["surrogate", "nul"])
@pytest.mark.parametrize("ask", PLACES.values(), ids=PLACES)
def test_text_that_cannot_be_stored_is_refused(
    ask: Callable[[Resonate, str], Any], text: str, r: Resonate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)

    with pytest.raises(ValueError, match="holds a NUL or a lone surrogate, which cannot be stored") as refused:
        ask(r, text)

    assert type(refused.value) is ValueError or isinstance(refused.value, UsageError)
    assert caplog.text == ""
    assert r.list().items == ()
    assert r.promises.search()[0] == []


@pytest.mark.parametrize("name", ["data", "description"])
def test_data_may_hold_a_nul_but_no_lone_surrogate(name: str, r: Resonate) -> None:
    def create(id: str, text: str) -> Any:
        if name == "data":
            return r.promises.create(id, LATER, data=text)
        return r.schedules.create(id, "* * * * *", "x{{.id}}", 1000, description=text)

    create("kept", "a\0b")

    with pytest.raises(ValueError, match=f"{name} .* holds a lone surrogate"):
        create("refused", "a\ud800b")


@pytest.mark.parametrize("text", ["a\ud800b", "a\0b"], ids=["surrogate", "nul"])
def test_a_function_that_calls_such_a_name_is_told_so_at_once(text: str, r: Resonate) -> None:
    def program(ctx: Any) -> Any:
        yield ctx.rpc(text, 1)

    r.register(program)

    with pytest.raises(ValueError, match=r"func .* holds a NUL or a lone surrogate"):
        r.run("p", program)
