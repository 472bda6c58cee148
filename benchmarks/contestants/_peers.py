"""Peers that are programs of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import ClassVar, Final

from benchmarks.contestants._contestant import Contestant, authority
from benchmarks.origins import user
from benchmarks.processes import PATH, free_port

__all__ = ["Aria2", "Nginx", "NginxSlice", "Rclone", "Squid", "Varnish"]

# tcp_nopush stays off: with it a client on loopback waits 40 ms for the end of an answer.
_NGINX: Final = """
daemon off; {user} pid {run}/pid; worker_processes auto; worker_rlimit_nofile 16384;
events {{ worker_connections 4096; multi_accept on; }}
http {{
  access_log off; sendfile on; sendfile_max_chunk 2m; tcp_nopush off; tcp_nodelay on;
  keepalive_requests 100000000; keepalive_timeout 600s; reset_timedout_connection on;
  open_file_cache max=200000 inactive=600s; open_file_cache_valid 600s;
  client_body_temp_path {run}/b; proxy_temp_path {run}/p; fastcgi_temp_path {run}/f;
  uwsgi_temp_path {run}/u; scgi_temp_path {run}/s;
  proxy_cache_path {cache} levels=1:2 keys_zone=cache:64m inactive=1d max_size=20g
                   use_temp_path=off;
  upstream origin {{ server {origin}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache cache; proxy_cache_valid 200 206 1d; proxy_cache_lock on;
      proxy_read_timeout 120s;
      proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 256k;
      {mode}
    }}
  }}
}}
"""


class Nginx(Contestant):
    """nginx with a cache of whole files."""

    name = "nginx"
    note = (
        "`proxy_cache` with a lock, a worker for each core, `sendfile`, `open_file_cache`, "
        "no access log, `tcp_nopush` off, connections to the origin kept"
    )
    programs = ("nginx",)
    version_command = ("nginx", "-v")
    mode: ClassVar[str] = "proxy_cache_key $uri;"

    def start(self, folder: Path, origin: str) -> str:
        """Write its configuration and run it."""
        port = free_port()
        run = folder / "run"
        run.mkdir(parents=True, exist_ok=True)
        config = run / "nginx.conf"
        config.write_text(
            _NGINX.format(
                user=user(),
                run=run,
                cache=folder / "cache",
                origin=authority(origin),
                port=port,
                mode=self.mode,
            )
        )
        return self.launch(["nginx", "-c", config, "-e", run / "error.log"], port, folder)


class NginxSlice(Nginx):
    """nginx with a cache of parts of files."""

    name = "nginx-slice"
    note = "as nginx, by parts of 1 MiB (`slice 1m`)"
    mode = "slice 1m; proxy_cache_key $uri$slice_range; proxy_set_header Range $slice_range;"


class Varnish(Contestant):
    """Varnish, which keeps everything in memory."""

    name = "varnish"
    note = "2 GiB of memory as storage, its own VCL, streaming, a day of freshness"
    programs = ("varnishd",)
    version_command = ("varnishd", "-V")
    cannot = dict.fromkeys(("S8", "S10", "entries", "stall"), "keeps nothing on disk")

    def start(self, folder: Path, origin: str) -> str:
        """Run it in the foreground, without a management port."""
        port = free_port()
        # The path of its socket there has a limit that ours may exceed.
        self._work = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        where = ["-n", self._work.name, "-a", f"127.0.0.1:{port}", "-b", authority(origin)]
        storage = ["-s", "malloc,2G", "-t", "86400", "-p", "thread_pool_min=200"]
        command = ["varnishd", "-F", "-j", "none", "-T", "none", *where, *storage]
        return self.launch(command, port, folder)


class Rclone(Contestant):
    """rclone's virtual file system over HTTP, served by HTTP."""

    name = "rclone"
    note = (
        "`serve http` with `--vfs-cache-mode full`, parts of 1 MiB growing to 64 MiB, no buffer "
        "(with one it fetches again at each seek)"
    )
    programs = ("rclone",)
    version_command = ("rclone", "version")

    def start(self, folder: Path, origin: str) -> str:
        """Run it without any configuration of the user's."""
        port = free_port()
        source = ["serve", "http", ":http:", "--http-url", origin, "--config", os.devnull]
        cache = ["--cache-dir", folder / "cache", "--vfs-cache-mode", "full"]
        times = ["--vfs-cache-max-age", "24h", "--dir-cache-time", "24h"]
        parts = ["--vfs-read-chunk-size", "1M", "--vfs-read-chunk-size-limit", "64M"]
        more = ["--buffer-size", "0", "--read-only", "--addr", f"127.0.0.1:{port}"]
        return self.launch(["rclone", *source, *cache, *times, *parts, *more], port, folder)


_SQUID: Final = """
http_port 127.0.0.1:{port} accel defaultsite={origin} no-vhost
cache_peer {host} parent {origin_port} 0 no-query no-digest no-netdb-exchange originserver name=o
cache_peer_access o allow all
never_direct allow all
http_access allow all
icp_port 0
pid_filename none
access_log none
cache_store_log none
cache_log {folder}/cache.log
coredump_dir {folder}
visible_hostname benchmark
shutdown_lifetime 1 seconds
maximum_object_size 4 GB
cache_dir aufs {folder}/cache 20000 16 256
cache_mem 256 MB
collapsed_forwarding on
range_offset_limit none
quick_abort_min -1 KB
max_filedescriptors 16384
refresh_pattern . 1440 100% 1440
"""


class Squid(Contestant):
    """Squid as an accelerator."""

    name = "squid"
    note = (
        "accelerator, `aufs` on disk and 256 MB in memory, collapsed forwarding, whole files for "
        "ranges (`range_offset_limit none`), downloads are not given up"
    )
    programs = ("squid",)
    version_command = ("squid", "-v")

    def start(self, folder: Path, origin: str) -> str:
        """Write its configuration, lay its folders out once, and run it."""
        port = free_port()
        host, _, origin_port = authority(origin).rpartition(":")
        config = folder / "squid.conf"
        fresh = not (folder / "cache").exists()
        (folder / "cache").mkdir(parents=True, exist_ok=True)
        config.write_text(
            _SQUID.format(
                port=port,
                origin=authority(origin),
                host=host,
                origin_port=origin_port,
                folder=folder,
            )
        )
        if fresh:
            self._lay_out(folder, config)
        return self.launch(["squid", "-N", "-f", config], port, folder)

    def _lay_out(self, folder: Path, config: Path) -> None:
        if os.geteuid() == 0:  # it will not be root itself
            for path in (folder, folder / "cache"):
                shutil.chown(path, "proxy", "proxy")
        subprocess.run(
            [shutil.which("squid", path=PATH) or "squid", "-N", "-z", "-f", config],
            check=True,
            capture_output=True,
            timeout=60,
        )


class Aria2(Contestant):
    """aria2, which is no server: what several connections give at best."""

    name = "aria2-x8"
    note = "`aria2c -x8 -s8 -k1M`: a downloader with eight connections, no server"
    role = "mark"
    programs = ("aria2c",)
    version_command = ("aria2c", "-v")
    cannot = dict.fromkeys(
        (*(f"S{n}" for n in range(1, 11) if n != 7), "clients", "entries", "sizes", "stall"),
        "a downloader, no server",
    )

    def start(self, folder: Path, origin: str) -> str:
        """Do nothing yet."""
        return origin

    def download(self, url: str, file: Path) -> None:
        """Download a file.

        Raises:
            subprocess.CalledProcessError: If that fails.
        """
        where = ["-d", str(file.parent), "-o", file.name]
        how = ["-x", "8", "-s", "8", "-k", "1M", "--file-allocation=none", "--no-conf", "-q"]
        subprocess.run(["aria2c", *how, *where, url], check=True, timeout=120)
