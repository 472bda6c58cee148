"""Contestants: servers between a client and an origin, each in its own best setting."""

from benchmarks.contestants._contestant import Contestant, Role
from benchmarks.contestants._ours import Cachestream, Direct
from benchmarks.contestants._peers import Aria2, Nginx, NginxSlice, Rclone, Squid, Varnish
from benchmarks.contestants._python import AiohttpProxy, FsspecBlockcache

__all__ = ["CONTESTANTS", "Aria2", "Contestant", "Role"]

CONTESTANTS: dict[str, type[Contestant]] = {
    contestant.name: contestant
    for contestant in (
        Direct,
        Cachestream,
        Nginx,
        NginxSlice,
        Varnish,
        Rclone,
        Squid,
        FsspecBlockcache,
        AiohttpProxy,
        Aria2,
    )
}
