"""The contract of stores, as tests: subclass it, give one fixture, run pytest.

Example:
    A store's own tests::

        class TestMyStore(StoreContract):
            @pytest.fixture
            def place(self, tmp_path):
                return MyPlace(tmp_path)

    ``MyPlace`` is a `Place`: it opens the store at the same place again and again, can end it
    as a crash does, and has a back door to the bytes.
"""

from __future__ import annotations

import pytest

from cachestream.testing.stores._entries import EntryPromises
from cachestream.testing.stores._limits import LimitPromises
from cachestream.testing.stores._model import ModelPromises
from cachestream.testing.stores._places import Place, RawEntry
from cachestream.testing.stores._publishing import PublishingPromises
from cachestream.testing.stores._survival import SurvivalPromises
from cachestream.testing.stores._writing import WritingPromises

__all__ = ["Place", "RawEntry", "StoreContract"]


class StoreContract(
    WritingPromises,
    EntryPromises,
    PublishingPromises,
    SurvivalPromises,
    LimitPromises,
    ModelPromises,
):
    """Everything that `cachestream.abc.Store` promises, and what its parts do.

    What a store cannot do, by its `StoreCapabilities`, is tested as well: then the contract
    asks that it says so and harms nothing. Needs pytest-asyncio.
    """

    @pytest.fixture
    def place(self) -> Place:
        """Return an empty place for the store."""
        raise NotImplementedError("the contract needs a fixture `place`")
