"""The contract of frontends, as tests: subclass it, give the fixtures, run pytest.

Example:
    A frontend's own tests::

        class TestMyFrontend(FrontendContract):
            @pytest.fixture()
            def frontend(self):
                return MyFrontend()

            @pytest.fixture()
            def other_frontend(self):
                return MyFrontend()
"""

from __future__ import annotations

import pytest

from cachestream.abc import Frontend
from cachestream.testing._frontend_answers import AnswerPromises
from cachestream.testing._frontend_life import LifePromises
from cachestream.testing._frontend_requests import RequestPromises

__all__ = ["FrontendContract"]


class FrontendContract(RequestPromises, AnswerPromises, LifePromises):
    """Everything that `cachestream.abc.Frontend` promises, for one that listens on a port.

    The handlers are fakes, so what is tested is the frontend alone. Needs pytest-asyncio.
    """

    @pytest.fixture
    def frontend(self) -> Frontend:
        """Return the frontend to test, not yet serving; ``https`` sources can be fetched."""
        raise NotImplementedError("the contract needs a fixture `frontend`")

    @pytest.fixture
    def other_frontend(self) -> Frontend:
        """Return another one like it, which can serve at the same time."""
        raise NotImplementedError("the contract needs a fixture `other_frontend`")
