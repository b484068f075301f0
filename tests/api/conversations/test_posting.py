"""The start requests of one try, and the fate of each."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from airflow_provider_cml.api.conversations.history import History
from airflow_provider_cml.api.conversations.posting import (
    GRACE,
    LOSS_GAPS,
    REFUSAL_GAPS,
    RESENDS,
    UNSENT_PATIENCE,
    Posting,
)
from airflow_provider_cml.api.conversations.start import Origin, Start, Started
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
    history = History(IDS)
    paper.player.play(history.look())
    return Posting(Start(IDS, KEY, {"A": "b"}, **settings), history)


def post(paper: PaperJob, posting: Posting) -> Started | None:
    return paper.player.play(posting.post())


def settle(paper: PaperJob, posting: Posting) -> None:
    """Go on with a lost start until it is settled, as turn after turn would."""
    while paper.player.play(posting.settle_loss()):
        pass


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
    assert [KEY.attempt] * 3 == [key.attempt for key in paper.keys if key is not None]


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
def test_a_refused_start(fate: Fate, reason: str, capacity: bool) -> None:
    """All faces of busy are refusals: known to have started nothing, and no loss."""
    paper = PaperJob(fate)
    posting = posting_on(paper)

    assert post(paper, posting) is None
    assert (reason, capacity, False, 0) == (posting.refusal, posting.is_capacity, posting.is_pending, posting.losses)


def test_gaps_after_refusals_grow() -> None:
    """15, 30, 60 ... 300 seconds; taking the gap forgets the refusal, not how many there were."""
    paper = PaperJob(*["skipped"] * 8)
    posting = posting_on(paper)
    gaps = []
    for _ in range(8):
        post(paper, posting)
        gaps.append(posting.refusal_gap())

    assert [*REFUSAL_GAPS, REFUSAL_GAPS[-1], REFUSAL_GAPS[-1]] == gaps
    assert posting.refusal is None


def test_a_refusal_told_late_is_taken_over() -> None:
    """A start of an earlier conversation, accepted and then skipped: its gap is the first thing that is waited for."""
    posting = posting_on(PaperJob(), refusals=3, refusal="CML skipped run x")

    assert ("CML skipped run x", False) == (posting.refusal, posting.is_capacity)
    assert (REFUSAL_GAPS[2], None) == (posting.refusal_gap(), posting.refusal)


@pytest.mark.parametrize(("asked", "gap"), [("40", 40.0), ("0", 1.0), ("99999", 600.0), ("soon", REFUSAL_GAPS[0])])
def test_retry_after_of_a_refused_start(asked: str, gap: float) -> None:
    """A 429 may say how long to stay away."""
    paper = PaperJob(document({}, 429, {"retry-after": asked}), "skipped")
    posting = posting_on(paper)
    post(paper, posting)
    first = posting.refusal_gap()
    post(paper, posting)

    assert (gap, REFUSAL_GAPS[1]) == (first, posting.refusal_gap())


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
def test_a_rejected_start(fate: Fate, error: type[Exception]) -> None:
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
        document({}),
        Response(200, {}, b'{"id": "x'),
    ],
)
def test_a_lost_start(fate: Fate) -> None:
    """Whatever does not say what became of it may have started a run."""
    paper = PaperJob(fate)
    posting = posting_on(paper)

    assert post(paper, posting) is None
    assert (True, 1, None) == (posting.is_pending, posting.losses, posting.refusal)
    assert "The answer to the start was lost." in paper.player.said


def test_a_lost_start_is_looked_for_in_growing_gaps_until_its_time_is_over() -> None:
    """2, 5, 10, 20, 20 ... seconds, to exactly GRACE after sending; then it may be sent again."""
    paper = PaperJob("vanished", latency=3.0)
    posting = posting_on(paper)
    post(paper, posting)
    sent_at = paper.started_at[0]
    while posting.is_pending:
        assert paper.player.play(posting.settle_loss())

    assert list(LOSS_GAPS) == paper.player.pauses[:4]
    assert {LOSS_GAPS[-1]} == set(paper.player.pauses[4:-1])
    assert sent_at + GRACE == paper.player.now
    assert "taken for lost, and sent again" in paper.player.said
    assert not paper.player.play(posting.settle_loss())


def test_a_receipt_settles_a_loss() -> None:
    """A SKIPPED entry with this POST's number: the start arrived, and was refused."""
    paper = PaperJob("lost")
    paper.add("running")
    posting = posting_on(paper)
    post(paper, posting)
    paper.player.play(posting.history.look())

    assert paper.player.play(posting.settle_loss())
    assert (False, "CML called the job busy", 1) == (posting.is_pending, posting.refusal, posting.losses)


def test_a_receipt_of_another_post_settles_nothing() -> None:
    """Another process of this try has numbers of its own."""
    paper = PaperJob("vanished")
    posting = posting_on(paper)
    post(paper, posting)
    paper.add("skipped", KEY, "1.zzzz", age=0)
    paper.player.play(posting.history.look())

    assert paper.player.play(posting.settle_loss())
    assert posting.is_pending


def test_losses_have_a_bound() -> None:
    """Two are sent again; the third ends the try for good, naming the key to look for."""
    paper = PaperJob(*["vanished"] * 5)
    posting = posting_on(paper)
    for _ in range(RESENDS):
        post(paper, posting)
        settle(paper, posting)
    post(paper, posting)

    with pytest.raises(
        CmlRunMayExistError, match=r"the answers to 3 starts in a row were lost. A run may exist"
    ) as caught:
        settle(paper, posting)

    assert f"AIRFLOW_RUN_KEY={paper.keys[-1]}" in str(caught.value)


def test_a_loss_without_echoes_cannot_be_settled() -> None:
    """Nothing can be looked for by key, so nothing is sent again."""
    paper = PaperJob("vanished")
    paper.echoes = False
    paper.add("succeeded")
    posting = posting_on(paper)
    post(paper, posting)

    with pytest.raises(CmlRunMayExistError, match="does not show the environment of runs"):
        paper.player.play(posting.settle_loss())


def test_an_echo_in_an_answer_is_an_echo() -> None:
    """A list may hide environments; an answer to a start that shows one is proof enough to wait."""
    paper = PaperJob("skipped", "vanished")
    paper.add("succeeded")
    posting = posting_on(paper)
    post(paper, posting)
    paper.echoes = False
    posting.history._runs.clear()
    paper.player.play(posting.history.look())
    post(paper, posting)

    assert paper.player.play(posting.settle_loss())


def test_a_start_that_was_not_sent() -> None:
    """Nothing left this machine: no loss, no refusal, a pause, and another turn."""
    paper = PaperJob("unsent")
    posting = posting_on(paper)

    assert post(paper, posting) is None
    assert (False, 0, None) == (posting.is_pending, posting.losses, posting.refusal)
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
