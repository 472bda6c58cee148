"""`serve` and `play`: commands with a local server."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import signal
from typing import Final

import click

from cachestream.cli._exits import EPILOG, Failure
from cachestream.cli._options import (
    ALL,
    ORIGIN,
    PLUGINS,
    STORE,
    STREAM,
    SettingsCommand,
    with_settings,
)
from cachestream.cli._output import notice
from cachestream.cli._session import open_cache, run
from cachestream.config import Configuration

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "play", "serve"]

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 4612
"""Where `serve` listens and what `url` prints, so that local URLs survive a restart."""

_PLAYERS: Final = ("mpv", "vlc", "ffplay")


@click.command(cls=SettingsCommand, epilog=EPILOG)
@with_settings(PLUGINS, ALL, port=DEFAULT_PORT)
def serve(given: Configuration) -> None:
    """Serve local URLs until told to stop; the first line printed is the base URL.

    On a loopback address any upstream host may be asked; --allow names those that may.
    SIGTERM and Ctrl-C end it cleanly.
    """
    run(_serve(given))


async def _serve(given: Configuration) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    open_to_all = given.get("allow_hosts") is None and _is_loopback(given.get("host", DEFAULT_HOST))
    settings: dict[str, object] = {"allow_hosts": ("any",)} if open_to_all else {}
    settings["admin_port"] = given.get("admin_port")
    async with open_cache(given, start_server=True, **settings) as cache:
        click.echo(cache.base_url)
        notice(f"keeping bytes in {cache.settings.cache_dir}")
        if cache.admin_url is not None:
            notice(f"health and metrics at {cache.admin_url}/-/metrics")
        if open_to_all:
            notice("any upstream host may be asked; --allow HOST narrows it")
        await stopped.wait()
        # A second signal ends the program at once.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@click.command(cls=SettingsCommand, epilog=EPILOG)
@click.argument("url")
@click.argument("player", nargs=-1)
@with_settings(PLUGINS, STORE, STREAM, ORIGIN)
@click.pass_context
def play(
    ctx: click.Context,
    given: Configuration,
    /,
    url: str,
    player: tuple[str, ...],
) -> None:
    """Play URL with a player, through the cache.

    Write the player after two dashes: cachestream play URL -- mpv --no-video

    The local URL comes last on the player's command line, or in the place of {}.
    The player's exit code is this program's.
    """
    ctx.exit(run(_play(given, url, player or _find_player())))


def _find_player() -> tuple[str, ...]:
    for name in _PLAYERS:
        if shutil.which(name):
            return (name,)
    raise Failure(f"none of {', '.join(_PLAYERS)} is installed; name a player after --")


async def _play(given: Configuration, url: str, player: tuple[str, ...]) -> int:
    async with open_cache(given, port=0) as cache:
        local = cache.get_cache_url(url)
        command = [word.replace("{}", local) for word in player]
        if command == list(player):
            command.append(local)
        try:
            process = await asyncio.create_subprocess_exec(*command)
        except OSError as error:
            raise Failure(f"cannot run {command[0]}: {error.strerror}") from error
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
    # A player that was killed has minus the signal's number; shells add 128 to it.
    return code if code >= 0 else 128 - code
