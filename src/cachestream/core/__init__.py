"""What HTTP says and what to fetch next: no I/O, no clock, no randomness, no event loop.

Modules here are fed facts (fields, spans, times) and return values or named decisions.
Text that comes from outside is parsed to a value, to None when HTTP lets us ignore it,
or to one of our own errors; it never raises anything else.
"""
