"""How far all readers together may be fetched for in advance, and what each gets of it."""

from __future__ import annotations

__all__ = ["AheadBudget"]


class AheadBudget:
    """Bytes before playheads, granted to readers (engine rule 5).

    While there is enough each gets what it asks for. When there is not, each may have an equal
    share, and what some do not need goes to the others as they ask.

    Args:
        limit: Most that all of them may have together, in bytes. Just the leasts, and what
            was granted before somebody else came, may exceed it for a while.

    Example:
        >>> budget = AheadBudget(100)
        >>> budget.grant("a", 80, least=1), budget.grant("b", 80, least=1)
        (80, 50)
        >>> budget.grant("a", 80, least=1)
        50
        >>> budget.release("b")
        >>> budget.grant("a", 80, least=1)
        80
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.granted = 0
        self._grants: dict[object, int] = {}

    def grant(self, reader: object, wanted: int, *, least: int) -> int:
        """Return how many of ``wanted`` bytes a reader may be fetched for in advance.

        That replaces what it had, and is no less than ``least``, as far as so much is wanted.
        """
        others = self.granted - self._grants.get(reader, 0)
        count = len(self._grants) + (reader not in self._grants)
        most = max(self.limit - others, self.limit // count)
        grant = max(min(least, wanted), min(wanted, most))
        self._grants[reader] = grant
        self.granted = others + grant
        return grant

    def release(self, reader: object) -> None:
        """Take back what a reader had; it needs no more, or not now."""
        self.granted -= self._grants.pop(reader, 0)
