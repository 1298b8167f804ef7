"""Contenders take turns, whoever fails is out, and a machine that slows down changes no ratio."""

from collections.abc import Callable, Mapping
from itertools import count

import numpy as np
import pytest

from perception.benchmark.rounds import WHOLE, Spread, ratio, run_rounds, stopwatch
from perception.errors import NotFiniteError


def recorded(turns: list[str], name: str, times_ms: Callable[[int], float]) -> Callable[[], Mapping[str, float]]:
    numbers = count()

    def run() -> dict[str, float]:
        turns.append(name)
        return {'work': times_ms(next(numbers))}

    return run


def test_all_take_turns_and_warm_up_does_not_count() -> None:
    turns: list[str] = []
    told: list[str] = []
    contenders = {name: recorded(turns, name, float) for name in 'ABC'}
    times, failures = run_rounds(contenders, 2, warm_up=1, on_turn=told.append)
    assert ''.join(turns) == 'ABCABCABC'
    assert told == turns
    assert failures == {}
    assert {name: stages['work'].tolist() for name, stages in times.items()} == {name: [1.0, 2.0] for name in 'ABC'}


@pytest.mark.parametrize('error', [NotFiniteError('no number'), RuntimeError('out of memory')], ids=['ours', 'theirs'])
@pytest.mark.parametrize('fails_at', [0, 2], ids=['in warm-up', 'later'])
def test_who_fails_is_out_and_the_others_go_on(error: Exception, fails_at: int) -> None:
    turns: list[str] = []

    def fail(number: int) -> float:
        if number == fails_at:
            raise error
        return 1.0

    contenders = {'A': recorded(turns, 'A', fail), 'B': recorded(turns, 'B', lambda number: 2.0)}
    times, failures = run_rounds(contenders, 3, warm_up=1)
    assert failures == {'A': str(error)}
    assert {name: stages['work'].tolist() for name, stages in times.items()} == {'B': [2.0, 2.0, 2.0]}
    assert turns.count('A') == fails_at + 1


def test_a_stop_between_turns_is_heard() -> None:
    def stop(name: str) -> None:
        raise KeyboardInterrupt

    turns: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_rounds({'A': recorded(turns, 'A', float), 'B': recorded(turns, 'B', float)}, 3, on_turn=stop)
    assert turns == ['A']


def test_a_machine_that_slows_down_changes_no_ratio() -> None:
    load = np.array([1, 1, 9, 9, 9.0])
    assert ratio(30 * load, 10 * load) == pytest.approx(3)
    # One odd round moves the median of its times, to 18 in place of 27, and not the ratio.
    assert ratio(np.array([3, 3, 27, 27, 18.0]), load) == pytest.approx(3)


def test_spread_is_of_quartiles() -> None:
    spread = Spread.of(np.array([5.0, 1, 2, 3, 4]))
    assert spread == Spread(median=3, lower_quartile=2, upper_quartile=4, least=1, longest=5)


def test_a_stopwatch_runs_the_work_once() -> None:
    done: list[int] = []
    (took,) = stopwatch(lambda: done.append(1))().values()
    assert done == [1]
    assert took >= 0
    times, _ = run_rounds({'work': stopwatch(lambda: done.append(1))}, 3, warm_up=0)
    assert times['work'][WHOLE].shape == (3,)
    assert len(done) == 4
