"""What a child process of the doctor does: the role is its argument, the order its stdin."""

from __future__ import annotations

import sys

from cachestream.testing.doctor._order import Order, Report

__all__ = ["main"]


def main(role: str) -> None:
    """Do what ``role`` says."""
    report = Report()
    order = Order.from_json(sys.stdin.buffer.read())
    # Each imports what only it needs: pytest may be missing, and a store may be slow to import.
    if role == "examine":
        from cachestream.testing.doctor._examine import examine

        examine(order, report)
    elif role == "contract":
        from cachestream.testing.doctor._contract import run_contract

        run_contract(order, report)
    elif role == "clean":
        from cachestream.testing.doctor._cleaning import clean

        clean(order, report)
    else:
        from cachestream.testing.doctor._dying import die

        die(order, report)


if __name__ == "__main__":
    main(sys.argv[1])
