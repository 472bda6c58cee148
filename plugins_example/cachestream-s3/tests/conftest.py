"""Services that speak S3: a real one, and a pretended one for what the real one lacks."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator

import attrs
import obstore
import pytest
from cachestream.testing import SwiftServer
from cachestream_s3 import S3Options
from moto.server import ThreadedMotoServer
from places import KIB, S3Place


@pytest.fixture(scope="session")
def swift() -> Iterator[SwiftServer]:
    """OpenStack Swift: a real object store, whose PUT honours If-None-Match but not If-Match."""
    with SwiftServer() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """moto: a pretended one in memory, whose PUT honours both; its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def swift_options(swift: SwiftServer) -> S3Options:
    """A new bucket on the real service."""
    return S3Options(
        bucket=swift.create_bucket(),
        prefix="some/where",
        endpoint=swift.endpoint_url,
        region=swift.region,
        access_key_id=swift.access_key_id,
        secret_access_key=swift.secret_access_key,
        allow_http=True,
        swap="create",
        span_size=64 * KIB,
        retries=2,
    )


@pytest.fixture
def moto_options(moto: str) -> S3Options:
    """A new bucket on the pretended service."""
    bucket = f"bucket-{uuid.uuid4().hex}"
    options = S3Options(
        bucket=bucket,
        prefix="some/where",
        endpoint=moto,
        region="us-east-1",
        access_key_id="anybody",
        secret_access_key="anything",
        allow_http=True,
        span_size=64 * KIB,
        retries=2,
    )
    place = S3Place(attrs.evolve(options, prefix="x"))
    import http.client

    host = moto.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("PUT", f"/{bucket}")
    assert connection.getresponse().status == 200
    connection.close()
    assert obstore.list(place.door).collect() == []
    return options


@pytest.fixture
def place(swift_options: S3Options) -> S3Place:
    """A place on the real service."""
    return S3Place(swift_options)


@pytest.fixture(params=["create", "if-match"])
def any_place(request: pytest.FixtureRequest) -> S3Place:
    """A place for each way to swap a head."""
    name = "swift_options" if request.param == "create" else "moto_options"
    return S3Place(request.getfixturevalue(name))
