"""A network as other runtimes read it: one graph, 8-bit images in, decoded boxes and logits out.

Suppression stays outside: it is the same for all backends, and its thresholds change while a node runs.

Shape letters: B images in a batch, H W rows and columns of the input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from perception.interfaces import NetworkOutput, PerceptionNetwork

OUTPUTS = NetworkOutput._fields[:4]
"""Names and order of the graph's outputs."""


class PortableNetwork(nn.Module):
    """What of a network runs on a vehicle, in evaluation: images (B, 3, H, W) uint8 -> OUTPUTS, float32."""

    def __init__(self, network: PerceptionNetwork) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the network."""
        return tuple(self.network(images)[: len(OUTPUTS)])


def export_graph(network: PerceptionNetwork) -> torch.export.ExportedProgram:
    """The graph of a network for any number of images of its input size.

    Args:
        network: Is moved to the CPU and put into evaluation mode.
    """
    # Two images: of one, PyTorch would take the size of the batch for a constant.
    example = torch.zeros(2, 3, *network.input_spec.image_hw, dtype=torch.uint8)
    with torch.no_grad():
        return torch.export.export(
            PortableNetwork(network).cpu(), (example,), dynamic_shapes=({0: torch.export.Dim('batch', min=1, max=64)},)
        )


def to_output(tensors: Sequence[Tensor]) -> NetworkOutput:
    """The graph's outputs as every backend returns them."""
    boxes, objectness, class_logits, mask_logits = tensors
    return NetworkOutput(boxes, objectness, class_logits, mask_logits)
