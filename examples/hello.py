"""Hello: the smallest durable function, one workflow with one step.

Run it with `python examples/hello.py`. The second call has the same id, so it is the same
execution: nothing runs again and the recorded result comes back.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from resonate import Context, Resonate

resonate = Resonate()


def greet(ctx: Context, name: str) -> str:
    print(f"greeting {name} ...")
    return f"Hello, {name}!"


@resonate.register
def hello(ctx: Context, name: str) -> Generator[Any, Any, str]:
    greeting: str = yield ctx.run(greet, name)
    return greeting


if __name__ == "__main__":
    print(resonate.run("hello-world", hello, "world"))
    print(resonate.run("hello-world", hello, "world"))
