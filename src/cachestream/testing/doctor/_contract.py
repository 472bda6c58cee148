"""The second child process: runs the quick part of a plug-in's contract by pytest."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from cachestream.testing.doctor._order import Check, Order, Report
from cachestream.testing.doctor._quick import LEFT_OUT

__all__ = ["run_contract"]

_MODULE: Final = """
from cachestream.testing.doctor import _contract, _suite

TestContract = _suite.contract_of(_contract.CURRENT[0])
"""

CURRENT: Final[list[Order]] = []
"""The order that the generated module is about."""

_REWRITTEN: Final = (
    "cachestream.testing.doctor._reading",
    "cachestream.testing.doctor._suite",
    "cachestream.testing.stores",
    "cachestream.testing._frontend_answers",
    "cachestream.testing._frontend_life",
    "cachestream.testing._frontend_requests",
    "cachestream.testing._transport_exchange",
    "cachestream.testing._transport_failure",
)
"""Modules whose assertions tell what they compared."""


def run_contract(order: Order, report: Report) -> None:
    """Run the tests, and tell which promises are kept."""
    missing = [name for name in ("pytest", "pytest_asyncio") if not _is_there(name)]
    if missing:
        report.check(
            Check(
                name="contract",
                status="failed",
                detail=f"{' and '.join(missing)} must be installed to run it: "
                "pip install 'cachestream[testing]'",
            )
        )
        return
    report.check(_run(order, report))


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _run(order: Order, report: Report) -> Check:
    import pytest

    pytest.register_assert_rewrite(*_REWRITTEN)
    directory = Path(order.directory)
    module = directory / "test_contract.py"
    module.write_text(_MODULE)
    (directory / "pytest.ini").write_text("[pytest]\n")
    CURRENT.append(order)
    observer = _Observer(order, report)
    arguments = ["-q", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider", "--tb=short"]
    arguments += ["-c", str(directory / "pytest.ini"), "--rootdir", str(directory)]
    arguments += ["--basetemp", str(directory / "tests"), "--import-mode=importlib"]
    pytest.main([*arguments, str(module)], plugins=[observer])
    return observer.check()


@attrs.define(eq=False)
class _Observer:
    """Takes note of what pytest finds, and tells which promise is looked at."""

    order: Order
    report: Report
    kept: int = 0
    broken: list[dict[str, str]] = attrs.field(factory=list)
    left_out: list[str] = attrs.field(factory=list)
    trouble: str = ""
    session: Any = None
    _promises: dict[str, str] = attrs.field(factory=dict)

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        """Leave out what is not quick."""
        names = LEFT_OUT[self.order.kind]
        out = [item for item in items if item.originalname in names]
        items[:] = [item for item in items if item.originalname not in names]
        config.hook.pytest_deselected(items=out)
        self.left_out = sorted({item.originalname for item in out})
        for item in items:
            doc = (item.function.__doc__ or item.originalname).strip()
            self._promises[item.nodeid] = " ".join(doc.split())

    def pytest_sessionstart(self, session: Any) -> None:
        """Keep the session, to end it."""
        self.session = session

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        """Tell which promise comes next: if nothing follows, that one hangs."""
        self.report.tell("begins", name=f"{_name(nodeid)}: {self._promises.get(nodeid, '')}")

    def pytest_collectreport(self, report: Any) -> None:
        """Take note of a contract that could not even be built."""
        if report.failed:
            self.trouble = _last_line(report.longreprtext)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count a promise that is kept, or take note of why it is not."""
        if report.failed and "NotEmptyError" in report.longreprtext:
            self.trouble = _last_line(report.longreprtext)
            self.session.shouldstop = self.trouble
        elif report.failed:
            self.broken.append(
                {
                    "promise": self._promises.get(report.nodeid, ""),
                    "test": _name(report.nodeid),
                    "reason": _reason(report),
                }
            )
        elif report.when == "call":
            self.kept += 1

    def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
        """Take note of why the tests ended early."""
        self.trouble = self.trouble or str(excinfo.value)

    def check(self) -> Check:
        """Return what came of it."""
        facts = {"kept": self.kept, "broken": self.broken, "left_out": self.left_out}
        if self.trouble or not (self.kept or self.broken):
            return Check(
                name="contract",
                status="failed",
                detail=self.trouble or "no test was run",
                facts=facts,
            )
        return Check(
            name="contract",
            status="failed" if self.broken else "ok",
            detail="; ".join(self._told()),
            facts=facts,
        )

    def _told(self) -> Iterator[str]:
        for each in self.broken[:1]:
            yield f"broken: {each['promise']} ({each['test']}: {each['reason']})"
        if len(self.broken) > 1:
            yield f"{len(self.broken) - 1} more broken"
        yield f"{self.kept} promises kept"
        if self.left_out:
            yield f"{len(self.left_out)} left to its own tests"


def _name(nodeid: str) -> str:
    return nodeid.rpartition("::")[2]


def _reason(report: Any) -> str:
    """Return the first line of why a test failed."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = report.longreprtext if crash is None else crash.message
    return _short(text.strip().partition("\n")[0])


def _last_line(text: str) -> str:
    lines = [line.removeprefix("E").strip() for line in text.splitlines() if line.startswith("E")]
    last = lines[-1] if lines else text.strip().rpartition("\n")[2]
    return _short(re.sub(r"^[\w.]+Error: ", "", last))


def _short(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
