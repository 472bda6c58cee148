"""Which promises the doctor leaves out, and why: they need more than a plug-in's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cachestream.registry import Kind

__all__ = ["LEFT_OUT"]

_DOOR: Final = "needs a back door to the bytes"
_CRASH: Final = "needs a way to end the store as a crash does; a killed process stands for it"
_LONG: Final = "moves much, or takes long"
_MODEL: Final = "runs many random steps, with crashes"

LEFT_OUT: Final[Mapping[Kind, Mapping[str, str]]] = {
    "store": {
        "test_a_deleted_entry_stays_deleted_after_a_crash": _CRASH,
        "test_a_store_does_what_its_model_does": _MODEL,
        "test_an_unpublished_entry_vanishes_in_a_crash": _CRASH,
        "test_bytes_that_fail_their_check_become_a_hole": _DOOR,
        "test_closing_a_writer_commits": _CRASH,
        "test_closing_an_entry_commits": _CRASH,
        "test_committed_bytes_survive_a_crash": _CRASH,
        "test_data_reaches_the_medium_before_the_index_says_so": _DOOR,
        "test_discarded_bytes_stay_forgotten_after_a_crash": _CRASH,
        "test_unverified_bytes_are_given_to_nobody": _DOOR,
    },
    "transport": {
        "test_a_full_sink_is_waited_for": _LONG,
        "test_many_exchanges_at_a_time": _LONG,
        "test_what_is_not_http_raises": _LONG,
    },
    "frontend": {
        "test_content_is_exact": _LONG,
        "test_disconnect_ends_the_sending": _LONG,
        "test_fast_client_starves_nobody": _LONG,
        "test_leaving_leaves_nothing": _LONG,
        "test_slow_client_holds_one_piece": _LONG,
    },
}
"""By kind and name of the test. The contract in an author's own tests leaves nothing out."""
