"""The durable programs for DBOS: `WORKLOAD [--url URL]`, by default on a SQLite file.

DBOS's own way of each: a step is `@DBOS.step`, a fan-out starts child workflows, a call of another
process goes through a queue that the other process works off.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

if not any(argument.startswith("postgresql") for argument in sys.argv):
    import pysqlite3  # DBOS needs a newer SQLite than many systems have

    sys.modules["sqlite3"] = pysqlite3

from dbos import DBOS, SetWorkflowID

from measure import database, latencies, main, now

STEPS = 1_000
RUN = uuid.uuid4().hex[:8]  # a PostgreSQL database outlives this program
QUEUE = "other"


@DBOS.step()
def step(n: int) -> int:
    return n + 1


@DBOS.workflow()
def one(n: int) -> int:
    result: int = step(n)
    return result


@DBOS.workflow()
def chain(n: int) -> int:
    return sum(step(i) for i in range(n))


@DBOS.workflow()
def fan(n: int) -> int:
    begun = [DBOS.start_workflow(one, i) for i in range(n)]
    return sum(handle.get_result() for handle in begun)


@DBOS.workflow()
def ask(n: int) -> int:
    result: int = DBOS.enqueue_workflow(QUEUE, one, n).get_result()
    return result


def launch(url: str, listens: bool = True) -> None:
    url = url.replace("postgresql://", "postgresql+psycopg://")
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})
    if not listens:
        DBOS.listen_queues([])
    DBOS.launch()
    DBOS.register_queue(QUEUE)


def run(id: str, workflow: Any, n: int) -> Any:
    with SetWorkflowID(f"{RUN}-{id}"):
        return workflow(n)


def one_step(url: str) -> dict[str, float]:
    launch(url)
    samples = []
    for i in range(300):
        begin = now()
        run(f"one-{i}", one, i)
        samples.append(now() - begin)
    return latencies(samples[50:])


def sequential(url: str) -> dict[str, float]:
    launch(url)
    run("warm", chain, 50)
    begin = now()
    assert run("chain", chain, STEPS) == STEPS * (STEPS + 1) // 2
    return {"steps_per_s": STEPS / (now() - begin)}


def fanout(url: str) -> dict[str, float]:
    launch(url)
    run("warm", fan, 20)
    begin = now()
    assert run("fan", fan, STEPS) == STEPS * (STEPS + 1) // 2
    return {"ms": (now() - begin) * 1e3}


def concurrent(url: str) -> dict[str, float]:
    launch(url)
    with ThreadPoolExecutor(100) as threads:
        list(threads.map(lambda i: run(f"warm-{i}", one, i), range(100)))
        begin = now()
        list(threads.map(lambda i: run(f"run-{i}", one, i), range(STEPS)))
        return {"runs_per_s": STEPS / (now() - begin)}


def remote(url: str) -> dict[str, float]:
    launch(url, listens=False)
    child = subprocess.Popen([sys.executable, __file__, "serve", url], stdin=subprocess.PIPE)
    samples = []
    for i in range(15):
        begin = now()
        assert run(f"ask-{i}", ask, i) == i + 1
        samples.append(now() - begin)
    child.communicate()
    return latencies(samples[5:])


def serve(url: str) -> None:
    launch(url)
    sys.stdin.read()
    DBOS.destroy()


def ended(workload: Any) -> Any:
    def measured(url: str) -> dict[str, float]:
        figures: dict[str, float] = workload(url)
        DBOS.destroy()
        return figures

    measured.__name__ = workload.__name__
    return measured


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        main(database([ended(workload) for workload in (one_step, sequential, fanout, concurrent, remote)]))
