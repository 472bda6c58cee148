"""The ASGI application keeps the contract in real servers."""

from __future__ import annotations

import pytest

from cachestream.testing.frontends import MountedFrontendContract


class TestInUvicorn(MountedFrontendContract):
    @pytest.fixture
    def frontend(self, make_served):
        return make_served("uvicorn")

    @pytest.fixture
    def other_frontend(self, make_served):
        return make_served("uvicorn")


class TestInGranian(MountedFrontendContract):
    @pytest.fixture
    def frontend(self, make_served):
        return make_served("granian")

    @pytest.fixture
    def other_frontend(self, make_served):
        return make_served("granian")
