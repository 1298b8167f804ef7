"""Two CPU processes give the gradient of one on the joint batch, batch norm included, and write down its losses."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from perception.errors import ConfigError
from perception.interfaces import PerceptionNetwork
from tests.conftest import build_tiny_network
from training.configuration import DataConfig, TrainingConfig
from training.criterion import Criterion
from training.data.sample import Sample
from training.distributed import (
    CpuSyncBatchNorm,
    build_fabric,
    gather_from_processes,
    leave_processes,
    sum_over_processes,
    synchronise_batch_norm,
)
from training.meter import Meter

IMAGE_HW = (96, 192)


def _network() -> PerceptionNetwork:
    """In double precision, so that only a wrong formula can make a difference; dropout differs between processes."""
    network = build_tiny_network(image_hw=IMAGE_HW)
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    return network.double().train()


def _samples() -> list[Sample]:
    """Four images: with everything, boxes only, a mask only, and one of many objects."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, *IMAGE_HW), generator=generator, dtype=torch.uint8)
    mask = torch.randint(0, 11, IMAGE_HW, generator=generator, dtype=torch.uint8)
    partly = mask.clone()
    partly[:, 50:] = 255
    box = torch.tensor([[10.0, 20.0, 60.0, 70.0]])
    many = torch.tensor([[5.0, 5.0, 40.0, 30.0], [80.0, 10.0, 120.0, 90.0], [100.0, 50.0, 180.0, 90.0]])
    return [
        Sample(image=images[0], boxes=box, labels=torch.tensor([1]), mask=mask),
        Sample(image=images[1], boxes=box, labels=torch.tensor([2])),
        Sample(image=images[2], mask=partly),
        Sample(image=images[3], boxes=many, labels=torch.tensor([0, 1, 0]), mask=partly),
    ]


def _gradients(network: PerceptionNetwork) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def _train_one_process(rank: int, port: int, output: Path) -> None:
    import os

    os.environ |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port), 'NODE_RANK': '0'}
    os.environ |= {'LOCAL_RANK': str(rank), 'RANK': str(rank), 'WORLD_SIZE': '2', 'LOCAL_WORLD_SIZE': '2'}
    torch.set_num_threads(1)
    fabric = Fabric(accelerator='cpu', devices=2, strategy=DDPStrategy(forward_sync_buffers=False))
    fabric.launch()
    network = _network()
    synchronise_batch_norm(network, fabric)
    assert any(isinstance(module, CpuSyncBatchNorm) for module in network.modules())
    module = fabric.setup_module(network)
    samples = _samples()[2 * rank : 2 * rank + 2]
    result = module(torch.stack([sample.image for sample in samples]))
    losses = Criterion(reduce=sum_over_processes(fabric))(network, result, samples)
    fabric.backward(losses['total'])
    meter = Meter(gather_from_processes(fabric))
    meter.add(losses, get_total_norm(list(_gradients(network).values())), len(samples))
    saved = meter.sums()
    assert {name: sums[rank] for name, sums in saved.items()} == meter.losses, 'each process goes on from its own sums'
    record = meter.record()
    if rank == 0:
        buffers = {name: value for name, value in network.named_buffers() if 'running' in name}
        torch.save({'gradients': _gradients(network), 'buffers': buffers, **record}, output)
    leave_processes()


def test_two_processes_are_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    output = tmp_path / 'gradients.pt'
    torch.multiprocessing.spawn(_train_one_process, (port, output), nprocs=2)
    together = torch.load(output, weights_only=True)

    network, samples = _network(), _samples()
    result = network(torch.stack([sample.image for sample in samples]))
    losses = Criterion()(network, result, samples)
    losses['total'].backward()
    alone = _gradients(network)
    assert alone.keys() == together['gradients'].keys()
    for name, gradient in alone.items():
        torch.testing.assert_close(together['gradients'][name], gradient, rtol=1e-6, atol=1e-9, msg=name)
    for name, buffer in together['buffers'].items():
        torch.testing.assert_close(buffer, network.get_buffer(name), rtol=1e-6, atol=1e-9, msg=name)
    assert together['losses'] == pytest.approx({name: loss.item() for name, loss in losses.items()}, rel=1e-6)
    assert together['gradient_norms'] == pytest.approx([get_total_norm(list(alone.values())).item()], rel=1e-3)


def test_norms_of_half_precision_keep_their_statistics_in_full(tmp_path: Path) -> None:
    store = torch.distributed.FileStore(str(tmp_path / 'store'), 1)
    torch.distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    try:
        maps = torch.randn(2, 3, 40, 50).mul(3).add(7).bfloat16()
        found, expected = CpuSyncBatchNorm(3), nn.BatchNorm2d(3)
        result = found(maps)
        assert result.dtype == torch.bfloat16
        torch.testing.assert_close(result.float(), expected(maps.float()), rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(found.running_mean, expected.running_mean)
        torch.testing.assert_close(found.running_var, expected.running_var)
    finally:
        torch.distributed.destroy_process_group()


def test_torchrun_and_configuration_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainingConfig(data=(DataConfig(name='camvid', root='data'),), accelerator='cpu')
    monkeypatch.setenv('WORLD_SIZE', '4')
    assert build_fabric(config).world_size == 1  # of something else that runs around it
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'run')
    with pytest.raises(ConfigError, match='torchrun started 4 processes, but devices 1 x num_nodes 1 asks for 1'):
        build_fabric(config)


@pytest.mark.parametrize('training', [True, False])
def test_a_single_process_keeps_its_norms(training: bool) -> None:
    network = _network().train(training)
    before = [type(module) for module in network.modules()]
    synchronise_batch_norm(network, Fabric(accelerator='cpu', devices=1))
    assert [type(module) for module in network.modules()] == before
