"""Networks of torchvision for one task each, trained on the same data for the same time, to hold ours against.

    python -m training.compare_torchvision --task segmentation --minutes 60 --config config/training/X.yaml
    python -m training.compare_torchvision --task detection --minutes 60 --config config/training/X.yaml

Segmentation is lraspp_mobilenet_v3_large (Howard et al., "Searching for MobileNetV3"), detection its ssdlite320, both
from scratch. They get the configuration's data (what is annotated for their task), augmentation, optimizer, class
weights, average of weights, device, precision and threads, and torchvision's own losses for boxes. Their rate follows
one cycle of the minutes. A run that was killed goes on with --resume; the time that it was not running does not count.
Where a configuration starts from weights of ours, --weights gives the baseline its own of the run before.

Shape letters: B images, C segmentation classes, H W rows and columns.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from tqdm import tqdm

from perception.errors import ConfigError, PerceptionError
from perception.interfaces import Detections, GroundTruth, InputSpec, LabelSpace, SceneResult
from perception.labels import CITYSCAPES_11_3
from perception.metrics import Evaluator, Report
from perception.metrics.tables import format_report
from perception.output_folder import StopRequest
from training.configuration import DataConfig, TrainingConfig, config_values, parse_arguments
from training.data.batch import Batch
from training.data.cache import prepare_cache
from training.data.dataset import SceneDataset
from training.data.sample import Sample, send
from training.data.stream import TrainingStream
from training.data.transforms import TrainTransform
from training.distributed import build_fabric
from training.errors import TrainingError
from training.evaluate import SCORE_THRESHOLD, prepare_scene
from training.preparation import open_dataset
from training.run_folder import RunFolder
from training.segmentation_loss import SegmentationLossConfig, count_pixels, resolve_class_weights

WARM_UP = 0.1


class Baseline(nn.Module, ABC):
    """A network of torchvision behind what the comparison needs.

    Args:
        labels: Classes.
        spec: Input size and normalisation.
    """

    network: nn.Module

    def __init__(self, labels: LabelSpace, spec: InputSpec) -> None:
        super().__init__()
        self.labels, self.spec = labels, spec

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """The scalar to descend on."""

    @abstractmethod
    def look(self, image_rgb: np.ndarray) -> SceneResult:
        """What it sees in (H, W, 3) uint8, in the pixels of the image."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> float, on the network's device."""
        mean, std = (send(torch.tensor(of), self.device) for of in (self.spec.mean_rgb, self.spec.std_rgb))
        return (send(images, self.device).float() - mean.view(3, 1, 1)) / std.view(3, 1, 1)


class SegmentationBaseline(Baseline):
    """lraspp_mobilenet_v3_large, 3.2 million parameters."""

    def __init__(self, labels: LabelSpace, spec: InputSpec, loss: SegmentationLossConfig) -> None:
        super().__init__(labels, spec)
        classes = len(labels.segmentation)
        self.network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes)
        self.register_buffer('class_weights', torch.tensor(loss.class_weights) if loss.class_weights else None)

    def loss(self, batch: Batch) -> Tensor:
        target = send(torch.stack([sample.mask for sample in batch if sample.mask is not None]), self.device)
        logits = self.network(self.normalise(batch.images))['out']
        return F.cross_entropy(logits, target.long(), weight=self.get_buffer('class_weights'), ignore_index=255)

    @torch.inference_mode()
    def look(self, image_rgb: np.ndarray) -> SceneResult:
        height, width = self.spec.image_hw
        small = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_LINEAR)
        images = torch.from_numpy(small).permute(2, 0, 1)[None]
        mask = self.network(self.normalise(images))['out'].argmax(1)[0].to(torch.uint8).cpu().numpy()
        size = (image_rgb.shape[1], image_rgb.shape[0])
        return SceneResult(detections=_nothing(), mask=cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT))


class DetectionBaseline(Baseline):
    """ssdlite320_mobilenet_v3_large, 2.2 million parameters for three classes; it resizes every image to 320x320."""

    def __init__(self, labels: LabelSpace, spec: InputSpec) -> None:
        super().__init__(labels, spec)
        self.network = ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=1 + len(labels.detection), score_thresh=SCORE_THRESHOLD
        )

    def loss(self, batch: Batch) -> Tensor:
        targets = [
            {'boxes': send(sample.boxes, self.device), 'labels': send(sample.labels + 1, self.device)}  # 0: background
            for sample in batch
            if sample.boxes is not None and sample.labels is not None
        ]
        losses = self.network(list(send(batch.images, self.device).float() / 255), targets)
        return torch.stack(list(losses.values())).sum()

    @torch.inference_mode()
    def look(self, image_rgb: np.ndarray) -> SceneResult:
        image = send(torch.from_numpy(image_rgb), self.device).permute(2, 0, 1).float() / 255
        found = {name: values.cpu() for name, values in self.network([image])[0].items()}
        detections = Detections(
            boxes_xyxy=found['boxes'].numpy().astype(np.float32),
            scores=found['scores'].numpy().astype(np.float32),
            labels=found['labels'].numpy() - 1,
        )
        return SceneResult(detections=detections, mask=np.zeros(image_rgb.shape[:2], np.uint8))


def _nothing() -> Detections:
    return Detections(boxes_xyxy=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), labels=np.zeros(0, int))


class AnnotatedFor(SceneDataset):
    """The samples of a data set that are annotated for a task.

    Args:
        task: ``segmentation`` or ``detection``.
        dataset: All samples.
    """

    def __init__(self, task: str, dataset: SceneDataset) -> None:
        self.name, self.labels, self.remark = dataset.name, dataset.labels, dataset.remark
        self._task, self._all = task, dataset
        self._places = [
            place
            for place, sample in enumerate(dataset)
            if (sample.mask if task == 'segmentation' else sample.boxes) is not None
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        return self._all[self._places[index]]

    def fingerprint(self) -> str:
        return f'{self._task} {self._all.fingerprint()}'


def build_baseline(
    task: str, config: TrainingConfig, datasets: Sequence[SceneDataset], weights: Path | None = None
) -> Baseline:
    """The network of a task, with random weights or those of a file.

    Raises:
        ConfigError: If the file holds no weights of this baseline.
    """
    torch.manual_seed(config.seed)
    baseline = _build_network(task, config, datasets)
    if weights is not None:
        try:
            baseline.load_state_dict(
                {**torch.load(weights, map_location='cpu', weights_only=True), **_constants(baseline)}
            )
        except Exception as error:
            raise ConfigError(f'--weights {weights}: expected weights.pt of a {task} baseline ({error}).') from error
    return baseline


def _constants(baseline: Baseline) -> dict[str, Tensor]:
    """Buffers that are the configuration's and not learned."""
    return {name: buffer for name, buffer in baseline.named_buffers() if name == 'class_weights'}


def _build_network(task: str, config: TrainingConfig, datasets: Sequence[SceneDataset]) -> Baseline:
    if task == 'detection':
        return DetectionBaseline(CITYSCAPES_11_3, config.input_spec)
    loss = config.criterion.segmentation
    if loss.class_weights == 'balanced':
        masks = (sample.mask for dataset in datasets for sample in dataset if sample.mask is not None)
        loss = resolve_class_weights(loss, count_pixels(masks, len(CITYSCAPES_11_3.segmentation)))
    return SegmentationBaseline(CITYSCAPES_11_3, config.input_spec, loss)


def choose_data(task: str, config: TrainingConfig) -> list[tuple[DataConfig, SceneDataset]]:
    """The data sets of the configuration that have something annotated for a task, at network size.

    Raises:
        ConfigError: If there are none.
    """
    chosen: list[tuple[DataConfig, SceneDataset]] = []
    for data in config.data:
        dataset = prepare_cache(open_dataset(data, CITYSCAPES_11_3), config.image_hw, Path(config.cache))
        annotated = AnnotatedFor(task, dataset)
        if len(annotated):
            chosen.append((data, annotated))
    if not chosen:
        raise ConfigError(f'No data set of the configuration is annotated for {task}.')
    return chosen


def open_stream(
    task: str, chosen: Sequence[tuple[DataConfig, SceneDataset]], config: TrainingConfig, start_step: int
) -> TrainingStream:
    """The batches from a step on, with the configuration's shares and augmentation."""
    # ssdlite squeezes crop and image into the same square, so a crop would show things at another size.
    transform = replace(config.transform, image_hw=config.image_hw)
    if task == 'detection':
        transform = replace(transform, crop_hw=(0, 0))
    shares = [data.share for data, _ in chosen]
    return TrainingStream(
        [dataset for _, dataset in chosen],
        None if None in shares else [share for share in shares if share is not None],
        TrainTransform(transform),
        config.seed,
        config.batch_size,
        start_step=start_step,
        workers=config.workers,
    )


def train_for(
    minutes: float, task: str, config: TrainingConfig, folder: RunFolder, weights: Path | None = None
) -> tuple[Baseline, dict[str, float]]:
    """Train for so many minutes, less those of the folder's saved state, from random weights or those of a file.

    Returns:
        The averaged network in evaluation mode, and what was done.

    Raises:
        ConfigError: If the configuration asks for several processes.
        KeyboardInterrupt: If somebody asked to stop; the state is saved.
        TrainingError: If the loss is not a number.
    """
    if config.devices * config.num_nodes > 1:
        raise ConfigError(
            f'Baselines train in one process; got devices {config.devices}, num_nodes {config.num_nodes}.'
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    fabric = build_fabric(config)
    chosen = choose_data(task, config)
    baseline = build_baseline(task, config, [dataset for _, dataset in chosen], weights)
    baseline.to(fabric.device).to(memory_format=torch.channels_last).train()
    average = AveragedModel(baseline, multi_avg_fn=get_ema_multi_avg_fn(config.average_decay or 0.99), use_buffers=True)
    rate = max(phase.learning_rate for phase in config.phases)
    optimizer = torch.optim.AdamW(baseline.parameters(), rate, weight_decay=config.optimizer.weight_decay)
    # With half precision the scale of the loss is learned, too.
    parts: dict[str, Any] = {
        'baseline': baseline,
        'average': average,
        'optimizer': optimizer,
        'precision': fabric.strategy.precision,
    }
    stepper = cast(Optimizer, fabric.setup_optimizers(optimizer))
    state = folder.load_state() or {'step': 0, 'seconds': 0.0}
    for name, part in parts.items():
        if name in state:
            part.load_state_dict(state[name])
    start, step = time.monotonic() - state['seconds'], state['step']

    def keep() -> None:
        saved = {name: part.state_dict() for name, part in parts.items()}
        folder.save_state({'step': step, 'seconds': time.monotonic() - start, **saved})

    seconds = round(minutes * 60)
    with StopRequest() as stop, tqdm(total=seconds, initial=int(state['seconds']), unit='s', desc=task) as bar:
        for batch in open_stream(task, chosen, config, state['step']):
            elapsed = (time.monotonic() - start) / (60 * minutes)
            if elapsed >= 1:
                break
            for group in optimizer.param_groups:
                group['lr'] = rate * one_cycle(elapsed)
            with fabric.autocast():
                loss = baseline.loss(batch)
            if not torch.isfinite(loss.detach()):
                raise TrainingError(f'{task}, step {step}: the loss is {loss.item()}. Lower the learning rate.')
            stepper.zero_grad(set_to_none=True)
            fabric.backward(loss)
            if config.clip_norm:
                fabric.clip_gradients(baseline, stepper, max_norm=config.clip_norm, error_if_nonfinite=False)
            stepper.step()
            average.update_parameters(baseline)
            step += 1
            if stop.requested or step % config.save_every == 0:
                keep()
                stop.check()
            bar.update(int(time.monotonic() - start) - bar.n)
            bar.set_postfix(loss=f'{loss.item():.3f}', steps=step)
    keep()
    trained = average.module.eval()
    assert isinstance(trained, Baseline)
    return trained, {'minutes': minutes, 'steps': step, 'images': step * config.batch_size}


def one_cycle(elapsed: float) -> float:
    """The share of the full rate after a share of the time: a linear rise, then a cosine."""
    if elapsed < WARM_UP:
        return elapsed / WARM_UP
    return (1 + math.cos(math.pi * (elapsed - WARM_UP) / (1 - WARM_UP))) / 2


def score(baseline: Baseline, task: str, config: TrainingConfig, split: str) -> dict[str, Report]:
    """Score on the validation data sets of the configuration, at a split of them, in original pixels."""
    reports = {}
    for data in config.validation:
        dataset = open_dataset(replace(data, split=split), CITYSCAPES_11_3)
        evaluator = Evaluator(CITYSCAPES_11_3)
        for sample in tqdm(dataset, desc=dataset.name, unit='image', total=len(dataset)):
            image_rgb, truth = prepare_scene(sample, 'original', config.input_spec)
            # Only the task that it was trained for.
            own = GroundTruth(mask=truth.mask) if task == 'segmentation' else replace(truth, mask=None)
            evaluator.add(baseline.look(image_rgb), own, sample.name)
        reports[dataset.name] = evaluator.report({'baseline': type(baseline.network).__name__})
    return reports


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and score as the command line says. Returns the exit code, as training.compare_claims."""
    parser = argparse.ArgumentParser(
        prog='python -m training.compare_torchvision',
        description=__doc__.split('\n')[0],
        epilog='All options of staged_train.py are taken, too, first of all --config FILE.',
    )
    parser.add_argument('--task', choices=('segmentation', 'detection'), required=True)
    parser.add_argument('--minutes', type=float, required=True, help='of training')
    parser.add_argument(
        '--weights', type=Path, help='weights.pt of an earlier run to start from (default: random ones)'
    )
    parser.add_argument('--split', default='test', help='of the validation data sets (default test)')
    parser.add_argument('--baseline-output', type=Path, default=Path('out/baseline'), help='default out/baseline')
    options, rest = parser.parse_known_args(arguments)
    if not any(word.partition('=')[0] in ('--config', '--data') for word in rest):
        print('compare_torchvision: --config FILE is missing; name a file of config/training/.', file=sys.stderr)
        return 2
    try:
        if not 0 < options.minutes < float('inf'):
            raise ConfigError(f'--minutes must be above 0; got {options.minutes}.')
        config, resume = parse_arguments(rest)
        path = options.baseline_output / options.task
        values = {'minutes': options.minutes, 'task': options.task, **config_values(config)}
        if config.start_from and options.weights is None:
            raise ConfigError('The configuration starts from weights; give the baseline its own by --weights.')
        with RunFolder(path, values, resume=resume) as folder:
            folder.begin()
            baseline, effort = train_for(options.minutes, options.task, config, folder, options.weights)
        torch.save(baseline.state_dict(), path / 'weights.pt')
        effort['parameters'] = sum(parameter.numel() for parameter in baseline.parameters())
        for name, report in score(baseline, options.task, config, options.split).items():
            report.save(path / f'{name}.json')
            print(f'\n{name}\n{format_report(report)}')
        (path / 'effort.json').write_text(json.dumps(effort, indent=1) + '\n')
        print(f'\n{effort["steps"]:,} steps, {effort["images"]:,} images, {effort["parameters"]:,} parameters.')
    except (PerceptionError, OSError) as error:
        print(f'compare_torchvision: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('compare_torchvision: stopped; add --resume to go on with the time that is left.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
