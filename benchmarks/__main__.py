"""Run scenarios with contestants, and write what came of it: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from benchmarks.content import FULL, QUICK, TINY, Library
from benchmarks.contestants import CONTESTANTS
from benchmarks.machine import describe, versions
from benchmarks.report import Report
from benchmarks.running import run
from benchmarks.scenarios import SCENARIOS

__all__ = ["main"]

_BUILD: Final = Path("build/benchmarks")
_SCALES: Final = {"full": FULL, "quick": QUICK, "tiny": TINY}


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a type for argparse: names with commas between, or ``all``."""

    def parse(text: str) -> list[str]:
        names = list(known) if text == "all" else text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return names

    return parse


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    who, what = list(CONTESTANTS), list(SCENARIOS)
    add = parser.add_argument
    add("--contestants", type=_names(who), default=who, help="names with commas between, or all")
    add("--scenarios", type=_names(what), default=what, help="names with commas between, or all")
    add("--repeats", type=int, default=5, help="how often each speed is measured")
    add("--scale", choices=_SCALES, default="full", help="how big everything is")
    add("--results", type=Path, default=_BUILD / "results", help="folder for the page and plots")
    add("--page", default="results", help="name of the page, for a run beside another's")
    add("--work", type=Path, default=_BUILD / "work", help="folder for files and caches, which "
        "servers that give up root must be able to enter")  # fmt: skip
    return parser.parse_args(argv)


def _terminated(signal_number: int, frame: object) -> NoReturn:
    sys.exit(128 + signal_number)  # by way of every `finally`, so that all servers end


def _tell(line: str) -> None:
    print(line, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for; return 1 if anything that was sent was wrong."""
    options = _arguments(argv)
    signal.signal(signal.SIGTERM, _terminated)
    library = Library((options.work / "files").resolve(), _SCALES[options.scale])
    library.make()
    contestants = {name: CONTESTANTS[name] for name in options.contestants}
    report = Report(options.results, contestants, describe(), versions(contestants), options.page)
    wrong: list[str] = []
    for name in options.scenarios:
        folder = (options.work / "cell").resolve()
        results = run(SCENARIOS[name], contestants, library, folder, options.repeats, _tell)
        wrong += results.wrong
        report.add(results)
        report.write()
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
