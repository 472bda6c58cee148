"""The loopback frontend keeps the contract, on both ways of sending."""

from __future__ import annotations

import pytest

from cachestream.frontends import LoopbackFrontend
from cachestream.testing.frontends import FrontendContract


class TestLoopbackFrontend(FrontendContract):
    @pytest.fixture
    def frontend(self) -> LoopbackFrontend:
        return LoopbackFrontend()

    @pytest.fixture
    def other_frontend(self) -> LoopbackFrontend:
        return LoopbackFrontend()


class TestWithoutSendfile(FrontendContract):
    @pytest.fixture
    def frontend(self) -> LoopbackFrontend:
        frontend = LoopbackFrontend()
        frontend._direct = False
        return frontend

    @pytest.fixture
    def other_frontend(self) -> LoopbackFrontend:
        return LoopbackFrontend()
