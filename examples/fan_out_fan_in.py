"""Fan-out, fan-in: count the words of many documents at the same time, then add them up.

`ctx.begin_run` gives a promise at once; the promises are yielded later for their values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

from resonate import Context, Resonate

resonate = Resonate()

DOCUMENTS = {
    "intro.txt": "durable functions survive crashes",
    "promises.txt": "durable promises survive durable functions",
    "summary.txt": "functions promises crashes",
}


def count_words(ctx: Context, name: str) -> dict[str, int]:
    return dict(Counter(DOCUMENTS[name].split()))


def add_up(ctx: Context, counts: list[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)


@resonate.register
def word_count(ctx: Context, names: list[str]) -> Generator[Any, Any, dict[str, int]]:
    promises = []
    for name in names:
        promises.append((yield ctx.begin_run(count_words, name)))

    counts = []
    for promise in promises:
        counts.append((yield promise))

    total: dict[str, int] = yield ctx.run(add_up, counts)
    return total


if __name__ == "__main__":
    words = resonate.begin_run("word-count-1", word_count, sorted(DOCUMENTS)).result()
    for word, times in sorted(words.items(), key=lambda item: (-item[1], item[0])):
        print(f"{times} x {word}")
