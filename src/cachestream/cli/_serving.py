"""`serve` and `play`: commands with a local server."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import signal
from typing import TYPE_CHECKING, Final

import click

from cachestream import descriptors
from cachestream.cli._exits import EPILOG, Failure
from cachestream.cli._notify import Notifier
from cachestream.cli._options import (
    ALL,
    FRONTEND,
    ORIGIN,
    PLUGINS,
    STORE,
    STREAM,
    SettingsCommand,
    with_settings,
)
from cachestream.cli._output import notice
from cachestream.cli._session import open_cache, run
from cachestream.cli._values import DurationType
from cachestream.config import Configuration

if TYPE_CHECKING:
    from cachestream.manager import CacheManager

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "play", "serve"]

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 4612
"""Where `serve` listens and what `url` prints, so that local URLs survive a restart."""

_PLAYERS: Final = ("mpv", "vlc", "ffplay")


@click.command(cls=SettingsCommand, epilog=EPILOG)
@click.option(
    "--exit-when-idle",
    type=DurationType(),
    help="End when nobody asked and nothing was fetched for so long; a socket unit starts it anew.",
)
@with_settings(PLUGINS, FRONTEND, ALL, port=DEFAULT_PORT, socket_activation=True)
def serve(given: Configuration, exit_when_idle: float | None) -> None:
    """Serve local URLs until told to stop; the first line printed is the base URL.

    On a loopback address any upstream host may be asked; --allow names those that may.
    SIGTERM and Ctrl-C end it cleanly. A service manager is told when it is ready.
    """
    run(_serve(given, exit_when_idle))


async def _serve(given: Configuration, exit_when_idle: float | None) -> None:
    descriptors.raise_limit()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    notifier = Notifier.from_environment()
    open_to_all = given.get("allow_hosts") is None and _is_private(given)
    settings: dict[str, object] = {"allow_hosts": ("any",)} if open_to_all else {}
    settings["admin_port"] = given.get("admin_port")
    async with open_cache(given, start_server=True, **settings) as cache:
        click.echo(cache.base_url)
        notice(f"keeping bytes in {cache.settings.cache_dir}")
        if cache.settings.socket_path is not None and not cache.settings.public_url:
            notice(f"listening on {cache.settings.socket_path}")
        if cache.admin_url is not None:
            notice(f"health and metrics at {cache.admin_url}/-/metrics")
        if open_to_all:
            notice("any upstream host may be asked; --allow HOST narrows it")
        notifier.ready(_status_of(cache))
        await _until_stopped(stopped, cache, notifier, exit_when_idle)
        notifier.stopping()
        # A second signal ends the program at once.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _status_of(cache: CacheManager) -> str:
    seen = cache.statistics()
    return f"serving {cache.base_url}: {seen.requests} requests, {seen.hits} hits"


async def _until_stopped(
    stopped: asyncio.Event, cache: CacheManager, notifier: Notifier, idle_s: float | None
) -> None:
    """Wait for a signal, or for the time after which nobody needs us."""
    async with asyncio.TaskGroup() as group:
        others = [group.create_task(notifier.beat(cache.ensure_active, lambda: _status_of(cache)))]
        if idle_s is not None:
            others.append(group.create_task(_watch_idleness(cache, idle_s, stopped)))
        await stopped.wait()
        for task in others:
            task.cancel()


async def _watch_idleness(cache: CacheManager, idle_s: float, stopped: asyncio.Event) -> None:
    """Set ``stopped`` when nothing was asked, read or fetched for so long."""
    loop = asyncio.get_running_loop()
    last, since = -1, loop.time()
    while loop.time() - since < idle_s:
        await asyncio.sleep(min(1.0, idle_s / 4))
        seen = cache.statistics()
        if seen.requests != last or seen.open_readers or seen.running_downloads:
            last, since = seen.requests, loop.time()
    notice("nobody asks any more")
    stopped.set()


def _is_private(given: Configuration) -> bool:
    """Tell whether only programs on this machine come in, and by no proxy that we know of."""
    if given.get("public_url") or given.get("socket_path"):
        return False
    # Here and not above: `play` and `--help` have no use for it.
    from cachestream.frontends import count_inherited, passed_only_loopback

    if given.get("socket_activation") is not False and count_inherited():
        return passed_only_loopback()
    return _is_loopback(given.get("host", DEFAULT_HOST))


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
    own = {"port": 0, "socket_path": None, "socket_activation": False, "public_url": None}
    async with open_cache(given, **own) as cache:
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
