"""Run an asynchronous test on both event loops that syncwatch runs on: asyncio's own and uvloop.

What belongs here: the loop around a test and what must be clean when it ends: no task left, nothing reported to the loop, nothing
unclosed in the garbage.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import uvloop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


def on_both_loops(timeout_s: float = 20.0) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Decorate an `async def test_…`: it is run once per loop and must end within `timeout_s`."""

    def decorate(scenario: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(scenario)
        def test(loop_name: str, **fixtures: Any) -> None:
            complaints: list[str] = []

            async def main() -> None:
                loop = asyncio.get_running_loop()
                loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
                async with asyncio.timeout(timeout_s):
                    await scenario(**fixtures)
                await asyncio.sleep(0.01)
                left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
                assert [] == left, "tasks are left"
                gc.collect()
                await asyncio.sleep(0)

            with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
                runner.run(main())
            assert not complaints, complaints

        own = list(inspect.signature(scenario).parameters.values())
        loop_name = inspect.Parameter("loop_name", inspect.Parameter.KEYWORD_ONLY)
        test.__signature__ = inspect.Signature([*own, loop_name])  # type: ignore[attr-defined]  # what pytest asks for
        return cast(Callable[..., None], pytest.mark.parametrize("loop_name", LOOPS)(test))

    return decorate
