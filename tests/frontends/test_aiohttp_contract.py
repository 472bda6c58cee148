"""The aiohttp application keeps the contract in aiohttp's server, with its defaults."""

from __future__ import annotations

import pytest

from cachestream.testing.frontends import MountedFrontendContract


class TestInAiohttp(MountedFrontendContract):
    @pytest.fixture
    def frontend(self, make_served):
        return make_served("aiohttp")

    @pytest.fixture
    def other_frontend(self, make_served):
        return make_served("aiohttp")
