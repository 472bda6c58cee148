"""Moves one answer from its body to the client, a bounded amount each turn of the loop.

The task that answers a request calls `Pump.run`. As long as the body has pieces at hand,
they are sent from callbacks of the event loop, one turn's worth a callback; the task is
only woken when the body has to be awaited, or at the end. The next piece is asked for
when the last byte of this one has left, so a slow client holds one piece and no more.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Awaitable, Callable
from typing import Final

from cachestream.abc import END, Body, Buffer, End, FileRegion, Piece
from cachestream.frontends._links import SMALL, Link

__all__ = ["PIECE", "PIECE_COST", "TURN", "ContentError", "Pump"]

TURN: Final = 1024 * 1024
"""Bytes one connection sends before all others get their turn."""

PIECE: Final = 256 * 1024
"""Bytes a body is waited for at a time; what is there is taken a turn's worth at a time."""

PIECE_COST: Final = 16 * 1024
"""What a piece costs of a turn besides its bytes, so that tiny pieces end a turn too."""

# What sendfile says where file or socket cannot do it; pread can.
_NO_SENDFILE: Final = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP))


class ContentError(Exception):
    """The body and what was said of it differ: the connection has to be cut."""


class _Pause(enum.Enum):
    """Why a turn ended."""

    DONE = "all is sent"
    STARVED = "the body has to be awaited"
    FULL = "the socket takes no more, or the turn is used up"


class Pump:
    """Sends a head and a body over a link; good for one answer.

    Attributes:
        sent: Bytes of content handed to the kernel so far.
    """

    def __init__(
        self, link: Link, head: bytes, body: Body, *, length: int | None, chunked: bool
    ) -> None:
        self.sent = 0
        self._link = link
        self._body = body
        self._chunked = chunked
        self._missing = length
        self._lead = head
        self._view: memoryview | None = None
        self._region: FileRegion | None = None
        self._ended = False
        self._budget = TURN

    async def run(self, wait: Callable[[Body, int], Awaitable[Piece | End]]) -> None:
        """Send everything.

        Args:
            wait: Awaits the next piece of the body; called when the body has none at hand.

        Raises:
            ClientGoneError: If the client is gone; any other `ConnectionError` means that too.
            ContentError: If the content does not fit its length or its file.
            Exception: Whatever the body raises.
        """
        pause = self._turn()
        while pause is not _Pause.DONE:
            if pause is _Pause.STARVED:
                self._load(await wait(self._body, PIECE))
                pause = self._turn()
            else:
                pause = await self._link.by_turns(self._next_turn)
        await self._link.settle()

    def _next_turn(self) -> _Pause | None:
        self._budget = TURN
        pause = self._turn()
        return None if pause is _Pause.FULL else pause

    def _turn(self) -> _Pause:
        # The budget is not renewed here: a body whose `next` never really waits must not
        # hold the loop any more than one that has all its pieces at hand.
        while True:
            if not self._has_cargo and not self._ended:
                if self._link.holds_piece:
                    return _Pause.FULL
                piece = self._body.take_nowait(TURN)
                if piece is not None:
                    self._load(piece)
                elif not self._lead:
                    return _Pause.STARVED
            if not self._has_cargo and not self._lead and self._ended:
                return _Pause.DONE
            if self._budget <= 0:
                return _Pause.FULL
            try:
                self._send()
            except BlockingIOError:
                return _Pause.FULL

    @property
    def _has_cargo(self) -> bool:
        return self._view is not None or self._region is not None

    def _load(self, piece: Piece | End) -> None:
        """Take the next piece of the body over, and frame it."""
        self._budget -= PIECE_COST
        if piece is END:
            if self._missing:
                raise ContentError(f"the content ends {self._missing} bytes too early")
            self._ended = True
            if self._chunked:
                self._lead += b"0\r\n\r\n"
            return
        region, view = (piece, None) if isinstance(piece, FileRegion) else (None, _octets(piece))
        size = region.length if region is not None else len(view or b"")
        if size <= 0:
            return
        if self._missing is not None:
            if size > self._missing:
                raise ContentError(f"the content has {size - self._missing} bytes too many")
            self._missing -= size
        if self._chunked:
            self._lead += b"%x\r\n" % size
        self._region, self._view = region, view

    def _send(self) -> None:
        """Send some of what is loaded.

        Raises:
            BlockingIOError: If the socket takes nothing now.
        """
        region = self._region
        if region is not None and self._view is None:
            if self._link.zero_copy and region.length > SMALL:
                self._send_region(region)
                return
            self._read_region(region)
        if self._view is None:
            if self._lead:
                self._account(self._link.send(self._lead, b""))
            return
        self._account(self._link.send(self._lead, self._view[: max(self._budget, 1)]))

    def _send_region(self, region: FileRegion) -> None:
        corked = bool(self._lead)
        try:
            if corked:
                self._account(self._link.send_corked(self._lead))
                if self._lead:
                    return
            count = min(region.length, max(self._budget, 1))
            sent = self._link.sendfile(region.descriptor, region.offset, count)
        except BlockingIOError:
            if corked:
                self._link.uncork()
            raise
        except ConnectionError:
            raise
        except OSError as error:
            if error.errno in _NO_SENDFILE:
                self._link.zero_copy = False
                return
            raise ContentError(f"the file cannot be sent: {error}") from error
        if not sent:
            raise ContentError("the file is shorter than the region to send")
        self._account(sent)

    def _read_region(self, region: FileRegion) -> None:
        """Bring the start of a region to memory."""
        try:
            data = os.pread(region.descriptor, min(region.length, PIECE), region.offset)
        except OSError as error:
            raise ContentError(f"the file cannot be read: {error}") from error
        if not data:
            raise ContentError("the file is shorter than the region to send")
        self._view = memoryview(data)
        self._region = _rest(region, len(data))

    def _account(self, count: int) -> None:
        """Note that ``count`` bytes of lead and cargo have left, in this order."""
        self._budget -= count
        of_lead = min(count, len(self._lead))
        self._lead = self._lead[of_lead:]
        count -= of_lead
        if not count:
            return
        self.sent += count
        if self._view is not None:
            self._view = self._view[count:] if count < len(self._view) else None
        elif self._region is not None:
            self._region = _rest(self._region, count)
        if self._chunked and not self._has_cargo:
            self._lead = b"\r\n"


def _rest(region: FileRegion, count: int) -> FileRegion | None:
    """Return what is left of a region after its first ``count`` bytes."""
    if count >= region.length:
        return None
    return FileRegion(region.descriptor, region.offset + count, region.length - count)


def _octets(piece: Buffer) -> memoryview:
    view = memoryview(piece)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")
