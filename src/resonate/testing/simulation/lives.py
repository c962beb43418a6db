"""The processes of a simulation: what each one runs, how it starts, and how it leaves to come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from resonate.errors import OutcomeUnknown, ResonateError, ResonateShutdownError, StorageUnavailable
from resonate.testing.network import Crashed

if TYPE_CHECKING:
    from resonate.testing.client import WorldClient, WorldCore
    from resonate.testing.simulation.process import Process
    from resonate.testing.simulation.simulation import Simulation

AGAIN: Final = 1.0
"""Seconds after which a process is started again that ended because the server was out of reach."""

STOPPING: Final = 10.0
"""Seconds that a process which is stopped in order waits for its steps."""


class Program:
    """What a process runs, and its present life.

    Args:
        start: called with a client of its own whenever the process starts.
        options: of that client.
    """

    def __init__(self, number: int, start: Callable[[WorldClient], object], options: dict[str, Any]) -> None:
        self.number = number
        self.start = start
        self.options = options
        self.lives = 0
        self.client: WorldClient | None = None
        self.ended = False
        """Whether `start` has returned: from then on it only works for others."""


class Lives:
    """Every process there is and was.

    Args:
        world: they live in.
    """

    def __init__(self, world: Simulation) -> None:
        self._world = world
        self.programs: list[Program] = []
        self.failures: list[BaseException] = []
        """What their code raised that it should not."""
        self._processes: dict[WorldCore, Process] = {}

    def of(self, core: WorldCore) -> Process:
        """The process that a client lives in."""
        return self._processes[core]

    def add(self, core: WorldCore, process: Process) -> None:
        """`core` is the client of a new process."""
        self._processes[core] = process

    def alive(self) -> list[Program]:
        """The programs that have a process now."""
        return [program for program in self.programs if program.client is not None]

    def all_ended(self) -> bool:
        """Whether every process has done what it does at its start."""
        return all(program.ended and program.client is not None for program in self.programs)

    def begin(self, start: Callable[[WorldClient], object], options: dict[str, Any]) -> Program:
        """Start a program's first process; see `Simulation.process`."""
        program = Program(len(self.programs), start, options)
        self.programs.append(program)
        self.boot(program, options.get("pid"))
        return program

    def boot(self, program: Program, pid: str | None) -> None:
        """Start a process; without a `pid` of an earlier life it gets one of its own."""
        program.lives += 1
        program.ended = False
        options = dict(program.options)
        options["pid"] = pid if pid is not None else f"{options['group']}{program.number}-{program.lives}"
        client = program.client = self._world.client(**options)
        process = self.of(client._in_world)
        self._world.trace.add(options["pid"], "boot", "", f"process {program.number}")
        self._world.tasks.start(process, lambda: self._main(program, client, process))

    def _main(self, program: Program, client: WorldClient, process: Process) -> None:
        try:
            program.start(client)
            client.start()
        except ResonateError as error:
            if process.gone or program.client is not client:
                return  # it is stopped in order; it will be started again
            if not isinstance(error, OutcomeUnknown | StorageUnavailable | ResonateShutdownError):
                self.failures.append(error)
                return
            self._world.trace.add(process.pid, "exit", "", f"{type(error).__name__}")
            self.leave(program, AGAIN, process.pid)
            return
        except Crashed:
            raise
        except BaseException as error:
            self.failures.append(error)
            return
        program.ended = True

    def leave(self, program: Program, seconds: float, pid: str | None) -> None:
        """Stop a process in order, and start it again `seconds` later."""
        world, client = self._world, program.client
        assert client is not None
        process = self.of(client._in_world)
        program.client = None

        def leave() -> None:
            try:
                client.stop(timeout=STOPPING)
            finally:
                self.end(process)
                world.after(seconds, lambda: self.boot(program, pid))

        world.tasks.start(process, leave)

    def crash(self, program: Program, seconds: float, pid: str | None) -> None:
        """Kill a process, and start it again `seconds` later."""
        assert program.client is not None
        core, program.client = program.client._in_world, None
        program.ended = False
        self._world.bury(core)
        self._world.after(seconds, lambda: self.boot(program, pid))

    def end(self, process: Process) -> None:
        """Nothing of a process runs any more."""
        process.gone = True
        self._world.tasks.drop(process)
        self._world.wire.process_gone(process)


__all__ = ["Lives", "Program"]
