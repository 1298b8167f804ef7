"""The learning rate's course, at the values of docs/decisions.md#the-schedule and at the seams."""

import pytest
import torch

from perception.errors import ConfigError
from training.configuration import DataConfig, TrainingConfig
from training.phases import Phase
from training.schedule import ScheduleConfig, learning_rate


def rates(config: ScheduleConfig, iterations: int, initial: float = 1e-3) -> list[float]:
    return [learning_rate(config, step, initial=initial, iterations=iterations) for step in range(iterations)]


def test_paper_values() -> None:
    for step, expected in {0: 1e-3, 5_000: 5.36e-4, 10_000: 1e-3, 15_000: 5.36e-4}.items():
        rate = learning_rate(ScheduleConfig(), step, initial=1e-3, iterations=30_000)
        assert rate == pytest.approx(expected, rel=1e-3)


def test_a_cycle_falls_to_its_end_and_restarts_in_full() -> None:
    course = rates(ScheduleConfig(cycle=100), 300)
    for start in (0, 100, 200):
        cycle = course[start : start + 100]
        assert cycle == sorted(cycle, reverse=True)
        assert cycle[0] == pytest.approx(1e-3)
        # The last step is one short of the end of the decay.
        assert cycle[-1] == pytest.approx(1e-6 + (1e-3 - 1e-6) * 0.01**0.9)


def test_a_phase_shorter_than_a_cycle_still_falls_to_the_end() -> None:
    assert rates(ScheduleConfig(), 500) == rates(ScheduleConfig(cycle=500), 500)


def test_low_rates_are_not_held_up_by_the_end() -> None:
    assert min(rates(ScheduleConfig(cycle=1000), 1000, initial=1e-4)) < 2e-6


def test_one_cycle_rises_then_falls_without_restart() -> None:
    course = rates(ScheduleConfig(kind='one_cycle', warm_up=0.2, cycle=10), 100)
    assert course[:20] == sorted(course[:20])
    assert course[20:] == sorted(course[20:], reverse=True)
    assert max(course) == course[19] == pytest.approx(1e-3)
    assert course[9] == pytest.approx(1e-6 + (1e-3 - 1e-6) / 2)
    assert course[60] == pytest.approx(1e-6 + (1e-3 - 1e-6) / 2)
    assert course[-1] < 2e-6


@pytest.mark.parametrize('iterations', [1, 2, 7])
@pytest.mark.parametrize('kind', ['poly_restarts', 'one_cycle'])
def test_every_rate_lies_between_end_and_full(kind: str, iterations: int) -> None:
    for warm_up in (0.0, 0.5, 0.99):
        course = rates(ScheduleConfig(kind=kind, cycle=3, warm_up=warm_up), iterations)  # type: ignore[arg-type]
        assert all(1e-6 <= rate <= 1e-3 * (1 + 1e-12) for rate in course)


def test_steps_are_torchs() -> None:
    config = ScheduleConfig(kind='steps', drops=(35, 50))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1e-4)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [35, 50])
    for rate in rates(config, 65, initial=1e-4):
        assert rate == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()
    assert rates(config, 65, initial=1e-4)[34:36] == pytest.approx([1e-4, 1e-5], rel=1e-12)


def test_steps_may_warm_up() -> None:
    course = rates(ScheduleConfig(kind='steps', drops=(20,), drop_factor=0.5, warm_up_steps=10), 30)
    assert course == pytest.approx([1e-4 * step for step in range(1, 11)] + [1e-3] * 10 + [5e-4] * 10)


def test_a_drop_that_never_comes_is_refused() -> None:
    run = {
        'data': (DataConfig(name='camvid', root='x'),),
        'phases': (Phase(name='all', iterations=65, learning_rate=1.0),),
    }
    TrainingConfig(**run, schedule=ScheduleConfig(kind='steps', drops=(35, 64)))  # type: ignore[arg-type]
    for setting in ({'drops': (35, 65)}, {'warm_up_steps': 65}):
        with pytest.raises(ConfigError, match=r"'all' has 65 iterations.*step 65"):
            TrainingConfig(**run, schedule=ScheduleConfig(kind='steps', **setting))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    'setting',
    [
        {'kind': 'step'},
        {'cycle': 0},
        {'power': 0.0},
        {'end': -1.0},
        {'warm_up': 1.0},
        {'drops': (5,)},
        {'drops': (50, 35), 'kind': 'steps'},
        {'drops': (35, 35), 'kind': 'steps'},
        {'drops': (0, 35), 'kind': 'steps'},
        {'drop_factor': 1.0, 'kind': 'steps'},
        {'drop_factor': 0.0, 'kind': 'steps'},
        {'warm_up_steps': 36, 'drops': (35,), 'kind': 'steps'},
        {'warm_up_steps': -1, 'kind': 'steps'},
        {'warm_up_steps': 5, 'kind': 'one_cycle'},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        ScheduleConfig(**setting)  # type: ignore[arg-type]
