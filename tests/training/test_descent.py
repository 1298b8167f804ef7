"""The loop that all training goes through: what a step changes, what ends it, what is thrown away."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from perception.output_folder import StopRequest
from training.average import average_of
from training.data.batch import Batch, pack_samples
from training.data.sample import Sample
from training.descent import Descent
from training.errors import StepError, TrainingError


class Slope(nn.Module):
    """One weight, whose loss falls by 3 for each unit."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(10.0))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {'total': -3 * self.weight, 'images': torch.tensor(float(len(batch)))}


def batches() -> Iterator[Batch]:
    while True:
        yield Batch(pack_samples([Sample(image=torch.zeros(3, 4, 4, dtype=torch.uint8))] * 2))


@pytest.fixture
def slope() -> Slope:
    return Slope()


def descend(slope: Slope, **options: Any) -> Descent:
    given = {'average': None, 'clip_norm': 0.0, 'stop': StopRequest(), **options}
    return Descent(Fabric(accelerator='cpu'), slope, torch.optim.SGD(slope.parameters(), lr=1.0), **given)


def test_it_goes_down_at_each_rate_until_there_is_none(slope: Slope) -> None:
    rates = iter((0.5, 0.25, None))
    steps = list(descend(slope).steps(batches(), lambda: next(rates), slope.losses))
    assert [(step.rate, step.images, float(step.gradient_norm), step.stop) for step in steps] == [
        (0.5, 2, 3, False),
        (0.25, 2, 3, False),
    ]
    assert [float(step.losses['total'].detach()) for step in steps] == [-30, -34.5]
    assert slope.weight.item() == 10 + 3 * 0.75


def test_the_gradient_is_clipped_and_its_norm_told_before(slope: Slope) -> None:
    rates = iter((1.0, None))
    (step,) = descend(slope, clip_norm=0.5).steps(batches(), lambda: next(rates), slope.losses)
    assert float(step.gradient_norm) == 3
    assert slope.weight.item() == pytest.approx(10.5)


def test_the_average_follows(slope: Slope) -> None:
    average = average_of(slope, 0.5)
    assert average is not None
    rates = iter((1.0, 1.0, None))
    list(descend(slope, average=average).steps(batches(), lambda: next(rates), slope.losses))
    assert average.module.weight.item() == 14.5, 'of 13, with which it begins, and 16'


@pytest.mark.parametrize('where', ['total', 'images', 'gradient'])
def test_a_step_that_is_not_finite_changes_nothing(slope: Slope, where: str) -> None:
    average = average_of(slope, 0.5)
    assert average is not None

    def losses(batch: Batch) -> dict[str, Tensor]:
        found = slope.losses(batch)
        if where == 'gradient':
            found['total'] = (slope.weight - 10).abs().sqrt()  # 0, on an infinite slope
        else:
            found[where] = found[where] * float('nan')
        return found

    said = 'norm of the gradient' if where == 'gradient' else where
    with pytest.raises(StepError, match=f'{said} = (nan|inf)') as error:
        list(descend(slope, average=average).steps(batches(), lambda: 1.0, losses))
    assert isinstance(error.value, TrainingError)
    assert slope.weight.item() == average.module.weight.item() == 10


def test_it_tells_when_somebody_asked_to_stop(slope: Slope) -> None:
    stop = StopRequest()
    steps = descend(slope, stop=stop).steps(batches(), lambda: 1.0, slope.losses)
    assert not next(steps).stop
    stop.requested = True
    assert next(steps).stop
