"""What is to happen when."""

from __future__ import annotations

import threading

from airflow_provider_cml.emulator.agenda import Agenda, steady_clock


def test_entries_happen_in_order_and_with_their_due_times(clock):
    """Also those that other entries make."""
    agenda, seen = Agenda(clock, threading.RLock()), []
    start = clock.now
    agenda.at(start + 2, "b", lambda due: seen.append(("b", due - start)))
    agenda.at(start + 1, "a", lambda due: agenda.at(due + 0.5, "c", lambda due: seen.append(("c", due - start))))
    clock.pass_by(10)
    agenda.advance()

    assert [("c", 1.5), ("b", 2)] == seen


def test_what_is_struck_does_not_happen(clock):
    """All entries of one owner go, those of others stay."""
    agenda, seen = Agenda(clock, threading.RLock()), []
    for owner in ("a", "b", "a"):
        agenda.at(clock.now, owner, lambda due, owner=owner: seen.append(owner))
    agenda.strike("a")
    agenda.advance()

    assert ["b"] == seen


def test_kept_agendas_advance_by_themselves():
    """Entries made while it sleeps wake it."""
    agenda, over, seen = Agenda(steady_clock(), threading.RLock()), threading.Event(), threading.Event()
    keeper = threading.Thread(target=agenda.keep, args=(over,))
    keeper.start()
    agenda.at(agenda.clock() + 0.02, "a", lambda due: seen.set())
    assert seen.wait(5)
    over.set()
    agenda.wake()
    keeper.join(5)

    assert not keeper.is_alive()
