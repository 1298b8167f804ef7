"""Score a network while it trains, on data that it never sees, and keep it as checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perception.checkpoint import Checkpoint
from perception.interfaces import PerceptionNetwork
from perception.metrics import Evaluator
from perception.metrics.tables import share
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig
from training.data.dataset import SceneDataset
from training.evaluation import SCORE_THRESHOLD, evaluate_dataset


def validate(
    network: PerceptionNetwork, datasets: Sequence[SceneDataset], device: str, *, show_progress: bool = True
) -> dict[str, float]:
    """Score on all data sets together, each image on what it is annotated for; leaves the network in evaluation mode.

    Returns:
        ``mean_iou``, ``mean_ap50``, ``mean_ap`` (where there is truth for them) and ``sum``, mean_iou + mean_ap50.

    Raises:
        NotFiniteError: If what the network says of an image is not finite; the message names the image.
    """
    perceiver = Perceiver(
        Checkpoint(network=network, digest='training'),
        device=device,
        config=PostprocessConfig(score_threshold=SCORE_THRESHOLD),
    )
    evaluator = Evaluator(network.labels)
    for dataset in datasets:
        evaluator.merge(evaluate_dataset(perceiver, dataset, show_progress=show_progress))
    report = evaluator.report()
    found: dict[str, Any] = {}
    if report.segmentation is not None:
        found['mean_iou'] = report.segmentation.mean_iou
    if report.detection is not None:
        found |= {'mean_ap50': report.detection.mean_ap50, 'mean_ap': report.detection.mean_ap}
    scores = {name: float(value) for name, value in found.items() if value is not None}
    scores['sum'] = scores.get('mean_iou', 0.0) + scores.get('mean_ap50', 0.0)
    return scores


def format_scores(scores: Mapping[str, float]) -> str:
    """What ``validate`` gave, in words and percent."""
    titles = {'mean_iou': 'mIoU', 'mean_ap50': 'AP50', 'mean_ap': 'AP50:95'}
    return ', '.join(f'{title} {share(scores[name])} %' for name, title in titles.items() if name in scores)
