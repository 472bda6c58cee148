"""cachestream and its peers on the same work, in one run: ``python -m benchmarks --help``.

A *contestant* is a server that stands between a client and an origin. A *scenario* is work
that one of them is given in a *cell*: fresh folders, a fresh origin, a time limit. What is
measured is a list of *figures*; each is repeated in turns, and its median is compared with
that of others of the same run, and with a *bar*.
"""
