"""Services that speak S3: a real one, and a pretended one for what the real one lacks."""

from __future__ import annotations

import http.client
import logging
import threading
import uuid
from collections.abc import Iterator

import attrs
import pytest
from cachestream.testing import SwiftServer
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from cachestream_s3 import S3Options
from places import KIB, S3Place


@pytest.fixture(scope="session")
def swift() -> Iterator[SwiftServer]:
    """OpenStack Swift: a real object store.

    It has no If-Match on PUT, and looks at If-None-Match before it begins to write: of two
    PUTs at the same moment both may succeed.
    """
    with SwiftServer(page_size=50) as server:
        yield server


def one_at_a_time(application):
    """Let requests wait for each other; connections that say nothing hold nobody up."""
    lock = threading.Lock()

    def call(environ, start_response):
        with lock:
            return list(application(environ, start_response))

    return call


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """moto: a pretended one in memory, whose PUT honours both; its URL.

    One request at a time, so that looking at a condition and writing are one step.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = one_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


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
    connection = http.client.HTTPConnection(moto.removeprefix("http://"), timeout=60)
    try:
        connection.request("PUT", f"/{bucket}")
        assert connection.getresponse().status == 200
    finally:
        connection.close()
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


@pytest.fixture(params=["create", "if-match"])
def fenced_place(request: pytest.FixtureRequest, moto_options: S3Options) -> S3Place:
    """A place for each way to swap a head, where a condition holds at the moment of writing."""
    return S3Place(attrs.evolve(moto_options, swap=request.param))
