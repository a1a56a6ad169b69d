"""The whole search with a made-up machine: launch profiles, schedulers on the best one, and the proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.workload_file import load_workload
from ray.bench.tune.duel import Proof
from ray.bench.tune.memory import MemoryRoom
from ray.bench.tune.report import Findings
from ray.bench.tune.rungs import Answers
from ray.bench.tune.search import Ask, BackendGone, Outlook
from ray.bench.tune.space import Candidate, Load, launch_profile_of
from ray.bench.tune.stages import NO_SCORE, Asks, Memory, Task, tune, whole_label
from ray.config import Config, LaunchProfile, config_from_mapping
from tests.bench.tune_fakes import no_one, samples

SUB1B = config_from_mapping({"profile": "sub1b"})


def launch_of(config: Config) -> LaunchProfile:
    launch = launch_profile_of(config)
    assert launch is not None
    return launch


class Machine:
    """Every config has a latency in ms, by a rule; `broken` names what cannot be started."""

    def __init__(
        self, latency: Callable[[Config], float], broken: Callable[[Config], bool] = lambda config: False
    ) -> None:
        self.latency, self.broken = latency, broken
        self.now, self.passed = 0.0, True
        self.launched: list[Config] = []
        self.final: list[Config] = []
        self.backends: list[LaunchProfile] = []

    def answer(self, candidate: Candidate, requests: int, first: int, give_up_s: float | None) -> Answers:
        if self.broken(candidate.config):
            raise MeasurementError("exit code 42")
        latency = self.latency(candidate.config)
        self.now += requests * latency / 1000
        given = samples(requests, latency, first=first, passed=self.passed)
        return Answers(given, requests * latency, ProviderTally(), requests * latency / 1000)

    def launch(self, candidate: Candidate, requests: int, first: int, give_up_s: float | None) -> Answers:
        self.launched.append(candidate.config)
        return self.answer(candidate, requests, first, give_up_s)

    def prove(self, candidate: Candidate, requests: int, first: int, give_up_s: float | None) -> Answers:
        self.final.append(candidate.config)
        return self.answer(candidate, requests, first, give_up_s)

    @contextmanager
    def schedulers(self, config: Config) -> Iterator[Ask]:
        self.backends.append(launch_of(config))
        yield self.answer


def tuned(
    machine: Machine,
    *,
    full: bool = True,
    memory: Memory | None = None,
    limit_s: float | None = None,
    base: Config = SUB1B,
) -> Findings:
    task = Task(base, full, Load(2, (96, 160)), 4, 8, 64, 8, cpus=2)
    outlook = Outlook(lambda: machine.now, limit_s)
    proof = Proof(load_workload(None), 2, 8, 4, True, machine.prove, outlook, {}, no_one)
    found = Findings(base, "full" if full else "gateway", {})
    tune(task, Asks(machine.launch, machine.schedulers, machine.prove), memory, proof, found, no_one)
    return found


def test_the_best_launch_profile_and_the_best_scheduler_on_it_become_one_patch() -> None:
    def latency(config: Config) -> float:
        return 100.0 + 50 * (launch_of(config).threads - 1) + 5 * config.scheduler.batch_window_ms

    machine = Machine(latency)
    found = tuned(machine)
    assert found.patch == {
        "model": {"adapter": {"launchProfile": {"threads": 1}}},
        "scheduler": {"batchWindowMs": 0},
    }
    assert found.won is not None
    assert found.won.rival.label == "ctx3072-p2-t1-b256-u128 c2-bw0-aff24-if4096-short96"
    # The schedulers are tried before the winning launch profile, and the proof is against the starting one.
    assert [launch.threads for launch in machine.backends] == [1]
    assert machine.final[0] == SUB1B
    assert {launch_of(config).threads for config in machine.final} == {1, 2}


def test_when_nothing_is_better_the_starting_settings_are_kept_without_a_comparison() -> None:
    machine = Machine(lambda config: 100.0)
    found = tuned(machine)
    assert (found.patch, found.duels, machine.final) == ({}, [], [])


def test_when_no_answer_passes_it_is_said_that_nothing_can_be_ranked() -> None:
    machine = Machine(lambda config: 100.0 + config.scheduler.batch_window_ms)
    machine.passed = False
    found = tuned(machine, full=False)
    assert (found.patch, found.duels, found.notes) == ({}, [], [NO_SCORE])


def test_a_winner_that_was_only_lucky_gives_way_to_the_runner_up_once() -> None:
    seen: dict[int, int] = {}

    def latency(config: Config) -> float:
        window = config.scheduler.batch_window_ms
        seen[window] = seen.get(window, 0) + 1
        in_search = {0: 50.0, 5: 60.0, 15: 70.0}.get(window, 100.0)
        return in_search if seen[window] <= 3 else {5: 60.0}.get(window, 100.0)

    found = tuned(Machine(latency), full=False)
    assert [duel.won for duel in found.duels] == [False, True]
    assert found.patch == {"scheduler": {"batchWindowMs": 5}}


def test_two_that_are_not_proven_are_enough() -> None:
    seen: dict[int, int] = {}

    def latency(config: Config) -> float:
        window = config.scheduler.batch_window_ms
        seen[window] = seen.get(window, 0) + 1
        return 50.0 + window if window != 10 and seen[window] <= 3 else 100.0

    found = tuned(Machine(latency), full=False)
    assert [duel.won for duel in found.duels] == [False, False]
    assert found.patch == {}


def test_candidates_that_do_not_start_or_do_not_fit_leave_the_rest_to_be_searched() -> None:
    machine = Machine(
        lambda config: 100.0 - 10 * (launch_of(config).ctx_size == 2048),
        broken=lambda config: launch_of(config).threads == 1,
    )
    memory = Memory(MemoryRoom(3000, 800, 900), lambda config: 2000 if launch_of(config).ctx_size == 4096 else 500)
    found = tuned(machine, memory=memory)
    outcomes = {one.candidate.label: (one.outcome, one.reason) for one in found.launch}
    assert outcomes["ctx3072-p2-t1-b256-u128"] == ("failed", "exit code 42")
    assert outcomes["ctx4096-p2-t2-b256-u128"][0] == "does not fit"
    assert all(launch_of(config).ctx_size != 4096 for config in machine.launched)
    # The smaller context is better here, and what belongs to it changes with it.
    assert found.patch == {
        "model": {
            "operational": {"preferredCtxSize": 2048},
            "adapter": {"launchProfile": {"ctxSize": 2048}},
        }
    }
    assert found.notes == ["memory for llama-server: 1300 MiB; the starting settings need at most: 500 MiB"]


def test_starting_settings_that_do_not_fit_are_tried_and_it_is_said() -> None:
    found = tuned(Machine(lambda config: 100.0), memory=Memory(MemoryRoom(3000, 800, 900), lambda config: 9000))
    assert "do not fit; they are tried all the same" in found.notes[1]
    assert {one.outcome for one in found.launch[1:]} == {"does not fit"}
    assert found.patch == {}


def test_a_base_that_fails_ends_everything() -> None:
    machine = Machine(lambda config: 100.0, broken=lambda config: True)
    with pytest.raises(MeasurementError, match=r"starting settings .* cannot be measured: exit code 42"):
        tuned(machine)
    assert len(machine.launched) == 1


@pytest.mark.parametrize("asked", [3, 20])
def test_a_backend_of_all_that_goes_away_ends_everything(asked: int) -> None:
    """In the search or in the proof: no candidate is blamed, and nothing is recommended."""
    machine = Machine(lambda config: 100.0 + config.scheduler.batch_window_ms)
    answer, count = machine.answer, 0

    def gone(candidate: Candidate, requests: int, first: int, give_up_s: float | None) -> Answers:
        nonlocal count
        count += 1
        if count > asked:
            raise BackendGone("does not answer any more")
        return answer(candidate, requests, first, give_up_s)

    machine.answer = gone  # type: ignore[method-assign]
    with pytest.raises(BackendGone):
        tuned(machine, full=False)
    assert bool(machine.final) is (asked == 20)


def test_a_best_launch_profile_that_fails_later_gives_way_to_the_starting_one() -> None:
    def latency(config: Config) -> float:
        return 100.0 + 50 * (launch_of(config).threads - 1) + config.scheduler.batch_window_ms

    machine = Machine(latency)
    machine.broken = lambda config: bool(machine.backends) and launch_of(config).threads == 1
    found = tuned(machine)
    assert [launch.threads for launch in machine.backends] == [1, 2]
    assert found.patch == {"scheduler": {"batchWindowMs": 0}}
    (note,) = found.notes
    assert note.startswith("ctx3072-p2-t1-b256-u128 was the best launch profile and could not be measured again")


def test_a_base_that_fails_in_the_proof_leaves_no_recommendation() -> None:
    machine = Machine(lambda config: 100.0 - config.scheduler.concurrency)

    def dies(config: Config) -> bool:
        return bool(machine.final) and config == SUB1B

    machine.latency, machine.broken = (lambda config: 100.0 + config.scheduler.batch_window_ms), dies
    found = tuned(machine, full=False)
    assert found.patch is None
    assert found.failed
    assert len(found.duels) == 1


def test_a_time_limit_ends_with_what_was_proven_in_time() -> None:
    machine = Machine(lambda config: 1000.0 - 500 * (launch_of(config).threads == 1))
    found = tuned(machine, limit_s=40.0)
    assert machine.now <= 45.0
    assert found.patch is not None


def test_gateway_scope_starts_no_launch_profile() -> None:
    machine = Machine(lambda config: 100.0 + config.scheduler.batch_window_ms)
    found = tuned(machine, full=False)
    assert (found.launch, machine.launched) == ((), [])
    assert found.patch == {"scheduler": {"batchWindowMs": 0}}


def test_the_label_of_the_whole_names_what_is_searched() -> None:
    assert whole_label(SUB1B, full=False) == "c2-bw10-aff24-if4096-short96"
    assert whole_label(SUB1B, full=True) == "ctx3072-p2-t2-b256-u128 c2-bw10-aff24-if4096-short96"
