"""What a run writes down of its losses and gradients."""

import pytest
import torch

from training.meter import Meter

NORM = torch.tensor(2.0)


def test_neither_a_validation_nor_a_kill_takes_losses_out_of_a_mean() -> None:
    meter = Meter()
    meter.add({'total': torch.tensor(1.0)}, torch.tensor(1234.56), images=8)
    meter.restart_clock()
    meter.add({'total': torch.tensor(2.0)}, torch.tensor(float('inf')), images=8)
    resumed = Meter(losses=meter.losses, gradient_norms=meter.gradient_norms)
    resumed.add({'total': torch.tensor(6.0)}, NORM, images=8)
    record = resumed.record()
    assert record['losses'] == {'total': pytest.approx(3.0)}
    assert record['gradient_norms'] == [1235.0, None, 2.0]
    resumed.add({'total': torch.tensor(5.0)}, NORM, images=8)
    record = resumed.record()
    assert record['losses'] == {'total': pytest.approx(5.0)}
    assert record['gradient_norms'] == [2.0]


def test_losses_are_the_mean_over_processes() -> None:
    meter = Meter(lambda values: torch.stack([values, values + 4]))  # the other process has lost more
    meter.add({'total': torch.tensor(1.0), 'detection': torch.tensor(0.0)}, NORM, images=8)
    assert {name: sums.tolist() for name, sums in meter.sums().items()} == {'total': [1, 5], 'detection': [0, 4]}
    meter.add({'total': torch.tensor(1.0), 'detection': torch.tensor(2.0)}, NORM, images=8)
    assert meter.record()['losses'] == {'total': 2.0, 'detection': 2.0}
    assert meter.sums() == {}
