"""Checks one plug-in from end to end: ``cachestream plugins doctor NAME``.

Nothing of the plug-in runs in the process that asks. One child process imports and makes it, a
second one runs the quick part of its contract, and each step has a time limit, so that a
plug-in which hangs or ends the process is a failed check and nothing worse. Stores work at a
place of their own that is removed afterwards, never at the one that is configured.
"""

from __future__ import annotations

from cachestream.testing.doctor._finding import find_plugin
from cachestream.testing.doctor._order import Check, Order
from cachestream.testing.doctor._running import diagnose

__all__ = ["Check", "Order", "diagnose", "find_plugin"]
