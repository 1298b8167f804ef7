"""What times hang on is told by the hardware, not by a name that somebody gave it."""

from __future__ import annotations

import os

import pytest
import torch

from perception.replay.provenance import describe_machine


def test_a_machine_is_its_processor_its_cores_and_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = f'{len(os.sched_getaffinity(0))} cores'
    processor, separator, rest = describe_machine('cpu').rpartition(f', {cores}')
    assert (separator, rest) == (f', {cores}', '')
    assert processor
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: f'GPU at {device}')
    assert describe_machine('cuda:1') == f'{processor}, {cores}, GPU at cuda:1'
