"""Starts the steps of a plan as early as their order allows, keeps the processes up, stops them in reverse."""

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import groupby

from deploy.local.errors import ConfigurationFailure, LocalError
from deploy.local.events import Event, Listener, log
from deploy.local.managed import Managed
from deploy.local.spawn import run_to_end
from deploy.local.specs import Action, Job, Process, Step
from deploy.local.state import StateDir, write_json

__all__ = ["Supervisor"]


class Supervisor:
    """Runs one plan in this process' event loop. `on_change` is called whenever a process changes state."""

    def __init__(
        self, plan: Sequence[Step], state: StateDir, listener: Listener, on_change: Callable[[], None]
    ) -> None:
        self._plan = _checked(plan)
        self._state = state
        self._listener = listener
        self._on_change = on_change
        self._managed = {
            step.name: Managed(step, state.log(step.name), self._record) for step in plan if isinstance(step, Process)
        }

    def pids(self) -> dict[str, int]:
        """Of every process that was started."""
        return {name: status.pid for name, managed in self._managed.items() if (status := managed.status)}

    async def start(self) -> None:
        """Returns when every step is done and every process ready. Raises the first failure."""
        done = {step.name: asyncio.Event() for step in self._plan}
        try:
            async with asyncio.TaskGroup() as group:
                for step in self._plan:
                    group.create_task(self._take(step, done))
        except BaseExceptionGroup as failures:
            raise _first(failures) from None

    async def stop(self) -> None:
        """Stops every process, the edge first and the data last."""
        stages = sorted(self._managed.values(), key=lambda managed: managed.spec.stage, reverse=True)
        for _, together in groupby(stages, key=lambda managed: managed.spec.stage):
            await asyncio.gather(*(managed.stop() for managed in together))

    async def _take(self, step: Step, done: dict[str, asyncio.Event]) -> None:
        for name in step.after:
            await done[name].wait()
        began = time.monotonic()
        self._listener(Event(step.name, "started"))
        try:
            await self._perform(step)
        except Exception as error:
            self._listener(Event(step.name, "failed", time.monotonic() - began))
            log("step_failed", "error", step=step.name, error=str(error))
            raise
        self._listener(Event(step.name, "done", time.monotonic() - began))
        done[step.name].set()

    async def _perform(self, step: Step) -> None:
        match step:
            case Process():
                await self._managed[step.name].start()
            case Job():
                await run_to_end(step.name, step.command, self._state.log(step.name.replace(" ", "-")))
            case Action():
                await step.run()

    def _record(self) -> None:
        known = {name: status.json() for name, managed in self._managed.items() if (status := managed.status)}
        try:
            write_json(self._state.processes, known)
            self._on_change()
        except OSError as error:  # a full disk must not end the supervision of what still runs
            log("not_recorded", "error", error=str(error))


def _checked(plan: Sequence[Step]) -> Sequence[Step]:
    names = {step.name for step in plan}
    for step in plan:
        if unknown := set(step.after) - names:
            raise ConfigurationFailure(f"step {step.name} waits for {', '.join(sorted(unknown))}, which is not planned")
    return plan


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    flat = list(_flatten(failures))
    return next((error for error in flat if isinstance(error, LocalError)), flat[0])


def _flatten(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    result: list[BaseException] = []
    for error in group.exceptions:
        result += _flatten(error) if isinstance(error, BaseExceptionGroup) else [error]
    return result
