"""The relative gate on frame times whose truth is known: false alarms, power, coverage, refusals."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from gate_noise import ALL, DRIFT, LAYOUT, NEIGHBOURS, QUIET, TAILS, Noise, in_turns
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test

from fusionkd.errors import UserError
from fusionkd.realtime.gate import FALSE_ALARM, Comparison, compare, percentile_99, swap_p_value, trimmed_mean
from fusionkd.realtime.turns import GatePlan

PLAN = GatePlan()
RUNS = 200


def looked_at(candidate: np.ndarray, baseline: np.ndarray, **options: Any) -> Comparison:
    """What the gate says of one run: it stops at the first look that decides."""
    for starts in PLAN.looks:
        rounds = starts * PLAN.rounds_per_start
        said = compare(candidate[:rounds], baseline[:rounds], starts=starts, looks=len(PLAN.looks), **options)
        if said.verdict != "inconclusive":
            break
    return said


def verdicts(noise: Noise, *, slow_down: float, runs: int, seed: int) -> Counter[str]:
    rng = np.random.default_rng(seed)
    sides = in_turns(rng, noise, runs, starts=PLAN.most_starts, rounds=PLAN.rounds_per_start, slow_down=slow_down)
    return Counter(looked_at(*pair).verdict for pair in zip(*sides))


@pytest.mark.slow
def test_false_alarms_and_power_on_a_noisy_machine() -> None:
    """At most 1 false alarm in 200, at least 95 % of the slow-downs by 5 % found, with everything wrong at once."""
    assert verdicts(ALL, slow_down=1.0, runs=RUNS, seed=0)["slower"] <= 1
    assert verdicts(ALL, slow_down=1.05, runs=RUNS, seed=1)["slower"] >= 0.95 * RUNS


@pytest.mark.parametrize(
    "noise", [QUIET, DRIFT, NEIGHBOURS, TAILS, LAYOUT], ids=["quiet", "drift", "neighbours", "tails", "layout"]
)
def test_each_noise_alone(noise: Noise) -> None:
    assert verdicts(noise, slow_down=1.0, runs=20, seed=2) == {"not slower": 20}
    assert verdicts(noise, slow_down=1.05, runs=20, seed=3) == {"slower": 20}


def test_a_faster_candidate_is_not_slower() -> None:
    assert verdicts(ALL, slow_down=0.8, runs=5, seed=4) == {"not slower": 5}


def test_interval_holds_the_truth() -> None:
    """Coverage of the median's ratio: 90 % intervals of 200 runs with everything wrong at once."""
    sides = in_turns(np.random.default_rng(5), ALL, 200, starts=30, rounds=5, slow_down=1.05)
    said = [compare(*pair, starts=30, confidence=0.90) for pair in zip(*sides)]
    inside = sum(one.median.low <= 1.05 <= one.median.high for one in said)
    assert binomtest(inside, len(said), 0.90).pvalue > 0.01


def test_rounds_alone_would_take_a_processs_layout_for_a_difference() -> None:
    """Why starts are drawn and not rounds: with one start per round the same times look far surer than they are."""
    noise = Noise(layout=0.04)
    candidate, baseline = (side[0] for side in in_turns(np.random.default_rng(10), noise, 1, starts=6, rounds=50))
    honest, naive = compare(candidate, baseline, starts=6), compare(candidate, baseline, starts=300)
    assert honest.median.high - honest.median.low > 3 * (naive.median.high - naive.median.low)


def test_a_tail_that_grew_is_an_alarm_of_its_own() -> None:
    """One frame in thirty takes twice as long: the median doesn't see it."""
    candidate, baseline = in_turns(np.random.default_rng(6), QUIET, 1, starts=20, rounds=30)
    candidate[0, ::30] *= 2
    said = compare(candidate[0], baseline[0], starts=20)
    assert said.median.verdict == "not slower"
    assert said.p99.verdict == said.verdict == "slower"
    assert said.p99.value == pytest.approx(2, abs=0.15)


def test_swap_test_rejects_as_often_as_it_says_where_neighbours_come_in_bursts() -> None:
    """Under no difference the p-value is uniform, also for frames that depend on each other."""
    candidate, baseline = in_turns(np.random.default_rng(7), ALL, 400, starts=15, rounds=4)
    rng = np.random.default_rng(8)
    differences = np.log(candidate / baseline).reshape(400, 15, 4).sum(axis=2)
    p = np.array([swap_p_value(row, rng) for row in differences])
    assert binomtest(int((p <= 0.10).sum()), len(p), 0.10).pvalue > 0.01


def test_swap_test_equals_scipys_exact_permutation_test() -> None:
    differences = np.array([0.3, -0.1, 0.7, 0.2, 0.5, -0.4, 0.9, 0.1])
    exact = permutation_test(
        (differences, np.zeros(8)), lambda x, y: (x - y).sum(), permutation_type="samples", alternative="greater"
    )
    assert swap_p_value(differences, np.random.default_rng(0)) == pytest.approx(exact.pvalue, abs=0.01)


def test_identical_times_prove_nothing_against_the_candidate() -> None:
    same = np.full((50, 3), 10**7, np.int64)
    said = compare(same, same, starts=10)
    assert said.median.value == said.p99.value == 1
    assert said.median.swap_p == said.p99.swap_p == 1
    assert said.verdict == "not slower"


def test_few_noisy_rounds_are_inconclusive_and_more_looks_widen_the_interval() -> None:
    rng = np.random.default_rng(9)
    candidate, baseline = (side[0] for side in in_turns(rng, ALL, 1, starts=6, rounds=3, slow_down=1.03))
    once, often = compare(candidate, baseline, starts=6), compare(candidate, baseline, starts=6, looks=5)
    assert once.verdict == "inconclusive"
    assert often.median.low <= once.median.low < once.median.high <= often.median.high
    assert often.median.swap_level == FALSE_ALARM / 10


@given(st.lists(st.floats(-1, 1), min_size=5, max_size=40), st.integers(0, 2**32 - 1))
def test_resamples_by_counts_equal_resamples_written_out(values: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(values), len(values))
    times = np.bincount(drawn, minlength=len(values)).astype(np.int32)[None]
    array, cut = np.array(values), len(values) // 5
    written_out = np.sort(array[drawn])[cut : len(values) - cut].mean()
    assert trimmed_mean(array, times)[0] == pytest.approx(written_out, abs=1e-12)
    blocks = rng.integers(1, 10**9, (len(values), 3))
    expected = np.quantile(blocks[drawn], 0.99, method="inverted_cdf")
    assert percentile_99(blocks, times)[0] == expected


@pytest.mark.parametrize(
    ("shapes", "starts", "message"),
    [
        (((30, 2), (30, 3)), 6, "as many rounds"),
        (((60,), (60,)), 6, "as many rounds"),
        (((60, 1), (60, 1)), 5, "at least 6 starts"),
        (((60, 1), (60, 1)), 7, "equally many rounds of each"),
        (((0, 1), (0, 1)), 6, "equally many rounds of each"),
    ],
)
def test_refuses_what_can_not_be_compared(shapes: tuple[Any, Any], starts: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare(np.ones(shapes[0], np.int64), np.ones(shapes[1], np.int64), starts=starts)


def test_refuses_times_of_a_clock_that_steps_backwards() -> None:
    times = np.full((30, 1), 5, np.int64)
    times[7] = -1
    with pytest.raises(UserError, match="clock doesn't run forwards"):
        compare(times, np.abs(times), starts=10)


def test_few_starts_never_say_slower() -> None:
    """Six coin tosses can't reject at the level of one false alarm in 200, however clear the difference looks."""
    slow, fast = np.full((30, 2), 40 * 10**6, np.int64), np.full((30, 2), 20 * 10**6, np.int64)
    assert compare(slow, fast, starts=6).verdict == "inconclusive"
    assert compare(slow, fast, starts=10).verdict == "slower"


def test_numbers_say_which_side_they_are_of() -> None:
    slow, fast = np.full((30, 2), 40 * 10**6, np.int64), np.full((30, 2), 20 * 10**6, np.int64)
    said = compare(slow, fast, starts=15).to_dict()
    assert said["verdict"] == said["median"]["verdict"] == "slower"
    assert (said["median"]["candidate_ms"], said["median"]["baseline_ms"], said["median"]["value"]) == (40, 20, 2)
