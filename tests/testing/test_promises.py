"""Every promise of an interface has a test that is still there.

`PROMISES` says for each sentence of a docstring in `cachestream.abc` which tests hold it. A
sentence that is new, or reads otherwise than it did, fails here until somebody says which test
that is; so does a test that vanished. What a sentence only describes, or asks of the caller, is
said to be so.
"""

import ast
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

from cachestream import abc
from cachestream.abc import Transport, UpstreamRequest, UpstreamResponse
from cachestream.testing import (
    FrontendContract,
    HandlerContract,
    StoreContract,
    TransportContract,
)
from cachestream.testing.transports import Collector

TESTS = Path(__file__).parents[1]
CONTRACTS = {
    "store": StoreContract,
    "transport": TransportContract,
    "frontend": FrontendContract,
    "handler": HandlerContract,
}

IS = "it says what something is"
CALLER = "it asks something of the caller"
AUTHOR = "it tells an author how to write one"

# From the beginning of a sentence to the tests that hold it: `contract.name` for a test of a
# contract (without `test_`), `path::name` for one of ours alone.
PROMISES = {
    "UpstreamResponse": {
        "An origin's answer: head at once": "transport.silence_in_the_content_times_out",
        "It is an async context manager": "transport.leaving_early_releases_the_connection",
        "An author implements ``__aiter__``": "testing/test_promises.py::test_either_way_is_enough",
        "status: The status code": "transport.every_status_is_data",
        "fields: The fields as they came": "transport.fields_are_returned_as_they_came",
        "url: The URL that answered": "transport.redirects_are_not_followed",
        "request_time:": "transport.times_are_taken",
        "response_time:": "transport.times_are_taken",
    },
    "UpstreamResponse.__aiter__": {
        "Iterate over the content as received": "transport.no_content_coding_is_removed",
        "A clean end is the end": "transport.content_can_be_iterated",
        "An end that HTTP does not": "transport.truncated_content_raises_in_an_iteration",
    },
    "UpstreamResponse.pour": {
        "Give every piece of the content": "transport.content_is_poured_whole_and_in_order",
        "True after a clean end": "transport.empty_content_is_a_clean_end "
        "transport.a_sink_that_wants_no_more_ends_the_pouring",
        "TransportError: If the content ends": "transport.truncated_content_raises "
        "transport.silence_in_the_content_times_out",
    },
    "UpstreamResponse.aclose": {
        "Release the connection; idempotent": "transport.leaving_early_releases_the_connection",
    },
    "Sink": {"Where an upstream response": IS},
    "Sink.write": {
        "Take ``piece`` over": "transport.content_is_poured_whole_and_in_order",
        "True to go on": "transport.content_is_poured_whole_and_in_order",
        "False means: call `drain`": "transport.a_full_sink_is_waited_for",
    },
    "Sink.drain": {
        "Wait until there is room; False": "transport.a_full_sink_is_waited_for "
        "transport.a_sink_that_wants_no_more_ends_the_pouring",
    },
    "Transport": {
        "Fetches from origins: one exchange": "transport.redirects_are_not_followed "
        "transport.no_answer_raises_after_one_request "
        "transport.exchanges_know_nothing_of_each_other",
        "One instance serves all": "transport.many_exchanges_at_a_time",
        "To sign requests override": "transports/test_http.py::"
        "test_a_subclass_signs_by_overriding_prepare",
        "schemes: URL schemes": "transport.schemes_are_lower_case",
    },
    "Transport.prepare": {
        "Return the request to send": "transport.prepare_keeps_what_is_asked_for "
        "_engine/test_exchange.py::test_every_hop_is_prepared",
        "So a signature is made": "_engine/test_exchange.py::test_every_hop_is_prepared",
        "The engine may drop": "_engine/test_exchange.py::"
        "test_credentials_end_where_the_origin_changes_and_do_not_come_back",
    },
    "Transport.refresh": {
        "Return a new URL for ``source``": "transport.refresh_gives_a_url_or_none",
        "Asked when the origin answers 401": "_engine/test_retrying.py::"
        "test_a_refusal_may_renew_the_url_a_few_times",
    },
    "Transport.fetch": {
        "Perform one exchange": "transport.content_is_poured_whole_and_in_order",
        "Redirects are not followed": "transport.redirects_are_not_followed",
        "Every status code is returned": "transport.every_status_is_data",
        "The request is sent as it is": "transport.fields_are_sent_as_they_are "
        "transport.targets_are_sent_exactly transport.identity_is_asked_for",
        "ConnectError: If no connection": "transport.refused_connections_raise",
        "UpstreamTimeoutError: If connecting": "transport.silence_before_the_head_times_out",
        "UpstreamProtocolError: If what came": "transport.what_is_not_http_raises",
        "InvalidURLError: If the URL": "transport.urls_that_cannot_be_asked_raise",
        "ClosedError: After `aclose`": "transport.close_is_idempotent_and_final",
    },
    "Transport.aclose": {
        "Close idle connections and those in use": "transport.close_is_idempotent_and_final "
        "transport.close_ends_what_is_under_way",
    },
    "HeldContent": {
        "What is held of a resource": IS,
        "The engine gives it with": "transports/test_mirrors_sampling.py::"
        "test_a_download_goes_on_at_a_mirror_with_other_tags",
        "A transport that goes to another place": "transports/test_mirrors_sampling.py::"
        "test_other_bytes_of_the_same_length_are_caught",
    },
    "HeldContent.representation": {
        "Which version the bytes are of": "_engine/test_witness.py::"
        "test_samples_are_the_bytes_that_are_held",
    },
    "HeldContent.samples": {
        "Return up to ``count`` spans": "_engine/test_witness.py::"
        "test_samples_are_the_bytes_that_are_held",
        "None of them is empty": "_engine/test_witness.py::"
        "test_random_spans_are_held_disjoint_and_bounded",
        "There are fewer, or none": "_engine/test_witness.py::test_what_cannot_be_read_is_left_out",
    },
    "HeldContent.differs": {
        "Note that ``url`` has other bytes": "_engine/test_witness.py::"
        "test_a_place_that_differs_is_told_to_listeners",
    },
    "StoreCapabilities": {
        "What a store can do, stated once": "store.what_a_store_can_do_is_stated_once",
        "persistent: Committed bytes": "store.a_closed_store_opens_with_all_it_had",
        "zero_copy:": "store.a_region_is_a_stored_prefix_in_a_file",
        "partial_eviction:": "store.discard_gives_room_back",
        "external_files:": "store.a_file_is_refused_unless_it_is_supported",
    },
    "EntryRecord": {
        "What a store knows of one": "store.a_record_says_what_is_known",
        "entry_id: The store's name": "store.an_entry_says_what_it_is",
        "key:": "store.a_record_says_what_is_known",
        "source:": "store.a_record_says_what_is_known",
        "representation:": "store.a_record_says_what_is_known",
        "stored_bytes:": "store.a_record_says_what_is_known",
        "allocated_bytes:": "store.a_record_says_what_is_known",
        "created:": "store.a_record_says_what_is_known",
        "accessed:": "store.records_by_access_are_least_recently_used_first",
        "pinned:": "store.open_and_pinned_entries_do_not_give_way",
        "file:": "store.a_file_is_refused_unless_it_is_supported",
    },
    "EntryRecord.complete": {"Whether every byte is stored": "store.an_entry_may_be_empty"},
    "StoreUsage": {
        "How full a store is": "store.usage_says_how_full_the_store_is",
        "entries: Number of published": "store.usage_says_how_full_the_store_is",
        "allocated_bytes: Room all entries": "store.usage_says_how_full_the_store_is",
        "limit_bytes:": "store.usage_says_how_full_the_store_is",
        "evicted_entries:": "store.usage_counts_what_gave_way",
        "evicted_bytes:": "store.usage_counts_what_gave_way",
        "failed_commits:": "backends/test_commits.py::test_what_failed_is_committed_with_the_next",
    },
    "FileRegion": {
        "Bytes in an open file": "store.a_region_is_valid_until_its_lease_ends",
        "descriptor:": "store.a_region_is_a_stored_prefix_in_a_file",
        "offset:": "store.a_region_is_a_stored_prefix_in_a_file",
        "length: Number of bytes, at least 1": "store.an_empty_span_has_no_bytes",
    },
    "Lease": {"A promise that bytes stay": "store.leased_bytes_stay_where_they_are"},
    "Lease.release": {"End the promise; idempotent": "store.leased_bytes_stay_where_they_are"},
    "SpanWriter": {
        "Writes consecutive bytes": "store.position_is_where_the_next_byte_goes",
        "Bytes written can be read": "store.bytes_can_be_read_as_soon_as_write_returns",
        "What was not committed": "store.committed_bytes_survive_a_crash",
        "position:": "store.position_is_where_the_next_byte_goes",
    },
    "SpanWriter.write": {
        "Take ``piece`` over and store it": "store.write_takes_any_buffer "
        "store.an_empty_piece_changes_nothing backends/test_writer.py::"
        "test_a_slow_write_sends_the_next_ones_to_a_thread",
        "The caller must not change": CALLER,
        "Bytes that are stored": "store.bytes_that_are_stored_already_are_not_written_again",
        "True to go on": "store.drain_makes_room_for_more",
        "False means: call `drain`": "store.drain_makes_room_for_more",
        "StoreFullError: If there is no room": "store.when_nothing_may_give_way_the_store_is_full",
        "StoreError: If the medium fails": "backends/test_writer.py::"
        "test_a_write_that_fails_stores_nothing",
        "Nothing of the piece counts": "store.nothing_of_a_piece_without_room_counts_as_stored",
    },
    "SpanWriter.drain": {
        "Return when at most the high-water": "store.drain_makes_room_for_more "
        "store.a_step_that_was_cancelled_can_be_repeated",
        "StoreError: If flushing failed": "backends/test_writer.py::"
        "test_bytes_that_could_not_be_flushed_are_holes",
    },
    "SpanWriter.commit": {
        "Return when everything written": "store.committed_bytes_survive_a_crash "
        "store.a_store_does_what_its_model_does",
        "Data reaches the medium": "store.data_reaches_the_medium_before_the_index_says_so",
    },
    "SpanWriter.aclose": {
        "Commit what was written": "store.closing_a_writer_commits "
        "store.aclose_is_idempotent_and_ends_the_writer "
        "store.a_step_that_was_cancelled_can_be_repeated",
    },
    "Entry": {
        "One representation's bytes": "store.an_entry_says_what_it_is",
        "Several readers and writers": "store.readers_and_writers_use_an_entry_at_a_time "
        "store.several_writers_fill_disjoint_holes",
        "entry_id:": "store.an_entry_says_what_it_is",
        "key:": "store.an_entry_says_what_it_is",
        "source:": "store.an_entry_says_what_it_is",
        "writable: False if another": "store.one_store_at_a_time_writes_an_entry "
        "store.bytes_another_store_reads_are_not_overwritten_with_zeros",
    },
    "Entry.representation": {"Which version this entry": "store.update_replaces_what_is_known"},
    "Entry.spans": {
        "Which bytes can be read now": "store.a_store_does_what_its_model_does",
        "The live set: look": "store.spans_is_the_live_set",
    },
    "Entry.read_nowait": {
        "Return exactly the bytes": "store.bytes_can_be_read_as_soon_as_write_returns",
        "None too when part": "store.read_nowait_of_missing_bytes_is_none "
        "store.unverified_bytes_are_given_to_nobody",
    },
    "Entry.read": {
        "Return exactly the bytes": "store.discard_forgets_exactly_what_it_says "
        "store.an_empty_span_has_no_bytes",
        "StoreCorruptError:": "store.bytes_that_fail_their_check_become_a_hole",
        "NotStoredError:": "store.a_hole_is_never_read_as_zeros",
        "A hole is never read as zeros": "store.a_hole_is_never_read_as_zeros "
        "store.discarded_bytes_stay_forgotten_after_a_crash",
        "StoreError: If the medium": "backends/test_reading.py::"
        "test_a_disk_that_fails_is_a_store_error",
    },
    "Entry.region_nowait": {
        "Return where ``span`` lies": "store.a_region_is_a_stored_prefix_in_a_file",
        "The region may be shorter": "store.a_region_is_a_stored_prefix_in_a_file "
        "store.an_empty_span_has_no_bytes",
        "None when the store": "store.unverified_bytes_are_given_to_nobody "
        "store.a_hole_is_never_read_as_zeros",
        "A store may say None": "backends/test_reading.py::"
        "test_cold_bytes_are_not_sent_from_the_file",
    },
    "Entry.lease": {"Keep stored bytes": "store.leased_bytes_stay_where_they_are"},
    "Entry.writer": {
        "Return a writer whose": "store.position_is_where_the_next_byte_goes",
        "StoreBusyError:": "store.one_store_at_a_time_writes_an_entry",
    },
    "Entry.publish": {
        "Make the entry visible": "store.an_entry_is_invisible_until_it_is_published "
        "store.publishing_supersedes_the_same_variant "
        "store.of_many_who_publish_at_a_time_one_succeeds",
        "StoreConflictError:": "store.who_publishes_second_is_told "
        "store.another_variant_is_no_conflict",
    },
    "Entry.update": {
        "Replace what is known": "store.update_replaces_what_is_known "
        "store.what_is_learned_is_kept",
    },
    "Entry.discard": {
        "Forget the unleased bytes": "store.discard_forgets_exactly_what_it_says "
        "store.leased_bytes_stay_where_they_are store.discarded_bytes_can_be_written_again",
    },
    "Entry.aclose": {
        "Commit, and give the handle up": "store.closing_an_entry_commits "
        "store.a_closed_entry_does_nothing_more",
        "An unpublished entry vanishes": "store.an_unpublished_entry_vanishes_when_it_is_closed "
        "store.an_unpublished_entry_vanishes_in_a_crash",
    },
    "Store": {
        "Keeps entries by key; opening": "backends/test_room.py::"
        "test_opening_and_evicting_do_not_depend_on_the_number_of_entries",
        "A store is opened with": "store.a_store_opens_by_first_use_and_closes_once",
        "capabilities:": "store.what_a_store_can_do_is_stated_once",
    },
    "Store.select": {
        "Return the published entries": "store.variants_stay_beside_each_other_newest_first "
        "store.a_variant_does_not_depend_on_the_order_of_vary",
    },
    "Store.create": {
        "Make a new, empty entry": "store.an_entry_is_invisible_until_it_is_published",
        "file: Where the data shall lie": "store.a_file_is_refused_unless_it_is_supported",
        "StoreFullError:": "store.a_store_without_any_room_makes_no_entry",
        "StoreError: If the medium": "store.a_file_is_refused_unless_it_is_supported "
        "backends/test_host.py::test_a_directory_that_vanishes_is_a_store_error",
    },
    "Store.open": {
        "Open a published entry; handles": "store.handles_of_one_entry_share_their_bytes "
        "store.handles_opened_at_a_time_share_their_bytes",
        "EntryNotFoundError:": "store.opening_what_is_not_there_says_so",
    },
    "Store.delete": {
        "Delete an entry; open handles": "store.open_handles_of_a_deleted_entry_stay_readable "
        "store.a_deleted_entry_stays_deleted_after_a_crash",
        "Nothing happens if there is none": "store.deleting_nothing_does_nothing",
    },
    "Store.records": {
        "Return up to ``limit``": "store.records_are_paged_by_identifier",
        "after:": "store.records_are_paged_by_identifier",
        "order:": "store.records_by_access_are_least_recently_used_first",
    },
    "Store.touch": {
        "Note that an entry is used": "store.touch_sets_the_pin_and_leaves_it "
        "store.least_recently_used_entries_give_way",
    },
    "Store.has_authority": {
        "Tell whether a published": "store.has_authority_knows_the_origins_of_published_entries",
    },
    "Store.usage": {
        "Return how full the store is": "store.usage_says_how_full_the_store_is "
        "store.usage_never_exceeds_the_limit",
    },
    "Store.aclose": {
        "Commit everything and close": "store.a_closed_store_opens_with_all_it_had "
        "store.a_store_opens_by_first_use_and_closes_once",
        "Entries must be closed before": CALLER,
    },
    "RequestHead": {
        "A client's request without content": "frontend.content_of_get_is_refused "
        "frontend.content_of_post_is_no_request",
        "method:": "frontend.method_reaches_the_handler",
        "target:": "frontend.target_is_raw",
        "fields:": "frontend.fields_are_all_there",
        "version:": "frontend.version_is_told",
        "served: Authorities": "frontend.peer_and_authorities_are_told",
        "Empty when the frontend": "frontends/test_asgi.py::"
        "test_any_host_where_the_application_checks",
        "client:": "frontend.peer_and_authorities_are_told",
    },
    "AnswerHead": {
        "Status and fields that many": "frontend.shared_head_serves_many_answers",
        "A frontend may keep": "frontends/test_heads.py::test_shared_head_is_rendered_once",
        "Control characters never occur": "handler.no_field_breaks_the_head "
        "frontend.control_characters_never_leave",
    },
    "Body": {
        "The content of an answer": "frontend.slow_client_holds_one_piece",
        "A piece is leased until": "handler.a_piece_is_good_until_the_next_call "
        "frontend.content_is_exact",
    },
    "Body.take_nowait": {
        "Return the next piece": "handler.take_nowait_gives_what_next_would",
        "CacheStreamError:": "handler.content_that_breaks_off_raises frontend.failure_is_visible",
    },
    "Body.next": {
        "Return the next piece": "handler.content_is_given_in_pieces",
        "CacheStreamError:": "handler.content_that_breaks_off_raises frontend.failure_is_visible",
    },
    "Body.close": {
        "Give the last piece back": "handler.closing_is_idempotent_and_disturbs_nobody",
    },
    "Answer": {
        "An answer to one request; the frontend": "frontend.answer_is_closed",
        "head:": "frontend.status_and_fields_are_written",
        "extra:": "handler.a_range_is_a_part frontend.status_and_fields_are_written",
        "length:": "frontend.length_decides_the_framing",
        "body:": "frontend.content_is_exact",
        "A HEAD answer has": "handler.head_has_a_length_and_no_content "
        "frontend.head_has_no_content",
    },
    "Answer.close": {"Close the body": "handler.closing_is_idempotent_and_disturbs_nobody"},
    "Handler": {
        "Answers requests": "handler.content_is_given_in_pieces",
        "All checks of who may come in": "integration/test_frontend_face.py::*",
        "Neither method raises": "handler.a_bad_request_is_answered "
        "handler.a_failing_origin_is_answered",
    },
    "Handler.answer_nowait": {
        "Answer if nothing has to be awaited": "handler.both_routes_answer_alike",
    },
    "Handler.answer": {
        "Answer, waiting for the origin": "handler.content_is_given_in_pieces",
    },
    "Handler.shortcut": {
        "Return how requests that differ": "handler.a_shortcut_answers_alike",
        "A frontend may ask for one": CALLER,
        "A request that would be refused": "handler.only_a_plain_request_has_a_shortcut",
    },
    "Shortcut": {
        "Answers GET requests": "handler.a_shortcut_answers_alike",
        "It stands for the checks": CALLER,
    },
    "Shortcut.alive": {
        "Whether it may still answer": "_engine/test_shortcuts.py::"
        "test_a_shortcut_dies_with_its_version",
    },
    "Shortcut.take": {
        "Return the bytes of one more request": "handler.a_shortcut_answers_alike "
        "_engine/test_shortcuts.py::test_each_answer_is_counted",
        "first:": IS,
        "last:": IS,
        "limit:": "handler.a_shortcut_answers_alike",
        "All that is to be sent": "handler.a_shortcut_answers_alike",
    },
    "Shortcut.rest": {
        "Return the body of what": "handler.the_rest_of_a_shortcut_can_be_had",
        "part:": CALLER,
        "sent:": IS,
    },
    "Slice": {
        "Stored bytes that answer": IS,
        "head:": "handler.a_shortcut_answers_alike",
        "extra:": "_engine/test_shortcuts.py::test_fields_are_made_once_a_second",
        "start:": "handler.a_shortcut_answers_alike",
        "stop:": "handler.a_shortcut_answers_alike",
        "complete_length:": "handler.a_shortcut_answers_alike",
        "descriptor:": "handler.a_shortcut_answers_alike",
        "offset:": "handler.a_shortcut_answers_alike",
    },
    "Frontend": {"Listens to clients": "frontend.both_routes_write_the_same"},
    "Frontend.serve": {
        "Listen until the context is left": "frontend.base_url frontend.serves_again",
        "On leaving, no listener": "frontend.leaving_leaves_nothing frontend.leaving_cuts_visibly",
        "ConfigurationError:": "frontends/test_loopback.py::test_taken_port_is_said",
    },
    "Frontend.url_for": {
        "Return the local URL": "frontend.local_urls",
        "InvalidURLError:": "frontend.foreign_urls",
        "ServerUnavailableError:": "frontend.nothing_is_served",
    },
    "Frontend.source_for": {
        "Return the source URL": "frontend.local_urls frontend.foreign_urls",
    },
    "Frontend.ensure_active": {
        "Check that the listener": "frontend.active_listener_is_left_alone "
        "frontends/test_loopback.py::test_lost_listener_is_replaced",
        "True if a new listener": "frontends/test_loopback.py::test_lost_listener_is_replaced",
    },
}

INTERFACES = sorted({name.partition(".")[0] for name in PROMISES})
NO_PLUGINS = {"Coordinator", "Grant", "Inspector"}  # these only the project itself implements


def sentences(doc):
    """Return the sentences of a docstring; an item of a list begins one with its name."""
    found = []
    doc = re.sub(r"^(Args|Returns|Raises|Attributes|Yields):\n", "\n", doc, flags=re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*\w+: )", doc):
        text = " ".join(paragraph.split())
        found += re.split(r"(?<=\.)\s+(?=[A-Z`])", text)
    return [sentence for sentence in found if sentence]


def documented():
    """Return the docstrings of the interfaces, by name of class or ``class.method``."""
    found = {}
    for name in INTERFACES:
        cls = getattr(abc, name)
        found[name] = inspect.cleandoc(cls.__doc__)
        for member, value in vars(cls).items():
            function = value.fget if isinstance(value, property) else value
            doc = getattr(function, "__doc__", None)
            if inspect.isfunction(function) and doc and member in (member.strip("_"), "__aiter__"):
                found[f"{name}.{member}"] = inspect.cleandoc(doc)
    return found


@cache
def names_in(path):
    """Return the names of the tests in a file."""
    tree = ast.parse((TESTS / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


EVERY = [
    (name, beginning, test)
    for name, table in PROMISES.items()
    for beginning, tests in table.items()
    if tests not in (IS, CALLER, AUTHOR)
    for test in tests.split()
]


@pytest.mark.parametrize("name", sorted(documented()))
def test_every_sentence_has_its_tests(name):
    """A promise that is added or worded anew must be given the tests that hold it."""
    table = PROMISES.get(name, {})
    for sentence in sentences(documented()[name]):
        fitting = [beginning for beginning in table if sentence.startswith(beginning)]
        assert len(fitting) == 1, f"say in PROMISES[{name!r}] which test holds: {sentence}"


@pytest.mark.parametrize("name", sorted(PROMISES))
def test_no_promise_is_left_over(name):
    """What the table has is still promised."""
    said = sentences(documented()[name])
    for beginning in PROMISES[name]:
        assert any(sentence.startswith(beginning) for sentence in said), beginning


@pytest.mark.parametrize(("name", "beginning", "test"), EVERY)
def test_the_test_of_a_promise_is_there(name, beginning, test):
    """The named test exists: in the shipped contract, or among ours."""
    if "::" in test:
        path, _, wanted = test.partition("::")
        assert wanted == "*" or wanted in names_in(path)
        assert any(each.startswith("test_") for each in names_in(path))
    else:
        kind, _, wanted = test.partition(".")
        assert callable(getattr(CONTRACTS[kind], f"test_{wanted}", None))


def test_every_interface_is_in_the_table():
    """No abstract class or protocol of the interfaces is forgotten."""
    abstract = {
        name
        for name in abc.__all__
        if inspect.isabstract(getattr(abc, name)) or getattr(getattr(abc, name), "_is_protocol", 0)
    }
    functions = {name for name in abstract if name.endswith("Function")}
    assert abstract - functions - NO_PLUGINS <= set(PROMISES)


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_every_test_of_a_contract_says_what_it_holds(contract):
    """Whoever breaks a promise reads in one sentence which one it was."""
    for name, test in inspect.getmembers(contract, inspect.isfunction):
        if name.startswith("test_"):
            doc = inspect.getdoc(test)
            assert doc, name
            assert doc.endswith("."), name


# -- what the interfaces do by themselves -------------------------------------------


class Iterated(UpstreamResponse):
    """Content by iteration alone."""

    async def __aiter__(self):
        for piece in (b"one", b"two", b"three"):
            yield piece

    async def aclose(self):
        self.closed = True


class Poured(UpstreamResponse):
    """Content by pouring alone."""

    async def pour(self, sink):
        sink.write(b"all")
        return True

    async def aclose(self):
        pass


@pytest.mark.asyncio
async def test_either_way_is_enough():
    """Who iterates is poured as the sink wants it; who pours needs no iteration."""
    sink = Collector()
    async with Iterated() as response:
        assert await response.pour(sink) is True
    assert response.closed
    assert sink.content == b"onetwothree"
    few = Collector(wanted=5)
    assert await Iterated().pour(few) is False
    assert few.content == b"onetwo"
    full = Collector(room=2)
    assert await Iterated().pour(full) is True
    assert (full.content, full.drained) == (b"onetwothree", 3)
    assert await Poured().pour(sink) is True
    with pytest.raises(NotImplementedError, match="override pour"):
        aiter(Poured())


@pytest.mark.asyncio
async def test_a_transport_need_not_prepare_or_renew():
    """By default a request is sent as it is, and no URL is renewed."""

    class Plain(Transport):
        async def fetch(self, request):
            raise NotImplementedError

        async def aclose(self):
            pass

    request = UpstreamRequest(url="http://a.example/", source="http://a.example/")
    assert await Plain().prepare(request) is request
    assert await Plain().refresh(request.source, 403) is None
