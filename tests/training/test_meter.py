"""What a run writes down of its losses."""

import pytest
import torch

from training.meter import Meter


def test_neither_a_validation_nor_a_kill_takes_losses_out_of_a_mean() -> None:
    meter = Meter()
    meter.add({'total': torch.tensor(1.0)}, images=8)
    meter.restart_clock()
    meter.add({'total': torch.tensor(2.0)}, images=8)
    resumed = Meter(meter.losses, meter.steps)
    resumed.add({'total': torch.tensor(6.0)}, images=8)
    assert resumed.record()['losses'] == {'total': pytest.approx(3.0)}
    resumed.add({'total': torch.tensor(5.0)}, images=8)
    assert resumed.record()['losses'] == {'total': pytest.approx(5.0)}
