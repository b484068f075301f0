"""The lines that keep the README's promises, each one taken out, and the test that must then fail.

The law: a removal is a text that stands exactly once in the package, wherever that is, and what to put in its place. It
takes out one line, or one condition, and leaves code that still runs: what fails then is the promise, not the import.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_cml"


@dataclass(frozen=True)
class Removal:
    """One line taken out."""

    promise: int
    """Its number in the README."""
    without: str
    """What the code does then, in words."""
    text: str
    instead: str
    test: str

    def place(self, root: Path = ROOT) -> Path:
        """The one module that holds the text.

        :raises LookupError: none does, or several do, or one does twice.
        """
        found = [
            path for path in sorted((root / PACKAGE).rglob("*.py")) for _ in range(path.read_text().count(self.text))
        ]
        if len(found) != 1:
            message = f"promise {self.promise}: stands {len(found)} times in the package, not once: {self.text!r}"
            raise LookupError(message)
        return found[0]

    def apply(self, root: Path) -> Path:
        """Take the line out of the package under `root`; returns the module."""
        path = self.place(root)
        path.write_text(path.read_text().replace(self.text, self.instead))
        return path


_STARTING = "tests/api/conversations/test_starting.py"
_POSTING = "tests/api/conversations/test_posting.py"
_WAITING = "tests/api/conversations/test_waiting.py"
_FINDING = "tests/api/conversations/test_finding.py"
_LINE = "tests/api/conversations/test_line.py"
_MODEL = "tests/api/exactly_once/test_exactly_once.py"
_OPERATOR = "tests/operators/test_cml.py"
_ENVIRONMENT = "tests/operators/test_cml_environment.py"
_SENSOR = "tests/sensors/test_cml.py"
_TRIGGER = "tests/triggers/test_cml.py"
_TRANSPORTS = "tests/api/test_transports.py"
_NETWORK = "tests/api/test_network.py"
_HOOK = "tests/hooks/test_cml.py"
_BUTTON = "tests/hooks/test_connection_test.py"

REMOVALS = (
    # ---------------------------------------------------------------- start exactly once
    Removal(
        1,
        "a retry does not know the runs of earlier tries",
        "return self.start.is_of_my_try(key) or (self.start.durable and same_series(key, self.start.key))",
        "return self.start.is_of_my_try(key)",
        f"{_OPERATOR}::test_retry_takes_the_run_of_the_earlier_try",
    ),
    Removal(
        1,
        "a retry looks no further back than a first try",
        "self.reads_back = start.durable and start.key.try_number > 1",
        "self.reads_back = False",
        f"{_STARTING}::test_a_retry_looks_as_far_back_as_its_dag_run",
    ),
    Removal(
        2,
        "a run that carries this try's key is not known",
        "(self._fence, self._own, self._former, self._loss, self._busy, self._settle, self._fresh)",
        "(self._fence, self._former, self._loss, self._busy, self._settle, self._fresh)",
        f"{_OPERATOR}::test_lost_answer_finds_its_run",
    ),
    Removal(
        2,
        "a start whose answer was lost is sent again at once",
        "if self.history.looked_at < over_at:",
        "if False:",
        f"{_STARTING}::test_a_start_is_sent_again_only_after_its_time",
    ),
    Removal(
        3,
        "it is sent again for ever",
        "if self.losses > RESENDS:",
        "if False:",
        f"{_STARTING}::test_three_losses_end_the_try_for_good",
    ),
    Removal(
        3,
        "Airflow may retry a start whose fate is unknown",
        "        return CmlStartFailError(str(error))",
        "        return CmlUnansweredError(str(error))",
        f"{_OPERATOR}::test_start_that_cannot_be_settled_says_so",
    ),
    Removal(
        4,
        "a worker Airflow has given up goes on",
        "if is_newer and self.start.key.is_same_airflow(key):",
        "if False:",
        f"{_STARTING}::test_fence",
    ),
    Removal(
        5,
        "what a clear left behind is not stopped",
        "(self._fence, self._own, self._former, self._loss, self._busy, self._settle, self._fresh)",
        "(self._fence, self._own, self._loss, self._busy, self._settle, self._fresh)",
        f"{_OPERATOR}::test_clear_stops_what_was_left_behind",
    ),
    Removal(
        5,
        "a dag run that was deleted and made again takes the old one's run for its own",
        "or (self.start.durable and same_series(key, self.start.key))",
        "or self.start.durable",
        f"{_STARTING}::test_a_dag_run_made_again_runs_the_job_again",
    ),
    Removal(
        6,
        "an active run of anybody is taken for ours",
        "if not self.start.is_of_my_task(key) or key.order > self.start.key.order:\n            return False\n",
        "if not self.start.is_of_my_task(key) or key.order > self.start.key.order:\n            return True\n",
        f"{_STARTING}::test_a_busy_job_may_end_the_conversation",
    ),
    Removal(
        6,
        "another task's run is stopped like one of ours",
        "            if run.is_active\n            and self.start.is_of_my_task(key)\n",
        "            if run.is_active\n",
        f"{_STARTING}::test_a_busy_job_may_end_the_conversation",
    ),
    Removal(
        7,
        "a busy job is not looked for",
        "(self._fence, self._own, self._former, self._loss, self._busy, self._settle, self._fresh)",
        "(self._fence, self._own, self._former, self._loss, self._settle, self._fresh)",
        f"{_STARTING}::test_a_busy_job_is_waited_for",
    ),
    Removal(
        7,
        "a run that CML skipped counts as started",
        "        if not run.status.is_executed:\n            # The second face",
        "        if False:\n            # The second face",
        f"{_STARTING}::test_every_face_of_busy_is_waited_for",
    ),
    Removal(
        8,
        "a worker's look is good for ever",
        "(self._fence, self._own, self._former, self._loss, self._busy, self._settle, self._fresh)",
        "(self._fence, self._own, self._former, self._loss, self._busy, self._settle)",
        f"{_STARTING}::test_a_look_is_good_for_a_moment",
    ),
    Removal(
        8,
        "a try does not look for runs of its own series, in every schedule with one fault",
        "(self._fence, self._own, self._former, self._loss, self._busy, self._settle, self._fresh)",
        "(self._fence, self._former, self._loss, self._busy, self._settle, self._fresh)",
        f"{_MODEL}::test_every_schedule_with_one_departure",
    ),
    Removal(
        9,
        "what CML refuses is tried again by Airflow",
        "    return CmlRefusedFailError(str(error))\n\n\ndef read_event",
        "    return CmlUnansweredError(str(error))\n\n\ndef read_event",
        f"{_OPERATOR}::test_connection_that_is_wrong_fails_the_first_try",
    ),
    Removal(
        10,
        "a start through v1 is repeated by the transport",
        'request = Request("POST", path, Scheme.BASIC, json=body, idempotent=False, patience=UNSENT_PATIENCE)',
        'request = Request("POST", path, Scheme.BASIC, json=body, patience=UNSENT_PATIENCE)',
        "tests/test_legacy.py::test_lost_answer_is_not_sent_again",
    ),
    # ---------------------------------------------------------------- wait
    Removal(
        11,
        "a stopped run is as good as a succeeded one",
        "return self is JobRunStatus.SUCCEEDED",
        "return self in {JobRunStatus.SUCCEEDED, JobRunStatus.STOPPED}",
        "tests/test_failures.py::test_only_one_status_is_green",
    ),
    Removal(
        12,
        "a look that fails ends the wait after half a minute",
        "wait.run_id, POLL_PATIENCE)",
        "wait.run_id, 30.0)",
        f"{_WAITING}::test_all_kinds_of_bad_polls_in_a_row",
    ),
    Removal(
        12,
        "a Retry-After of CML is not obeyed",
        "return max(spread, ordered + random.uniform(0.1, 1.0)) if ordered else spread",
        "return spread",
        "tests/api/test_retry.py::test_retry_after_is_obeyed",
    ),
    Removal(
        13,
        "a status nobody knows is waited for without end",
        "elif moment - unknown_since >= UNKNOWN_BOUND:",
        "elif moment < unknown_since:",
        f"{_WAITING}::test_an_unknown_status_is_bounded",
    ),
    Removal(
        14,
        "`soft_fail` skips whatever Airflow's base class skips in that mode",
        "        if verdict is not error:\n            raise verdict from verdict.__cause__\n",
        "",
        f"{_SENSOR}::test_event_that_cannot_be_read_is_no_success",
    ),
    Removal(
        14,
        "what Airflow's base class makes of an error in that mode stands",
        "        if verdict is not error:\n            raise verdict from verdict.__cause__\n",
        "",
        "tests/test_endings.py::test_trouble",
    ),
    Removal(
        14,
        "whatever went wrong, `soft_fail` skips it",
        "(task.soft_fail and isinstance(cause, _SOFT))",
        "task.soft_fail",
        "tests/test_endings.py::test_status",
    ),
    Removal(
        15,
        "a run that is over is given to the triggerer",
        "            if run.status.is_over:\n                return Outcome(Ending.OVER, run)\n",
        "            pass\n",
        f"{_OPERATOR}::test_run_that_is_over_never_defers",
    ),
    Removal(
        16,
        "a trigger may fire as soon as it is made",
        "QUIET = 5.0\n",
        "QUIET = 0.0\n",
        f"{_TRIGGER}::test_five_seconds_are_quiet",
    ),
    Removal(
        16,
        "bad news is told at once",
        "        await asyncio.sleep(max(not_before - loop.time(), 0.0))\n",
        "        await asyncio.sleep(0.0 * not_before)\n",
        f"{_TRIGGER}::test_bad_news_is_quiet_too",
    ),
    Removal(
        16,
        "a trigger raises where it could tell",
        "        except CmlError as error:\n            outcome = outcome_of(error)\n"
        "        except Exception as error:",
        "        except ZeroDivisionError as error:",
        f"{_TRIGGER}::test_trigger_never_raises",
    ),
    Removal(
        17,
        "every waiter is let go when the job is free",
        "if self._let_go_at is not None and newest == self._newest_then and moment - self._let_go_at < SHOW_UP:",
        "if False:",
        f"{_LINE}::test_one_goes_per_free_slot",
    ),
    Removal(
        17,
        "the waiters stand in the order in which they came",
        "bisect.insort(self._places, place)",
        "self._places.append(place)",
        "tests/triggers/test_waiters.py::test_a_thousand_waiters_are_served_in_order_for_one_request_a_gap",
    ),
    Removal(
        18,
        "the run's id is not told before the wait",
        '        push(self.context, {"return_value": run.id, **{name: getattr(self.watched, name) for name '
        "in names}})\n",
        "",
        f"{_OPERATOR}::test_bad_ending",
    ),
    # ---------------------------------------------------------------- stop
    Removal(
        19,
        "a timeout stops nothing",
        "    if run.status.can_be_stopped:\n        try:\n            run = yield from v2.stop_job_run(",
        "    if False:\n        try:\n            run = yield from v2.stop_job_run(",
        f"{_OPERATOR}::test_timeout_stops_the_run_then_fails",
    ),
    Removal(
        19,
        "execution_timeout does not count while the task is deferred",
        "deadline=events.moment_after(seconds if task.deferrable else None),",
        "deadline=None,",
        f"{_OPERATOR}::test_execution_timeout_holds_while_deferred",
    ),
    Removal(
        20,
        "a killed task leaves its run alone",
        "            self.hook.stop_in_passing(self.watched.ids, key, self.watched.run_id)\n",
        "            pass\n",
        f"{_OPERATOR}::test_kill_ends_the_wait_within_three_seconds",
    ),
    Removal(
        20,
        "a kill waits for the end of a pause",
        "        self.hook.interrupt()\n",
        "",
        f"{_OPERATOR}::test_kill_ends_the_wait_within_three_seconds",
    ),
    Removal(
        21,
        "a stop is sent to a run that is over",
        "return not self.is_over and self is not JobRunStatus.STOPPING",
        "return True",
        f"{_WAITING}::test_what_is_over_is_not_stopped",
    ),
    # ---------------------------------------------------------------- connect
    Removal(
        22,
        "the button is green for a key that CML calls invalid",
        "        if not owner.valid:\n",
        "        if False:\n",
        f"{_BUTTON}::test_key_that_is_not_valid",
    ),
    Removal(
        22,
        "a legacy key on v2 is only called wrong",
        "if endpoint.api_version is ApiVersion.V2 and _LEGACY_KEY.fullmatch(endpoint.key):",
        "if False:",
        f"{_BUTTON}::test_verdict_on_a_connection",
    ),
    Removal(
        23,
        "a connection's own authority counts for nothing",
        '    ca_bundle = _file(extra, "ca_bundle")\n',
        "    ca_bundle = None\n",
        "tests/hooks/test_tls.py::test_authority_of_the_connection_beats_the_environments",
    ),
    Removal(
        24,
        "requests waits for an answer without end",
        "                timeout=(min(self.endpoint.connect_timeout, read_timeout), read_timeout),\n",
        "",
        f"{_NETWORK}::test_never_answering",
    ),
    Removal(
        24,
        "an answer may drip for ever",
        "        if timeout is None or left >= timeout:\n            return",
        "        if True:\n            return",
        f"{_NETWORK}::test_slow_drip",
    ),
    Removal(
        25,
        "a redirect is followed, key and all",
        "(request.method, url, allow_redirects=False, **options)",
        "(request.method, url, **options)",
        f"{_TRANSPORTS}::test_redirects_are_not_followed",
    ),
    Removal(
        26,
        "the filter's substring match is taken for the name",
        "matches = [found for found in mine if found.name == name] or [found for found in mine if found.slug == name]",
        "matches = mine",
        f"{_FINDING}::test_the_filter_is_exact_only_here",
    ),
    Removal(
        26,
        "of two projects of one name the first is taken",
        "    if len(matches) == 1:\n        return matches[0]",
        "    if matches:\n        return matches[0]",
        f"{_FINDING}::test_an_ambiguous_name",
    ),
    # ---------------------------------------------------------------- secrets
    Removal(
        27,
        "a gateway's error page is passed on with the key it quotes",
        '            body = body.replace(secret.encode(), b"***")\n',
        "            pass\n",
        "tests/test_secrets.py::test_gateway_that_shows_the_request",
    ),
    Removal(
        27,
        "Airflow's masker never hears of the key",
        "        for secret in configuration.endpoint.secrets:\n            mask_secret(secret)\n",
        "",
        f"{_HOOK}::test_secrets_are_masked",
    ),
    Removal(
        28,
        "private values are a template field, which Airflow stores",
        'template_fields: Sequence[str] = ("project", "job", "environment", "arguments", "cml_conn_id")',
        "template_fields: Sequence[str] = (\n"
        '        "project", "job", "environment", "private_environment", "arguments", "cml_conn_id"\n    )',
        f"{_ENVIRONMENT}::test_private_values_reach_the_run_and_nothing_else",
    ),
    Removal(
        28,
        "Airflow's masker never hears of a private value",
        "    for value in private.values():\n        mask_secret(value)\n",
        "",
        "tests/test_task_context.py::test_private_values_are_masked_before_anything_can_fail",
    ),
    Removal(
        29,
        "a DAG author may set the run key",
        "if name == RUN_KEY_VARIABLE or name.startswith(AIRFLOW_CONTEXT_PREFIX):",
        "if False:",
        f"{_ENVIRONMENT}::test_what_cannot_be_a_variable_is_refused",
    ),
    Removal(
        29,
        "booleans reach the script as Python writes them",
        'return "true" if value else "false"',
        "return str(value)",
        f"{_ENVIRONMENT}::test_value_reaches_the_run_as_text",
    ),
    # ---------------------------------------------------------------- Airflow
    Removal(
        30,
        "a DAG file loads what only a running task needs",
        "from airflow_provider_cml.links.cml import CmlJobRunLink\n\nif",
        "from airflow_provider_cml.links.cml import CmlJobRunLink\nimport requests\n\nif",
        "tests/test_provider.py::test_five_hundred_tasks_reach_out_to_nothing",
    ),
    Removal(
        31,
        "the hook comes from a place that Airflow 3.1 and newer call deprecated",
        "        from airflow.sdk import BaseHook\n    except ImportError:\n"
        "        from airflow.hooks.base import BaseHook\n",
        "        from airflow.hooks.base import BaseHook\n    except ImportError:\n"
        "        from airflow.sdk import BaseHook\n",
        "tests/test_provider.py::test_modules_import_without_a_warning",
    ),
    Removal(
        32,
        "a script of the emulator is given the environment of the emulator",
        'clean = {"LANG": "C.UTF-8", "HOME": str(folder), "PYTHONUNBUFFERED": "1", **given}',
        'clean = {**os.environ, "LANG": "C.UTF-8", "HOME": str(folder), "PYTHONUNBUFFERED": "1", **given}',
        "tests/emulator/test_scripts.py::test_the_environment_is_built_from_nothing",
    ),
)
