"""`demo`: the main job shown on this machine alone."""

import click

from cachestream.cli._exits import EPILOG

__all__ = ["demo"]


@click.command(epilog=EPILOG)
def demo() -> None:
    """Show the main job without a network, in about twenty seconds."""
