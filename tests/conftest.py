"""What many tests share: a network small enough to be quick, as a checkpoint file; which of them run side by side."""

from pathlib import Path

import pytest
import torch

from perception.checkpoint import save_checkpoint
from perception.interfaces import InputSpec, LabelSpace, PerceptionNetwork
from perception.labels import CITYSCAPES_11_3
from perception.networks import build_network

TINY_CONFIG = {
    'stem_width': 8,
    'block_widths': (8, 16, 16, 16),
    'block_mid_widths': (8, 8, 8, 8),
    'unit_dilations': (((1,),), ((1, 2),), ((1,), (1, 4)), ((2, 4),)),
    'bottleneck_width': 16,
    'bottleneck_mid_width': 8,
    'decoder_width': 16,
    'skip_width': 8,
    'detector_widths': (16, 16, 16),
    'trident_units': 1,
    'trident_mid_width': 8,
}


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in its own
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tell pytest-xdist what stays together: a file, which shares what is expensive, and what meets on the network."""
    if config.pluginmanager.hasplugin('xdist'):
        for item in items:
            group = 'ros' if item.get_closest_marker('ros') else item.nodeid.partition('::')[0]
            item.add_marker(pytest.mark.xdist_group(group))


def build_tiny_network(
    seed: int = 0, image_hw: tuple[int, int] = (96, 192), labels: LabelSpace = CITYSCAPES_11_3
) -> PerceptionNetwork:
    """An interdependent network of a few thousand parameters; the same one for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network('interdependent', labels, TINY_CONFIG, InputSpec(image_hw=image_hw)).eval()


@pytest.fixture(scope='session')
def tiny_checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint file of the tiny network. Its random weights see objects everywhere, which suits the tests."""
    path = tmp_path_factory.mktemp('checkpoint') / 'tiny.safetensors'
    network = build_tiny_network()
    with torch.no_grad():
        for head in network.detection_head.modules():
            if isinstance(head, torch.nn.Conv2d) and head.bias is not None:
                head.bias.zero_()
    save_checkpoint(path, network, {'data': 'none', 'purpose': 'tests'})
    return path
