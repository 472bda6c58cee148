"""What is shown of a cache is values: frozen, compared by what they say."""

from __future__ import annotations

import attrs
import pytest

from cachestream.core import status
from cachestream.core.status import Readiness, Statistics


@pytest.mark.parametrize("name", [name for name in status.__all__ if not name.isupper()])
def test_every_value_is_frozen(name: str) -> None:
    """Whoever is shown a cache cannot change it."""
    kind = getattr(status, name)
    assert attrs.has(kind)
    assert kind.__setattr__ is not object.__setattr__


def test_a_cache_is_ready_unless_something_speaks_against_it() -> None:
    """One reason is enough."""
    assert Readiness().ready
    assert not Readiness(reasons=(("store", "it is full"),)).ready


def test_statistics_begin_with_nothing() -> None:
    """Every number of a new cache is 0."""
    assert set(attrs.astuple(Statistics())) == {0}
