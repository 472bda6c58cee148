"""A transport that signs is a transport like any other."""

import pytest
from cachestream import HttpTransport
from cachestream.testing import TransportContract

from cachestream_signed import Bearer, HmacQuery, SignedTransport


def make_transport(**options):
    return SignedTransport(
        [
            Bearer("127.0.0.1:*", token="never-sent"),
            HmacQuery("localhost:*", key="k", parameters={"sig": "{signature}"}),
        ],
        HttpTransport(**options),
    )


class TestSignedTransport(TransportContract):
    """Everything that transports promise, with rules for the very origins that are asked."""

    @pytest.fixture
    def transport(self):
        return make_transport()

    @pytest.fixture
    def impatient(self):
        return make_transport(read_timeout=0.2)
