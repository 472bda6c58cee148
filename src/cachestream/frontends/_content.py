"""An answer's content as bytes that stay good, for servers that take nothing else.

A piece of a body is only leased, and may lie in a file; whoever hands it to somebody
else's server, which keeps it as long as it likes, has to copy it.
"""

from __future__ import annotations

import os

from cachestream.abc import END, Answer, End, FileRegion, Piece
from cachestream.frontends._heads import Framing
from cachestream.frontends._pump import PIECE, ContentError
from cachestream.frontends._shared import NO_BODY

__all__ = ["Content"]


class Content:
    """Takes an answer's pieces one by one, and holds them to its length.

    Args:
        answer: The answer; whoever made it closes it.
        framing: How it is framed.
    """

    def __init__(self, answer: Answer, framing: Framing) -> None:
        self._body = NO_BODY if framing is Framing.NONE else answer.body
        self._missing = {Framing.NONE: 0, Framing.LENGTH: answer.length}.get(framing)
        self._region: FileRegion | None = None
        self._lead: list[bytes] = []
        self._ended = False

    def whole_nowait(self, limit: int) -> bytes | None:
        """Return all of it if it is at hand and at most ``limit`` bytes, else None.

        Nothing is lost then: what was taken comes first from `next`.

        Raises:
            ContentError: If it does not fit its length or its file.
            CacheStreamError: If it cannot be completed.
        """
        if self._missing is None or self._missing > limit:
            return None
        parts: list[bytes] = []
        while (piece := self.take_nowait()) is not None:
            if isinstance(piece, End):
                return b"".join(parts)
            parts.append(piece)
        self._lead = parts
        return None

    def take_nowait(self) -> bytes | End | None:
        """Return the next bytes, never none at all, or None if that would block.

        Raises:
            ContentError: If it does not fit its length or its file.
            CacheStreamError: If it cannot be completed.
        """
        if self._lead:
            return self._lead.pop(0)
        if self._ended:
            return END
        if self._region is not None:
            return self._read(self._region)
        while (piece := self._body.take_nowait(PIECE)) is not None:
            if taken := self._taken(piece):
                return taken
        return None

    async def next(self) -> bytes | End:
        """Return the next bytes, waiting for them if need be.

        Raises:
            ContentError: If it does not fit its length or its file.
            CacheStreamError: If it cannot be completed.
        """
        while True:
            piece = self.take_nowait()
            if piece is not None:
                return piece
            if taken := self._taken(await self._body.next(PIECE)):
                return taken

    @property
    def is_over(self) -> bool:
        """Whether nothing follows, as far as can be said at once.

        Raises:
            ContentError: If something follows all the bytes that were promised.
        """
        if self._missing != 0 or self._region is not None or self._lead:
            return False
        return isinstance(self.take_nowait(), End)

    def _taken(self, piece: Piece | End) -> bytes | End:
        if isinstance(piece, End):
            if self._missing:
                raise ContentError(f"the content ends {self._missing} bytes too early")
            self._ended = True
            return piece
        if isinstance(piece, FileRegion):
            self._account(piece.length)
            return self._read(piece) if piece.length else b""
        data = piece if isinstance(piece, bytes) else bytes(piece)
        self._account(len(data))
        return data

    def _account(self, size: int) -> None:
        if self._missing is None:
            return
        if size > self._missing:
            raise ContentError(f"the content has {size - self._missing} bytes too many")
        self._missing -= size

    def _read(self, region: FileRegion) -> bytes:
        """Return the start of a region; the rest is next."""
        try:
            data = os.pread(region.descriptor, min(region.length, PIECE), region.offset)
        except OSError as error:
            raise ContentError(f"the file cannot be read: {error}") from error
        if not data:
            raise ContentError("the file is shorter than the region to send")
        left = region.length - len(data)
        self._region = (
            FileRegion(region.descriptor, region.offset + len(data), left) if left else None
        )
        return data
