"""Ways into programs that have a place for others to plug into; each imports its host lazily.

- `cachestream.integrations.mpv`: a protocol of libmpv, through python-mpv
- `cachestream.integrations.jupyter`: a server behind jupyter-server-proxy
"""

__all__: list[str] = []
