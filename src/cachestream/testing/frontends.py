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

from typing import ClassVar, Final

import pytest

from cachestream.abc import Frontend
from cachestream.testing._frontend_answers import AnswerPromises
from cachestream.testing._frontend_life import LifePromises
from cachestream.testing._frontend_requests import Lines, RequestPromises

__all__ = ["SERVERS_OWN", "FrontendContract", "MountedFrontendContract"]


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


SERVERS_OWN: Final = {
    "test_absolute_form_is_kept": "applications are told of the path alone",
    "test_content_of_get_is_refused": "the server frames the message",
    "test_content_of_post_is_no_request": "the server frames the message",
    "test_date_of_the_handler_goes_first": "servers add their own Date",
    "test_empty_content_is_no_content": "the server frames the message",
    "test_failure_is_visible_to_old_clients": "the server ends the connection",
    "test_head_is_limited": "the server reads the head",
    "test_host_is_never_made_up": "the server reads the head",
    "test_keep_alive": "connections are the server's",
    "test_leaving_cuts_visibly_for_old_clients": "the server ends the connection",
    "test_leaving_leaves_nothing": "listeners and connections are the server's",
    "test_length_decides_the_framing": "the server frames the message",
    "test_malformed_request_is_refused": "the server reads the head",
    "test_pipelined_requests_are_answered_in_order": "connections are the server's",
    "test_request_may_come_in_bits": "the server reads the head",
    "test_target_is_limited": "the server reads the head",
    "test_upgrade_is_ignored": "the server decides on other protocols",
}
"""Promises that a frontend in somebody else's server leaves to that server, and why."""


class MountedFrontendContract(FrontendContract):
    """The promises of a frontend that is called by another server, which listens.

    The fixtures return a frontend whose ``serve`` runs such a server too.
    """

    frames: ClassVar[bool] = False

    def shown(self, lines: Lines) -> Lines:
        """Return field lines as servers hand them on: in lower case, sorted by their names."""
        return tuple(
            sorted(((name.lower(), value) for name, value in lines), key=lambda line: line[0])
        )


for _name in SERVERS_OWN:
    # What is no function is no test.
    setattr(MountedFrontendContract, _name, None)
