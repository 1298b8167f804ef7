"""The self-describing checkpoint: one safetensors file that says which network it is and how to feed it.

The file's header holds one JSON document beside the weights: network name, its configuration (anchors included), label
spaces, input size and normalisation, the training's provenance, and a checksum of all this, since weights with flipped
bytes run as well as others. Nothing has to be typed again where it is used, and loading never executes code.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from perception.errors import CheckpointError, PerceptionError
from perception.interfaces import InputSpec, LabelSpace, PerceptionNetwork
from perception.labels import DEFAULT_LABELS, parse_label_space
from perception.networks import NETWORKS, build_network, config_to_dict

logger = logging.getLogger(__name__)

FORMAT = 'perception-checkpoint'
FORMAT_VERSION = 1
UNTRAINED = 'untrained'
DEFAULT_NETWORK = 'interdependent_lite'
SHIPPED_WEIGHTS = Path(__file__).parent / 'weights' / f'{DEFAULT_NETWORK}.safetensors'
_CHECKSUM = 'sha256'
_ENTRIES = {'format', 'format_version', 'network', 'config', 'labels', 'input', 'provenance'}
"""Of the header's document, besides the checksum."""
_LARGEST_HEADER = 100_000_000
"""Bytes of JSON that the reader of safetensors takes."""
_AT_RANDOM = f'@{UNTRAINED}'
_NAME_A_NETWORK = f'give the name of a network: {", ".join(NETWORKS)}'


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network with its weights, ready to run.

    Attributes:
        network: In evaluation mode.
        digest: The first 12 hex digits of the file's SHA-256, or ``untrained``.
        provenance: What the training wrote about itself; empty for an untrained network.
        path: Where it came from; None for an untrained network.
    """

    network: PerceptionNetwork
    digest: str
    provenance: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def trained(self) -> bool:
        return self.digest != UNTRAINED

    @property
    def title(self) -> str:
        """``network@digest``, as published in VisionInfo."""
        return f'{self.network.name}@{self.digest}'


def save_checkpoint(
    path: Path | str,
    network: PerceptionNetwork,
    provenance: dict[str, Any] | None = None,
    *,
    stored_as: torch.dtype | None = None,
) -> None:
    """Write a network to one file, atomically: a reader sees the old file or the new one, never a part.

    Args:
        stored_as: Type of the convolutions' weights in the file, for a smaller one; they are loaded as float32 whatever
            it is. Norms and biases, whose range is wider and which are few, stay as they are.

    Raises:
        CheckpointError: If the provenance cannot be written as JSON, or the file cannot be written.
    """
    description: dict[str, Any] = {
        'format': FORMAT,
        'format_version': FORMAT_VERSION,
        'network': network.name,
        'config': config_to_dict(network.config),
        'labels': asdict(network.labels),
        'input': asdict(network.input_spec),
        'provenance': provenance or {},
    }
    # A layout such as channels_last is how weights are run, not what they are.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if stored_as is not None:
        tensors = {name: tensor.to(stored_as) if tensor.ndim > 1 else tensor for name, tensor in tensors.items()}
    path = Path(path)
    partial = path.with_name(f'{path.name}.partial')
    try:
        description = json.loads(_canonical(description))  # as it will be read: keys that are numbers become text
        # A part of the document: safetensors writes several entries of a header in an order of chance.
        text = _canonical(description | {_CHECKSUM: _checksum(description, tensors)})
        content = save(tensors, metadata={'perception': text})
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open('wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the new name on an empty file
        partial.replace(path)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f'The provenance of {path} must be plain JSON values: {error}') from error
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise CheckpointError(f'Cannot write the checkpoint {path}: {error}') from error


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint and rebuild its network, in evaluation mode.

    Raises:
        CheckpointError: If the file is missing, truncated, damaged, not a perception checkpoint, or does not fit its
            network.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'There is no checkpoint file {path}; expected a .safetensors file. Check the path.')
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(_unreadable(path, error)) from error
    description = _description(path, metadata, tensors)
    try:
        network = build_network(
            description['network'],
            parse_label_space(description['labels']),
            description['config'],
            _input_spec(description['input']),
        )
    except PerceptionError as error:
        raise CheckpointError(f'{path} describes a network that this version cannot build: {error}') from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{path} has an incomplete description ({error!r}); save it again.') from error
    _fill(path, network, tensors)
    return Checkpoint(
        network=network.eval(),
        digest=hashlib.sha256(path.read_bytes()).hexdigest()[:12],
        provenance=description.get('provenance', {}),
        path=path,
    )


def resolve_checkpoint(model: str) -> Checkpoint:
    """What the node's model_path means: a checkpoint file; empty for the weights that ship; or a network's name.

    A network's name gives its own weights that ship, where there are some, else random ones: to try a machine's speed
    before anything is trained. ``NAME@untrained``, as such a network is titled, always gives random ones.

    Raises:
        CheckpointError: If it is neither, or the file cannot be used or does not ship.
    """
    if is_network(model):
        shipped = shipped_weights(model)
        return load_checkpoint(shipped) if shipped else untrained_checkpoint(model.removesuffix(_AT_RANDOM))
    if not model and not SHIPPED_WEIGHTS.is_file():
        raise CheckpointError(
            f'The weights that ship with this package are not installed: there is no {SHIPPED_WEIGHTS}. Install the '
            f'package again, name a checkpoint file, or {_NAME_A_NETWORK}.'
        )
    if model and not os.path.isfile(model):
        raise CheckpointError(f'There is no checkpoint file {model}. Check the path, or {_NAME_A_NETWORK}.')
    return load_checkpoint(model or SHIPPED_WEIGHTS)


def is_network(model: str) -> bool:
    """Whether a model is named by its network, rather than by a file."""
    return model.removesuffix(_AT_RANDOM) in NETWORKS


def shipped_weights(name: str) -> Path | None:
    """The weights of a network that ship with this package; None: there are none of that name."""
    path = SHIPPED_WEIGHTS.with_name(f'{name}{SHIPPED_WEIGHTS.suffix}')
    return path if path.is_file() else None


def describe_model(model: str) -> str:
    """What ``resolve_checkpoint`` takes for a model, for people; nothing is loaded."""
    if not is_network(model):
        return model or f'{DEFAULT_NETWORK}, the weights that ship'
    return f'{model}, {"the weights that ship" if shipped_weights(model) else "random weights"}'


def untrained_checkpoint(name: str, labels: LabelSpace = DEFAULT_LABELS, seed: int = 0) -> Checkpoint:
    """A network with random weights, the same ones for the same seed: shows that the pipeline runs, sees nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(name, labels)
    return Checkpoint(network=network.eval(), digest=UNTRAINED)


def not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that hold a NaN or an infinite value."""
    return [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]


def _unreadable(path: Path, error: Exception) -> str:
    """Why a file is no checkpoint. Safetensors begin with the length of a JSON document, in 8 bytes, and then that."""
    try:
        with path.open('rb') as file:
            start = file.read(16)
    except OSError:
        start = b''
    length, document = int.from_bytes(start[:8], 'little'), start[8:9]
    if len(start) >= 8 and (length > _LARGEST_HEADER or document not in (b'', b'{')):
        return (
            f'{path} is no .safetensors file: it begins with {start!r}; expected one written by save_checkpoint, '
            "such as a training's best.safetensors: name that."
        )
    return (
        f'{path} is not a readable safetensors file ({error}); expected one written by save_checkpoint. '
        'It may be truncated: copy it again.'
    )


def _description(path: Path, metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The JSON document in the header, checked for damage, kind and version."""
    try:
        description = json.loads(metadata['perception'])
        _verify(path, description, tensors)
        if description['format'] != FORMAT:
            raise KeyError('format')
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f'{path} holds tensors but no perception description. Expected a file written by save_checkpoint, '
            'not bare weights of another program; if it is one, it is damaged: copy it again.'
        ) from error
    version = description.get('format_version')
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f'{path} has format version {version}; this version of perception reads {FORMAT_VERSION}.'
        )
    return description


def _verify(path: Path, description: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Hold what was read against its checksum; files of earlier versions have none."""
    stated = description.pop(_CHECKSUM, None)
    if stated is not None:
        found = _checksum(description, tensors)
        if found != stated:
            raise CheckpointError(
                f'{path} is damaged: the SHA-256 of its description and tensors is {found[:12]}..., and was '
                f'{str(stated)[:12]!r}... when it was saved. Copy it again; to change it, use save_checkpoint.'
            )
    elif unknown := sorted(description.keys() - _ENTRIES):
        raise CheckpointError(
            f'{path} describes {unknown[0]!r}, which no checkpoint has, and has no {_CHECKSUM!r}. Copy it again.'
        )
    else:
        logger.warning('%s has no checksum, as earlier versions wrote none: damage to it would not be noticed.', path)


def _checksum(description: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256, in hex digits, of a description and of tensors on the CPU, each with its name, type and shape."""
    total = hashlib.sha256(_canonical(description).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f'\0{name} {tensor.dtype} {tuple(tensor.shape)}\0'.encode())
        total.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def _canonical(description: dict[str, Any]) -> str:
    return json.dumps(description, sort_keys=True, allow_nan=False)


def _input_spec(values: dict[str, Any]) -> InputSpec:
    if values['resize'] not in ('stretch', 'letterbox'):
        raise ValueError(f'resize is {values["resize"]!r}')
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return InputSpec(**fields)


def _fill(path: Path, network: PerceptionNetwork, tensors: dict[str, torch.Tensor]) -> None:
    """Load the weights; all of them, and nothing else."""
    expected = network.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - expected.keys())
    misshapen = [
        f'{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}'
        for name in sorted(expected.keys() & tensors.keys())
        if tensors[name].shape != expected[name].shape
    ]
    if missing or surplus or misshapen:
        findings = [
            f'{len(names)} {kind} ({", ".join(names[:3])}{", ..." if len(names) > 3 else ""})'
            for kind, names in (('missing', missing), ('unknown', surplus), ('of wrong shape', misshapen))
            if names
        ]
        raise CheckpointError(f'{path} does not fit its network {network.name}: tensors {"; ".join(findings)}.')
    broken = not_finite(tensors)
    if broken:
        raise CheckpointError(
            f'{path} holds NaN or infinite weights ({", ".join(broken[:3])}); use an earlier checkpoint.'
        )
    network.load_state_dict(tensors)
