"""The process of a `SwiftServer`: proxy, account, container and object server on loopback.

Run by path, ``python -P _swift_process.py DIRECTORY PAGE-SIZE``, and not as a module of
cachestream: eventlet must replace the sockets before anything else is imported. The parent's
end of standard input is the line of life: when it closes, because the parent closed it or
died, the process removes its directory and ends. It prints its port once all four servers
listen.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import sys
import threading
from math import inf
from time import monotonic
from typing import Any, Final

ACCOUNT: Final = "testing"
USER: Final = "tester"
SECRET: Final = "secret-of-tester"
_SERVERS: Final = ("account", "container", "object")

_COMMON: Final = """
[DEFAULT]
bind_ip = 127.0.0.1
swift_dir = {root}
devices = {root}
mount_check = false
workers = 0
user = {user}
log_level = WARNING
disable_fallocate = true
fallocate_reserve = 0
"""
_BACKEND: Final = """
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
recon_cache_path = {root}
# A disk server of a test serves one client; its helper threads would only wait.
threads_per_disk = 0
"""
# The order is that of the sample configuration; a cache of the process is the memcached.
_PROXY: Final = """
[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats tempurl s3api tempauth \
  copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
paste.filter_factory = __main__:cache_factory
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:tempurl]
use = egg:swift#tempurl
allowed_digests = sha256 sha512
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
max_bucket_listing = {page_size}
[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user_name} = {secret} .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


class _Cache:
    """What Swift asks of a memcached: values with an end, kept as JSON as they would be."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, float]] = {}

    def set(self, key: str, value: Any, *_: Any, time: float = 0, **__: Any) -> None:
        self._values[key] = (json.dumps(value), monotonic() + time if time else inf)

    def get(self, key: str, *_: Any, **__: Any) -> Any:
        value, end = self._values.get(key, ("null", inf))
        return json.loads(value) if monotonic() < end else None

    def delete(self, key: str, *_: Any, **__: Any) -> None:
        self._values.pop(key, None)

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        value = max(0, int(self.get(key) or 0) + delta)
        self.set(key, value, time=time)
        return value

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        return self.incr(key, -delta, time)


def cache_factory(*_: Any, **__: Any) -> Any:
    """Return the filter that gives every request the one cache."""
    cache = _Cache()

    def wrap(app: Any) -> Any:
        def call(environ: dict[str, Any], start_response: Any) -> Any:
            environ["swift.cache"] = cache
            return app(environ, start_response)

        return call

    return wrap


def _leave_with_parent(root: str) -> None:
    """Wait, in a thread of its own, for the end of standard input; then end everything."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    shutil.rmtree(root, ignore_errors=True)
    # From a thread, and past everything that might wait: nothing here is worth keeping.
    os._exit(0)


def _listeners() -> dict[str, Any]:
    """Return a listening socket for each server, on a free port of the loopback interface."""
    from eventlet.green import socket as green_socket

    found = {}
    for kind in ("proxy", *_SERVERS):
        listener = green_socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        found[kind] = listener
    return found


def _write_rings(root: str, ports: dict[str, int]) -> None:
    """Write the rings: one device, one replica, sixteen partitions."""
    from swift.common.ring import RingBuilder

    names = {"account": "account", "container": "container", "object": "object"}
    for kind, name in names.items():
        builder = RingBuilder(4, 1, 0)
        builder.add_dev(
            {
                "id": 0,
                "region": 1,
                "zone": 1,
                "ip": "127.0.0.1",
                "port": ports[kind],
                "device": "disk",
                "weight": 1.0,
            }
        )
        builder.rebalance()
        builder.get_ring().save(os.path.join(root, f"{name}.ring.gz"))


def _write_configuration(root: str, page_size: int) -> None:
    """Write swift.conf and the configuration of the four servers."""
    import pwd

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    facts = {
        "root": root,
        "user": user,
        "account": ACCOUNT,
        "user_name": USER,
        "secret": SECRET,
        "page_size": page_size,
    }
    texts = {f"{kind}-server": _COMMON + _BACKEND.replace("{kind}", kind) for kind in _SERVERS}
    texts["proxy-server"] = _COMMON + _PROXY
    texts["swift"] = "[swift-hash]\nswift_hash_path_suffix = cachestream\n"
    for name, text in texts.items():
        with open(os.path.join(root, f"{name}.conf"), "w", encoding="utf-8") as file:
            file.write(text.format(**facts))


def _choose_hub_once(hubs: Any, kind: Any) -> None:
    """Make and keep the event loop of this thread, and let others have their own.

    Each server chooses one when it starts, which would throw away the one that runs the
    servers before it.
    """
    choose = hubs.use_hub

    def choose_if_none(*args: Any) -> None:
        if getattr(hubs._threadlocal, "hub", None) is None:
            choose(*args)

    choose(kind)
    hubs.get_hub()
    hubs.use_hub = choose_if_none


def _serve(root: str, page_size: int) -> None:
    """Run the four servers until the process ends."""
    import eventlet
    import eventlet.hubs
    from swift.common import utils
    from swift.common.utils import logs
    from swift.common.wsgi import loadwsgi, run_server

    # Log to standard error alone: the system's log is none of a test's business.
    logs.ThreadSafeSysLogHandler = lambda **_: logging.NullHandler()
    logs.get_swift_logger.console_handler4logger = {}
    _choose_hub_once(eventlet.hubs, utils.get_hub())
    listeners = _listeners()
    _write_configuration(root, page_size)
    _write_rings(root, {kind: each.getsockname()[1] for kind, each in listeners.items()})
    utils.set_swift_dir(root)
    utils.disable_fallocate()
    # What is lost with the machine is no loss, and waiting for disks is most of the time.
    os.fsync = os.fdatasync = lambda fd: None
    ready = []
    running = []
    for kind, listener in listeners.items():
        path = os.path.join(root, f"{kind}-server.conf")
        conf = loadwsgi.appconfig(f"config:{path}", name=f"{kind}-server")
        logger = utils.get_logger(conf, f"{kind}-server", log_route=kind)
        event = eventlet.Event()
        running.append(
            eventlet.spawn(
                run_server,
                conf,
                logger,
                listener,
                global_conf={"log_name": f"{kind}-server"},
                ready_callback=lambda event=event: event.send(None),
            )
        )
        # A server that cannot start must end the process, not wait for its own event.
        running[-1].link(lambda thread, event=event: event.ready() or event.send(None))
        ready.append(event)
    for event in ready:
        event.wait()
    for thread in running:
        if thread.dead:
            thread.wait()
    sys.stdout.write(f"{listeners['proxy'].getsockname()[1]}\n")
    sys.stdout.flush()
    for thread in running:
        thread.wait()


def main(root: str, page_size: str) -> None:
    """Run the servers with all their state under ``root``."""
    threading.Thread(target=_leave_with_parent, args=(root,), daemon=True).start()
    os.makedirs(os.path.join(root, "disk"))
    from swift.common import utils

    utils.monkey_patch()
    _serve(root, int(page_size))


if __name__ == "__main__":
    main(*sys.argv[1:])
