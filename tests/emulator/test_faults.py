"""Which requests a fault hits."""

from __future__ import annotations

import pytest

from airflow_provider_cml.emulator import FaultError, Faults, Kind


@pytest.fixture
def faults():
    return Faults(["GetJobRun", "CreateJobRun"])


def wire(faults, operation="GetJobRun", times=6, text=""):
    taken = [faults.take(operation, text)[0] for _ in range(times)]
    return "".join("-" if fault is None else fault.kind[0] for fault in taken)


def test_a_fault_hits_its_operation_as_often_as_told(faults):
    """After letting the first ones pass, if told so."""
    faults.add("GetJobRun", "html", count=2, after=1)

    assert "------" == wire(faults, "CreateJobRun")
    assert "-hh---" == wire(faults)


def test_a_fault_without_count_hits_until_it_is_removed(faults):
    """By itself, its id, or with all others."""
    for remove in (faults.remove, lambda fault: faults.remove(fault.id), lambda fault: faults.clear()):
        fault = faults.add("*", "refused")
        assert "rrrrrr" == wire(faults)
        remove(fault)
        assert "------" == wire(faults)
    assert not faults.remove(99)


def test_faults_on_the_wire_stand_in_line(faults):
    """One request, one fault; the next one waits for its turn."""
    faults.add("GetJobRun", "html", count=2)
    faults.add("*", "refused", count=1)

    assert "hhr---" == wire(faults)


def test_faults_of_behaviour_hold_beside_others(faults):
    """Each kind once, and whatever is on the wire."""
    faults.add("*", "no_echo")
    faults.add("*", "no_echo")
    faults.add("*", "list_lag", seconds=3)
    faults.add("*", "html", count=1)
    on_wire, behaviours = faults.take("GetJobRun", "")

    assert on_wire.kind is Kind.HTML
    assert {Kind.NO_ECHO, Kind.LIST_LAG} == set(behaviours)


def test_chance_is_seeded(faults):
    """The same seed gives the same hits, and about as many as the probability says."""
    patterns = []
    for seed in (1, 1, 2):
        faults.clear()
        faults.add("GetJobRun", "html", probability=0.3, seed=seed)
        patterns.append(wire(faults, times=200))

    assert patterns[0] == patterns[1] != patterns[2]
    assert 30 < patterns[0].count("h") < 90


def test_a_fault_may_look_for_a_text(faults):
    """In path, query or body."""
    faults.add("GetJobRun", "html", match="task-7")

    assert "------" == wire(faults, text="task-6")
    assert "hhhhhh" == wire(faults, text='{"environment": "task-7"}')


@pytest.mark.parametrize(
    ("operation", "kind", "settings", "field"),
    [
        ("GetRun", "html", {}, "operation"),
        ("GetJobRun", "htm", {}, "kind"),
        ("GetJobRun", "html", {"coumt": 1}, "coumt"),
        ("GetJobRun", "html", {"count": -1}, "count"),
        ("GetJobRun", "html", {"count": 1.5}, "count"),
        ("GetJobRun", "html", {"probability": 2}, "probability"),
        ("GetJobRun", "html", {"seconds": "1"}, "seconds"),
        ("GetJobRun", "html", {"status": 999}, "status"),
        ("GetJobRun", "html", {"id": 3}, "id"),
        ("GetJobRun", "busy", {"forced": 1}, "forced"),
        ("GetJobRun", "too_many_requests", {"retry_after": []}, "retry_after"),
    ],
)
def test_faults_that_make_no_sense_are_refused(faults, operation, kind, settings, field):
    """By the name of what is wrong."""
    with pytest.raises(FaultError, match=f"^{field}:"):
        faults.add(operation, kind, **settings)

    assert [] == faults.listing()


def test_the_listing_tells_how_often_each_fired(faults):
    """With all its settings."""
    faults.add("GetJobRun", "html", count=2, status=502)
    wire(faults)
    (listed,) = faults.listing()

    assert ("GetJobRun", "html", 2, 502, 2) == tuple(
        listed[name] for name in ("operation", "kind", "count", "status", "fired")
    )
