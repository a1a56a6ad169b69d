"""Whose turn it is among jobs that are due."""

from __future__ import annotations

from ray.jobs.turns import Turns


def test_given_jobs_for_several_hosts_when_taken_then_hosts_take_turns_and_each_has_one_at_a_time() -> None:
    turns = Turns()
    for job_id, host in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b")):
        turns.add(job_id, host, 0.0)
    assert [turns.take(0.0), turns.take(0.0), turns.take(0.0)] == [("a1", "a"), ("b1", "b"), None]
    turns.release("a")
    assert turns.take(0.0) == ("a2", "a")
    turns.release("a")
    turns.release("b")
    # b waited longer than a, which has had two.
    assert turns.take(0.0) == ("b2", "b")
    assert turns.take(0.0) == ("a3", "a")
    assert turns.take(0.0) is None
    assert len(turns) == 0


def test_given_times_when_taken_then_nothing_comes_early_and_the_earliest_comes_first() -> None:
    turns = Turns()
    turns.add("late", "a", 9.0)
    turns.add("early", "b", 5.0)
    assert turns.next_due() == 5.0
    assert turns.take(4.9) is None
    assert turns.take(5.0) == ("early", "b")
    assert turns.next_due() == 9.0
    assert len(turns) == 1
    assert turns.take(9.0) == ("late", "a")
    assert turns.next_due() is None


def test_given_equal_times_when_taken_then_the_order_of_arrival_counts() -> None:
    turns = Turns()
    for job_id in ("z", "a", "m"):
        turns.add(job_id, job_id, 1.0)
    assert [turns.take(1.0) for _ in range(3)] == [("z", "z"), ("a", "a"), ("m", "m")]


def test_given_a_job_that_waits_when_added_again_then_it_is_delivered_once() -> None:
    turns = Turns()
    turns.add("j", "a", 0.0)
    turns.add("j", "a", 0.0)
    assert turns.take(0.0) == ("j", "a")
    turns.release("a")
    assert turns.take(0.0) is None
    turns.add("j", "a", 0.0)  # once taken it may wait again
    assert turns.take(0.0) == ("j", "a")


def test_given_waiting_jobs_when_cleared_then_none_is_left_and_busy_hosts_stay_busy() -> None:
    turns = Turns()
    turns.add("j", "a", 0.0)
    turns.add("k", "a", 0.0)
    turns.add("l", "b", 7.0)
    turns.take(0.0)
    turns.clear()
    assert (len(turns), turns.next_due(), turns.take(9.0)) == (0, None, None)
    turns.add("m", "a", 0.0)
    assert turns.take(9.0) is None
