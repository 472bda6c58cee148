"""For authors of plug-ins, and for us: contracts, fakes, a misbehaving origin, a simulation.

    from cachestream.testing import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def place(self, tmp_path):
            return MyPlace(tmp_path)

The contracts need pytest (``pip install cachestream[testing]``), which is imported only
when one of them is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cachestream.testing.frontends import FrontendContract, MountedFrontendContract
    from cachestream.testing.handlers import HandlerContract
    from cachestream.testing.machine import StoreMachine, machine_for
    from cachestream.testing.origin import Origin, OriginThread, pattern
    from cachestream.testing.simulation import SimLoop, SimOrigin, SimTransport, simulate
    from cachestream.testing.stores import StoreContract
    from cachestream.testing.swift import SwiftServer
    from cachestream.testing.transports import TransportContract

__all__ = [
    "FrontendContract",
    "HandlerContract",
    "MountedFrontendContract",
    "Origin",
    "OriginThread",
    "SimLoop",
    "SimOrigin",
    "SimTransport",
    "StoreContract",
    "StoreMachine",
    "SwiftServer",
    "TransportContract",
    "machine_for",
    "pattern",
    "simulate",
]

_HOMES: Final = {
    "FrontendContract": "frontends",
    "HandlerContract": "handlers",
    "MountedFrontendContract": "frontends",
    "Origin": "origin",
    "OriginThread": "origin",
    "SimLoop": "simulation",
    "SimOrigin": "simulation",
    "SimTransport": "simulation",
    "StoreContract": "stores",
    "StoreMachine": "machine",
    "SwiftServer": "swift",
    "TransportContract": "transports",
    "machine_for": "machine",
    "pattern": "origin",
    "simulate": "simulation",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
