"""What docstrings show works: every ``>>>`` of the package runs."""

import doctest
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import cachestream

SKIPPED = {"cachestream.__main__", "cachestream.testing.origin.__main__"}


def examples() -> Iterator[object]:
    """Yield each docstring with an example, named by what it belongs to."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for info in pkgutil.walk_packages(cachestream.__path__, "cachestream."):
        if info.name not in SKIPPED:
            for test in finder.find(importlib.import_module(info.name)):
                if test.examples:
                    yield pytest.param(test, id=test.name)


EXAMPLES = list(examples())


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_in_docstrings_work(example: doctest.DocTest) -> None:
    """An example prints what it says."""
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    printed: list[str] = []
    runner.run(example, out=printed.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(printed)


def test_there_are_examples() -> None:
    """The examples were found."""
    assert len(EXAMPLES) >= 8
