"""How hypothesis works in all tests: a busy machine makes nothing wrong."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "cachestream", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("cachestream")
