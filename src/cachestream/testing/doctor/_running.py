"""Runs the child processes of an examination, each step within its time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any, Final

import attrs

from cachestream.testing.doctor._order import STEPS, Check, Order, Report

__all__ = ["diagnose"]

_LINE_LIMIT: Final = 4 * 1024 * 1024
_TAIL: Final = 2000


async def diagnose(order: Order, *, timeout: float = 30.0) -> AsyncGenerator[Check, None]:
    """Yield what comes of each check, in order, as soon as it is known.

    Args:
        order: What to examine.
        timeout: Seconds for each step, and for each promise of the contract.
    """
    reached: list[str] = []
    failed = False
    async with contextlib.aclosing(_examine(order, timeout)) as checks:
        async for check in checks:
            reached.append(check.name)
            failed = failed or check.status == "failed"
            if check.name == "offers":
                order = attrs.evolve(order, schemes=tuple(check.facts.get("schemes", ())))
            yield check
    for name in STEPS:
        if name not in reached:
            yield Check(name=name, status="not reached")
    if failed:
        yield Check(name="contract", status="not reached")
        return
    async with contextlib.aclosing(_contract(order, timeout)) as checks:
        async for check in checks:
            yield check


async def _examine(order: Order, timeout: float) -> AsyncGenerator[Check, None]:
    async with _Child("examine", order) as child:
        step = STEPS[0]
        try:
            while (line := await child.line(timeout)) is not None:
                if line["what"] == "begins":
                    step = line["name"]
                else:
                    check = Check(**{k: v for k, v in line.items() if k != "what"})
                    following = STEPS.index(check.name) + 1
                    step = STEPS[following] if following < len(STEPS) else ""
                    yield check
                    if check.status == "failed":
                        return
        except TimeoutError:
            yield Check(name=step, status="failed", detail=f"not done after {timeout:g} s")
            return
        if step:
            yield Check(name=step, status="failed", detail=f"the process ended: {child.last_words}")


async def _contract(order: Order, timeout: float) -> AsyncGenerator[Check, None]:
    began = time.perf_counter()
    check, promise = None, "its tests"
    async with _Child("contract", order) as child:
        try:
            while (line := await child.line(timeout)) is not None:
                if line["what"] == "begins":
                    promise = line["name"]
                else:
                    check = Check(**{k: v for k, v in line.items() if k != "what"})
        except TimeoutError:
            check = Check(
                name="contract",
                status="failed",
                detail=f"not done after {timeout:g} s: {promise}",
            )
        if check is None:
            detail = f"the process ended in {promise}: {child.last_words}"
            check = Check(name="contract", status="failed", detail=detail)
    yield attrs.evolve(check, seconds=round(time.perf_counter() - began, 4))
    if order.kind == "store":
        async for each in _clean(order, timeout):
            yield each


async def _clean(order: Order, timeout: float) -> AsyncGenerator[Check, None]:
    """Remove what lies outside of the directory, whatever became of the contract."""
    async with _Child("clean", order) as child:
        with contextlib.suppress(TimeoutError):
            while (line := await child.line(timeout)) is not None:
                yield Check(**{k: v for k, v in line.items() if k != "what"})
                return
        yield Check(
            name="removed",
            status="failed",
            detail=f"what was stored under {order.token!r} may be left: {child.last_words}",
        )


class _Child:
    """A child process that reports; it is killed when the context is left."""

    def __init__(self, role: str, order: Order) -> None:
        self._role = role
        self._order = order
        self._process: asyncio.subprocess.Process
        self._errors: asyncio.Task[bytes]

    async def __aenter__(self) -> _Child:
        path = os.pathsep.join(filter(None, sys.path))
        # Plug-ins of pytest that happen to be installed are none of the contract's.
        environment = {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        environment.pop("PYTEST_ADDOPTS", None)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the current directory may have a module of any name
            "-m",
            "cachestream.testing.doctor",
            self._role,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
            env=environment,
            start_new_session=True,  # so that what it started can be ended with it
        )
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._errors = asyncio.ensure_future(_tail(self._process.stderr))
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(self._order.to_json())
            await self._process.stdin.drain()
        self._process.stdin.close()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._kill()
        await self._process.wait()
        # Children of its own may hold the pipe.
        await asyncio.wait((self._errors,), timeout=1.0)
        self._errors.cancel()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    async def line(self, timeout: float) -> dict[str, Any] | None:
        """Return what it tells next, None after its end.

        Raises:
            TimeoutError: If nothing comes within ``timeout`` seconds.
        """
        assert self._process.stdout is not None
        async with asyncio.timeout(timeout):
            line = await self._process.stdout.readline()
            if line:
                return Report.read(line)
            await self._process.wait()
            await asyncio.wait((self._errors,), timeout=1.0)
            return None

    @property
    def last_words(self) -> str:
        """The last line that it wrote to stderr, or its exit code."""
        done = self._errors.done() and not self._errors.cancelled()
        text = self._errors.result().decode(errors="replace").strip() if done else ""
        return text.rpartition("\n")[2] or f"exit code {self._process.returncode}"


async def _tail(stream: asyncio.StreamReader) -> bytes:
    tail = b""
    while piece := await stream.read(65_536):
        tail = (tail + piece)[-_TAIL:]
    return tail
