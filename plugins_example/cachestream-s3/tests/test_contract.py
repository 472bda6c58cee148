"""The store keeps every promise of a store, on both kinds of services."""

from __future__ import annotations

import attrs
import pytest
from cachestream.testing import StoreContract

from cachestream_s3 import S3Options
from places import KIB, MIB, S3Place


class TestOnSwift(StoreContract):
    """On a real object store, where a head is a row of revisions."""

    @pytest.fixture
    def place(self, swift_options: S3Options) -> S3Place:
        return S3Place(attrs.evolve(swift_options, span_size=256 * KIB))


class TestOnMoto(StoreContract):
    """Where a head is one object, replaced with If-Match; with objects as large as by default."""

    @pytest.fixture
    def place(self, moto_options: S3Options) -> S3Place:
        return S3Place(attrs.evolve(moto_options, span_size=4 * MIB))
