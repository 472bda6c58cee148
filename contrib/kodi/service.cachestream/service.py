"""Runs `cachestream serve` for as long as Kodi runs."""

from __future__ import annotations

import xbmc
import xbmcaddon
import xbmcvfs
from resources.lib.child import Child, command_of

POLL_S = 1.0


class Monitor(xbmc.Monitor):
    """Notices that the settings have changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = False

    def onSettingsChanged(self) -> None:  # noqa: N802  # Kodi calls it so
        """Kodi calls this in the thread of `main`, while that waits."""
        self.changed = True


def log(text: str) -> None:
    """Write a line to Kodi's log."""
    xbmc.log(f"[service.cachestream] {text}", xbmc.LOGINFO)


def make_child() -> Child:
    """Make the child process that the settings describe."""
    addon = xbmcaddon.Addon()
    names = ("program", "port", "cache_dir", "max_size", "arguments")
    settings = {name: addon.getSetting(name) for name in names}
    if settings["cache_dir"]:
        settings["cache_dir"] = xbmcvfs.translatePath(settings["cache_dir"])
    return Child(command_of(settings), int(settings["port"] or 4612), log)


def main() -> None:
    """Keep the cache running until Kodi ends."""
    monitor = Monitor()
    child = make_child()
    try:
        while not monitor.abortRequested():
            if monitor.changed:
                monitor.changed = False
                child.stop()
                child = make_child()
            child.tend()
            monitor.waitForAbort(POLL_S)
    finally:
        child.stop()


if __name__ == "__main__":
    main()
