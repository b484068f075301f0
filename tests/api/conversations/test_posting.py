"""The start requests of one try, and the fate of each."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from airflow_provider_cml.api.conversations.history import History
from airflow_provider_cml.api.conversations.posting import (
    CONFLICT_PATIENCE,
    GRACE,
    LOSS_GAPS,
    REFUSAL_GAPS,
    RESENDS,
    UNSENT_PATIENCE,
    Posting,
)
from airflow_provider_cml.api.conversations.start import Origin, Progress, Start, Started
from airflow_provider_cml.api.errors import (
    CmlConnectionError,
    CmlForbiddenError,
    CmlNotFoundError,
    CmlRefusedError,
    CmlRunMayExistError,
    CmlUnauthorizedError,
)
from airflow_provider_cml.api.wire import Response
from tests.api.conversations.paper import IDS, KEY, Fate, PaperJob
from tests.api.playing import document, grpc_error, html, lost


def posting_on(paper: PaperJob, **settings: Any) -> Posting:
    start = Start(IDS, KEY, {"A": "b"}, **settings)
    history = History(start)
    paper.player.play(history.look())
    return Posting(start, history)


def post(paper: PaperJob, posting: Posting) -> Started | None:
    return paper.player.play(posting.post())


def backoff(paper: PaperJob, posting: Posting) -> float:
    return paper.player.play(posting.take_backoff())


def settle(paper: PaperJob, posting: Posting) -> None:
    """Go on with a lost start until it is settled, as turn after turn would."""
    while paper.player.play(posting.settle_loss()):
        paper.player.play(posting.history.look())


def test_an_accepted_start() -> None:
    """The run is ours; it carries the variables and the key with the number of its POST."""
    paper = PaperJob()
    posting = posting_on(paper, arguments="--fast")

    started = post(paper, posting)

    assert started is not None
    assert (paper.executed[0], Origin.STARTED, 0) == (started.run.id, started.origin, started.losses)
    body = paper.player.requests[-1].json
    assert body is not None
    assert {"A": "b", "AIRFLOW_RUN_KEY": str(started.key)} == body["environment"]
    assert ("--fast", False, f"Started run {started.run.id}.") == (
        body["arguments"],
        posting.is_pending,
        paper.player.said,
    )


def test_each_post_has_a_number_of_its_own() -> None:
    """Counted, and ended by random letters: another process of the same try counts from one, too."""
    paper = PaperJob("skipped", "skipped", "skipped")
    one, other = posting_on(paper), posting_on(paper)

    for posting in (one, one, other):
        post(paper, posting)

    posts = [key.post for key in paper.keys if key is not None]
    assert ["1", "2", "1"] == [text.partition(".")[0] for text in posts]
    assert 3 == len(set(posts))
    assert [KEY.with_post(text) for text in posts] == paper.keys


@pytest.mark.parametrize(
    ("fate", "reason", "capacity"),
    [
        (grpc_error(400, "job run for job x already active", 9), "CML calls the job busy", False),
        (grpc_error(409, "already active", 6), "CML calls the job busy", False),
        (grpc_error(412, "already active", 9), "CML calls the job busy", False),
        ("skipped", "CML calls the job busy", False),
        (grpc_error(409, "out of quota: CPU request limit reached", 10), "CML is out of quota", True),
        (Response(429), "CML takes no more requests now (429)", True),
    ],
)
def test_a_rejected_start(fate: Fate, reason: str, capacity: bool) -> None:
    """All faces of busy are rejections: known to have started nothing, and no loss."""
    paper = PaperJob(fate)
    posting = posting_on(paper)

    assert post(paper, posting) is None
    assert (reason, capacity, None) == (posting.rejection, posting.is_capacity, posting.conflict)
    assert (False, Progress(rejections=1)) == (posting.is_pending, posting.progress)


def test_gaps_after_rejections_grow() -> None:
    """15, 30, 60 ... 300 seconds; taking the gap forgets the rejection, not how many there were."""
    paper = PaperJob(*["skipped"] * 8)
    posting = posting_on(paper)
    gaps = []
    for _ in range(8):
        post(paper, posting)
        gaps.append(backoff(paper, posting))

    assert [*REFUSAL_GAPS, REFUSAL_GAPS[-1], REFUSAL_GAPS[-1]] == gaps
    assert posting.rejection is None


def test_a_rejection_told_late_is_taken_over() -> None:
    """A start of an earlier flow, accepted and then skipped: its gap is the first thing that is waited for."""
    paper = PaperJob()
    posting = posting_on(paper, progress=Progress(rejections=3), rejection="CML skipped run x")

    assert ("CML skipped run x", False) == (posting.rejection, posting.is_capacity)
    assert (REFUSAL_GAPS[2], None) == (backoff(paper, posting), posting.rejection)


@pytest.mark.parametrize(("asked", "gap"), [("40", 40.0), ("0", 1.0), ("99999", 600.0), ("soon", REFUSAL_GAPS[0])])
def test_retry_after_of_a_rejected_start(asked: str, gap: float) -> None:
    """A 429 may say how long to stay away."""
    paper = PaperJob(document({}, 429, {"retry-after": asked}), "skipped")
    posting = posting_on(paper)
    post(paper, posting)
    first = backoff(paper, posting)
    post(paper, posting)

    assert (gap, REFUSAL_GAPS[1]) == (first, backoff(paper, posting))


# ------------------------------------------------------------------------------------------------ conflicts

CONFLICTS = [
    pytest.param(grpc_error(409, "the project is being archived", 10), ' ("the project is being archived")', id="409"),
    pytest.param(Response(412), "", id="412"),
    pytest.param(grpc_error(400, "the runtime is disabled", 9), ' ("the runtime is disabled")', id="code 9"),
]


@pytest.mark.parametrize(("fate", "said"), CONFLICTS)
def test_a_conflict(fate: Response, said: str) -> None:
    """A rejection with CML's own words, counted and timed, and no loss; the log says that it is repeated."""
    paper = PaperJob(fate, fate)
    posting = posting_on(paper)
    paper.player.now += 40

    assert post(paper, posting) is None
    assert (f"CML does not take the start{said}", False) == (posting.rejection, posting.is_capacity)
    assert (True, False) == (posting.conflict is not None, posting.is_pending)
    assert Progress(0, 1, 40.0) == posting.progress
    assert (REFUSAL_GAPS[0], None, None) == (backoff(paper, posting), posting.rejection, posting.conflict)
    post(paper, posting)
    assert [("CML does not take the start now; it is repeated for 600 s.", True)] == [
        (note.text, note.warning) for note in paper.player.notes
    ]


@pytest.mark.parametrize("losses", [0, 1])
@pytest.mark.parametrize(("fate", "said"), CONFLICTS)
def test_conflicts_are_final_after_ten_minutes(fate: Response, said: str, losses: int) -> None:
    """Counted over all flows of the try. CML's text ends it; after a loss, that a run may exist."""
    paper = PaperJob(fate, fate)
    posting = posting_on(paper, waited=700.0, progress=Progress(losses, 4, conflict_since=120.0))
    paper.player.now += 19
    post(paper, posting)
    gap = backoff(paper, posting)
    paper.player.now += gap

    with pytest.raises(CmlRunMayExistError if losses else CmlRefusedError) as caught:
        post(paper, posting)

    assert (1.0, CONFLICT_PATIENCE) == (gap, 700.0 + paper.player.now - 1000.0 - 120.0)
    assert said in str(caught.value)


@pytest.mark.parametrize("fate", [grpc_error(400, "already active", 9), "skipped", "explained"])
def test_a_busy_job_ends_a_conflict(fate: Fate) -> None:
    """As soon as the job is known to be busy, the ten minutes begin anew with the next conflict."""
    conflict = grpc_error(400, "the runtime is disabled", 9)
    paper = PaperJob(*([conflict] if fate == "explained" else [conflict, fate]), conflict)
    posting = posting_on(paper)
    post(paper, posting)
    if fate == "explained":
        posting.explain_rejection()
        assert (None, None) == (posting.rejection, posting.conflict)
    else:
        post(paper, posting)
    before = posting.progress.conflict_since
    paper.player.now += CONFLICT_PATIENCE
    post(paper, posting)

    assert (None, CONFLICT_PATIENCE) == (before, posting.progress.conflict_since)


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("fate", "error"),
    [
        (grpc_error(400, "Problem with field JobId: value length must be 19 runes", 3), CmlRefusedError),
        (grpc_error(401, "no", 16), CmlUnauthorizedError),
        (grpc_error(403, "no", 7), CmlForbiddenError),
        (grpc_error(404, "no", 5), CmlNotFoundError),
        (grpc_error(422, "no", 3), CmlRefusedError),
        (grpc_error(501, "no", 12), CmlRefusedError),
    ],
)
def test_a_refused_start(fate: Fate, error: type[Exception]) -> None:
    """CML would say so again: it ends the try at once; after a loss it ends with the words that a run may exist."""
    paper = PaperJob(fate, "vanished", fate)
    posting = posting_on(paper)
    with pytest.raises(error) as caught:
        post(paper, posting)
    assert error is type(caught.value)
    post(paper, posting)

    with pytest.raises(CmlRunMayExistError, match=r"an answer was lost before, and now CML refuses: .*A run may exist"):
        post(paper, posting)


@pytest.mark.parametrize(
    "fate",
    [
        "lost",
        "vanished",
        ("late", 50.0),
        Response(302),
        Response(408),
        Response(500),
        Response(502),
        Response(504),
        html("Sign in"),
        html("404 Not Found", 404),
        document({}),
        Response(200, {}, b'{"id": "x'),
    ],
)
def test_a_lost_start(fate: Fate) -> None:
    """Whatever does not say what became of it may have started a run."""
    paper = PaperJob(fate)
    posting = posting_on(paper)

    assert post(paper, posting) is None
    assert (True, Progress(losses=1), None) == (posting.is_pending, posting.progress, posting.rejection)
    assert "The answer to the start was lost." in paper.player.said


def test_a_lost_start_is_looked_for_in_growing_gaps_until_its_time_is_over() -> None:
    """2, 5, 10, 20, 20 ... seconds, to a look that is sent when GRACE is over; then it may be sent again."""
    paper = PaperJob("vanished", latency=3.0)
    posting = posting_on(paper)
    post(paper, posting)
    sent_at = paper.started_at[0]
    while posting.is_pending:
        assert paper.player.play(posting.settle_loss())
        paper.player.play(posting.history.look())

    assert list(LOSS_GAPS) == paper.player.pauses[:4]
    assert {LOSS_GAPS[-1]} == set(paper.player.pauses[4:-1])
    assert sent_at + GRACE <= posting.history.looked_at <= sent_at + GRACE + 2 * paper.player.latency
    assert "taken for lost, and sent again" in paper.player.said
    assert not paper.player.play(posting.settle_loss())


def test_a_receipt_settles_a_loss() -> None:
    """A SKIPPED entry with this POST's number: the start arrived, and was rejected."""
    paper = PaperJob("lost")
    paper.add("running")
    posting = posting_on(paper)
    post(paper, posting)
    paper.player.play(posting.history.look())

    assert paper.player.play(posting.settle_loss())
    assert (False, "CML called the job busy") == (posting.is_pending, posting.rejection)
    assert Progress(losses=1, rejections=1) == posting.progress


def test_a_receipt_of_another_post_settles_nothing() -> None:
    """Another process of this try has numbers of its own."""
    paper = PaperJob("vanished")
    posting = posting_on(paper)
    post(paper, posting)
    paper.add("skipped", KEY, "1.zzzz", age=0)
    paper.player.play(posting.history.look())

    assert paper.player.play(posting.settle_loss())
    assert posting.is_pending


@pytest.mark.parametrize("before", range(RESENDS + 1))
def test_losses_have_a_bound(before: int) -> None:
    """Two are sent again; the third of the try, in whatever flow, ends it for good, naming the key to look for."""
    paper = PaperJob(*["vanished"] * 5)
    posting = posting_on(paper, progress=Progress(losses=before))
    for _ in range(RESENDS - before):
        post(paper, posting)
        settle(paper, posting)
    post(paper, posting)

    with pytest.raises(
        CmlRunMayExistError, match=r"the answers to 3 starts of this try were lost. A run may exist"
    ) as caught:
        settle(paper, posting)

    assert f"AIRFLOW_RUN_KEY={paper.keys[-1]}" in str(caught.value)


@pytest.mark.parametrize(
    ("echoes", "ages", "is_known"),
    [
        pytest.param(False, {"before": 600.0}, True, id="listed before"),
        pytest.param(False, {}, True, id="none"),
        pytest.param(False, {"after": 0.0}, False, id="new"),
        pytest.param(False, {"before": 10.0, "after": 95.0}, False, id="listed late"),
        pytest.param(False, {"before": 10.0, "after": 105.0}, True, id="too old to be listed late"),
        pytest.param(True, {"before": 600.0, "after": 0.0}, True, id="another run shows its environment"),
    ],
)
def test_a_loss_and_runs_without_environments(echoes: bool, ages: dict[str, float], is_known: bool) -> None:
    """A run that the last list before the POST did not hold, and that shows none, may be the lost start's.

    Where it is not, the start is looked for as long as anywhere, and may be sent again.
    """
    paper = PaperJob("vanished")
    if echoes:
        paper.add("succeeded", age=700)
    if "before" in ages:
        paper.add_by_hand(age=ages["before"])
    posting = posting_on(paper)
    post(paper, posting)
    if "after" in ages:
        new = paper.add_by_hand(age=ages["after"])
    paper.player.play(posting.history.look())

    if is_known:
        settle(paper, posting)
        assert not posting.is_pending
    else:
        with pytest.raises(CmlRunMayExistError, match=f"run {new}, which began since, shows no environment"):
            settle(paper, posting)
    assert paper.started_at[0] + GRACE == paper.player.now


def test_an_echo_in_an_answer_is_an_echo() -> None:
    """A list may hide environments; where an answer to a start shows one, a run without has none."""
    paper = PaperJob("skipped", "vanished")
    paper.echoes = False
    posting = posting_on(paper)
    paper.echoes = True
    post(paper, posting)
    paper.echoes = False
    post(paper, posting)
    paper.add_by_hand(age=0)
    paper.player.play(posting.history.look())

    settle(paper, posting)

    assert not posting.is_pending


def test_a_start_that_was_not_sent() -> None:
    """Nothing left this machine: no loss, no rejection, a pause, and another turn."""
    paper = PaperJob("unsent")
    posting = posting_on(paper)

    assert post(paper, posting) is None
    assert (False, Progress(), None) == (posting.is_pending, posting.progress, posting.rejection)
    assert (1, True) == (len(paper.player.pauses), 5 < paper.player.pauses[0] <= 15)


def test_not_sending_has_a_bound() -> None:
    """Ten minutes without a way out end the try: nothing was started."""
    paper = PaperJob(*["unsent"] * 1000)
    posting = posting_on(paper)
    began = paper.player.now

    def post_for_ever() -> None:
        while True:
            post(paper, posting)

    with pytest.raises(CmlConnectionError):
        post_for_ever()

    assert UNSENT_PATIENCE < paper.player.now - began < UNSENT_PATIENCE + 30


def test_a_sent_start_resets_the_bound() -> None:
    """The way out came back: the next failure starts counting anew."""
    paper = PaperJob("unsent", "skipped", *["unsent"] * 1000)
    posting = posting_on(paper)
    post(paper, posting)
    paper.player.now += UNSENT_PATIENCE
    post(paper, posting)

    assert post(paper, posting) is None
    assert post(paper, posting) is None


def test_sent_keys_are_told_as_they_go() -> None:
    """Whoever is killed in the middle knows what to clean up."""
    paper = PaperJob(lost())
    posting = posting_on(paper)

    post(paper, posting)

    assert paper.keys == list(posting.start.sent)


@pytest.mark.parametrize(
    "fate",
    [
        grpc_error(400, "job run for job x already active", 9),
        grpc_error(409, "out of quota: CPU request limit reached", 10),
        grpc_error(403, "no", 7),
        Response(429),
        "skipped",
        "unsent",
    ],
)
def test_a_refused_start_leaves_nothing_to_clean_up(fate: Fate) -> None:
    """Its key is told no longer, for no run can carry it; that of an earlier loss stays."""
    paper = PaperJob(fate, "vanished", fate)
    posting = posting_on(paper)
    with suppress(CmlForbiddenError):
        post(paper, posting)
    assert posting.start.sent == []
    post(paper, posting)
    (lost_key,) = posting.start.sent
    with suppress(CmlRunMayExistError):
        post(paper, posting)

    assert [lost_key] == posting.start.sent
    assert "2" == str(lost_key.post).partition(".")[0]


def test_a_loss_with_a_receipt_leaves_nothing_to_clean_up() -> None:
    """While it is lost its key is told; as soon as it is known to have been refused, no longer."""
    paper = PaperJob("lost")
    paper.add("running")
    posting = posting_on(paper)
    post(paper, posting)
    assert paper.keys[-1:] == list(posting.start.sent)
    paper.player.play(posting.history.look())
    paper.player.play(posting.settle_loss())

    assert posting.start.sent == []
