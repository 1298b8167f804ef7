"""The networks, by name. A new network is one file (or folder) here and one line in NETWORKS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from perception.errors import ConfigError, nearest
from perception.interfaces import InputSpec, LabelSpace, PerceptionNetwork
from perception.networks.blitznet import BLITZNET512, BLITZNET_SMALL, BlitzNet, BlitzNetConfig
from perception.networks.configuration import config_to_dict, override_config
from perception.networks.encoders import normalization_of
from perception.networks.interdependent import (
    INTERDEPENDENT_LITE,
    INTERDEPENDENT_SMALL,
    InterdependentConfig,
    InterdependentNetwork,
)
from perception.networks.ivanet import IVANET512, IVANET_SMALL, IvaNet, IvaNetConfig
from perception.networks.layers import check_divisible
from perception.networks.triplenet import PAIRNET, PAIRNET_SMALL, TRIPLENET, TRIPLENET_SMALL, TripleNet

__all__ = [
    'NETWORKS',
    'NetworkEntry',
    'build_network',
    'config_to_dict',
    'override_config',
    'resolve_config',
    'resolve_input_spec',
]


class NetworkClass(Protocol):
    """How every network is constructed."""

    family: str

    def __call__(self, *, name: str, config: Any, labels: LabelSpace, input_spec: InputSpec) -> PerceptionNetwork: ...


@dataclass(frozen=True, kw_only=True)
class NetworkEntry:
    """A network class with the configuration and the input that it has under this name unless told otherwise."""

    network: NetworkClass
    config: Any
    input_spec: InputSpec = field(default_factory=InputSpec)


NETWORKS: dict[str, NetworkEntry] = {
    'interdependent': NetworkEntry(network=InterdependentNetwork, config=InterdependentConfig()),
    'interdependent_small': NetworkEntry(network=InterdependentNetwork, config=INTERDEPENDENT_SMALL),
    'interdependent_lite': NetworkEntry(
        network=InterdependentNetwork, config=INTERDEPENDENT_LITE, input_spec=InputSpec(image_hw=(416, 544))
    ),
    'blitznet300': NetworkEntry(network=BlitzNet, config=BlitzNetConfig(), input_spec=InputSpec(image_hw=(300, 300))),
    'blitznet512': NetworkEntry(network=BlitzNet, config=BLITZNET512, input_spec=InputSpec(image_hw=(512, 512))),
    # Road scenes are wide: of the published size the encoder would see neither poles nor pedestrians.
    'blitznet300_small': NetworkEntry(
        network=BlitzNet, config=BLITZNET_SMALL, input_spec=InputSpec(image_hw=(320, 416))
    ),
    'ivanet300': NetworkEntry(network=IvaNet, config=IvaNetConfig(), input_spec=InputSpec(image_hw=(300, 300))),
    'ivanet512': NetworkEntry(network=IvaNet, config=IVANET512, input_spec=InputSpec(image_hw=(512, 512))),
    'ivanet300_small': NetworkEntry(network=IvaNet, config=IVANET_SMALL, input_spec=InputSpec(image_hw=(320, 416))),
    'pairnet300': NetworkEntry(network=TripleNet, config=PAIRNET, input_spec=InputSpec(image_hw=(300, 300))),
    'pairnet512': NetworkEntry(network=TripleNet, config=PAIRNET, input_spec=InputSpec(image_hw=(512, 512))),
    'pairnet300_small': NetworkEntry(
        network=TripleNet, config=PAIRNET_SMALL, input_spec=InputSpec(image_hw=(320, 416))
    ),
    'triplenet300': NetworkEntry(network=TripleNet, config=TRIPLENET, input_spec=InputSpec(image_hw=(300, 300))),
    'triplenet512': NetworkEntry(network=TripleNet, config=TRIPLENET, input_spec=InputSpec(image_hw=(512, 512))),
    'triplenet300_small': NetworkEntry(
        network=TripleNet, config=TRIPLENET_SMALL, input_spec=InputSpec(image_hw=(320, 416))
    ),
}


def resolve_config(name: str, config: Any = None) -> Any:
    """The configuration dataclass that ``build_network`` would use.

    Args:
        name: A name in NETWORKS.
        config: None for the preset of that name, a dataclass of its class, or a mapping of overrides of the preset.

    Raises:
        ConfigError: If the name or a key is unknown, or a value is of the wrong type or out of range.
    """
    if name not in NETWORKS:
        raise ConfigError(f'There is no network {name!r}; {nearest(name, list(NETWORKS))}')
    preset = NETWORKS[name].config
    if config is None:
        return preset
    if isinstance(config, Mapping):
        return override_config(preset, config)
    if isinstance(config, type(preset)):
        return config
    raise ConfigError(
        f'Network {name!r} takes a {type(preset).__name__} or a mapping of its fields, not a {type(config).__name__}.'
    )


def resolve_input_spec(name: str, config: Any = None, image_hw: tuple[int, int] | None = None) -> InputSpec:
    """What images a network sees unless told otherwise: its preset's input, with the normalisation of its encoder.

    Args:
        name, config: As ``build_network`` takes them.
        image_hw: Height and width of the input; None for the preset's.

    Raises:
        ConfigError: If the name, a key or the encoder is unknown, or a value is of the wrong type or out of range.
    """
    spec = NETWORKS[name].input_spec if name in NETWORKS else InputSpec()
    resolved = resolve_config(name, config)
    mean_rgb, std_rgb = normalization_of(resolved.encoder)
    return replace(spec, image_hw=image_hw or spec.image_hw, mean_rgb=mean_rgb, std_rgb=std_rgb)


def build_network(
    name: str, labels: LabelSpace, config: Any = None, input_spec: InputSpec | None = None
) -> PerceptionNetwork:
    """Build a network with initialised weights, in training mode.

    Args:
        name: A name in NETWORKS.
        labels: The classes it tells apart.
        config: None for the preset of that name, a dataclass of its class, or a mapping of overrides of the preset.
        input_spec: What images it sees; None for what ``resolve_input_spec`` says.

    Raises:
        ConfigError: If the name or a key is unknown, or a value is of the wrong type or out of range.
        ShapeError: If the size in input_spec is not a multiple of the network's divisor.
    """
    resolved = resolve_config(name, config)
    entry = NETWORKS[name]
    spec = input_spec or resolve_input_spec(name, resolved)
    network = entry.network(name=name, config=resolved, labels=labels, input_spec=spec)
    check_divisible(network.input_spec.image_hw, network.divisor)
    return network
