"""A paper's claims, each switched off in turn and trained for the same iterations with several seeds.

    python -m training.compare_claims --config config/training/interdependent_small_streets_quick.yaml --seeds 3

The network of the configuration says whose claims they are. The interdependent paper's (sections 3.2 and 4): the
detector gains from the decoder's features, from four phases, from scale-aware anchors, and from three branches.
BlitzNet's (tables 3, 4 and 8): ResSkip beats other blocks, and each task gains from the other. IvaNet's (table 1): both
gain from local top-down modules, and each from the other. TripleNet's (tables 1 and 2): each gains from the other at
every level, and both from each of four modules. Every run is scored on the configuration's validation data with its
last weights, a task that it did not learn not at all; a run that is finished is not trained again, one that was killed
goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from perception.checkpoint import load_checkpoint
from perception.errors import ConfigError, PerceptionError, nearest
from perception.networks import NETWORKS, resolve_config
from training.configuration import TrainingConfig, config_values, parse_arguments, refuse_options
from training.distributed import build_fabric
from training.phases import DETECTION_HEAD, MASK_HEAD, SEGMENTATION_PARTS, Phase
from training.preparation import open_dataset
from training.run_folder import RunFolder, replace_file
from training.staged_train import train
from training.validation import validate

REFUSED = {'--output': 'name the folder by --claims-output', '--resume': 'the same command goes on by itself'}
SEGMENTATION_FIGURES, DETECTION_FIGURES = ('mean_iou',), ('mean_ap50', 'mean_ap')
FIGURES = (*SEGMENTATION_FIGURES, *DETECTION_FIGURES)

Variant = Callable[[TrainingConfig], TrainingConfig]


def _with_network(**overrides: Any) -> Variant:
    return lambda config: replace(config, network_config={**config.network_config, **overrides})


def _all_at_once(config: TrainingConfig) -> TrainingConfig:
    """One phase of as many steps as all of them."""
    rate = max(phase.learning_rate for phase in config.phases)
    return replace(config, phases=(Phase(name='joint', iterations=config.iterations, learning_rate=rate),))


def _every_branch(config: TrainingConfig) -> TrainingConfig:
    detection = replace(config.criterion.detection, assignment='every_branch')
    return replace(config, criterion=replace(config.criterion, detection=detection))


def _alone(other: str) -> Variant:
    """One task from the same images: the other one's head does not learn, and nothing learns from it."""

    def without(phase: Phase) -> Phase:
        if not (phase.segment and phase.detect):
            raise ConfigError(
                f'Phase {phase.name!r} trains one task as it is: the other alone would have fewer steps. '
                'Take a configuration whose phases train both, or name other variants.'
            )
        trained = (*SEGMENTATION_PARTS, DETECTION_HEAD) if phase.trains == 'all' else phase.trains
        return replace(
            phase,
            trains=tuple(part for part in trained if part != other),
            w_seg=None if other == MASK_HEAD else phase.w_seg,
            w_det=None if other == DETECTION_HEAD else phase.w_det,
        )

    return lambda config: replace(config, phases=tuple(without(phase) for phase in config.phases))


ALONE: dict[str, Variant] = {'detection alone': _alone(MASK_HEAD), 'segmentation alone': _alone(DETECTION_HEAD)}
"""What every joint network claims: each task gains from the other."""


def _triplenet(*modules: str, task: Variant | None = None, **overrides: Any) -> Variant:
    """PairNet with some of TripleNet's modules, whatever of them the configuration has; for one task if given."""
    switches = {module: module in modules for module in TRIPLENET_MODULES}
    network = _with_network(**{'mask_levels': 'all', 'scale_specific': False, **switches, **overrides})
    return lambda config: network(task(config) if task else config)


TRIPLENET_MODULES = ('fused_masks', 'inner_connected', 'class_agnostic', 'attention')

CLAIMS: dict[str, dict[str, Variant]] = {
    'interdependent': {
        'published': lambda config: config,
        'detector on encoder features': _with_network(detector_features='encoder'),
        'all at once': _all_at_once,
        'anchors on every branch': _every_branch,
        'single branch': _with_network(trident_dilations=(2,)),
    },
    'blitznet': {
        'published': lambda config: config,
        'ResSkip without residual': _with_network(fusion='resskip_without_residual'),
        'hourglass': _with_network(fusion='hourglass'),
        'refine': _with_network(fusion='refine'),
        **ALONE,
    },
    'ivanet': {
        'published': lambda config: config,
        'no local top-down': _with_network(top_down=False),
        **ALONE,
    },
    # Rows a to h of its table 1, and table 2's.
    'triplenet': {
        'detection alone': _triplenet(task=ALONE['detection alone']),
        'segmentation alone, finest level': _triplenet(task=ALONE['segmentation alone'], mask_levels='finest'),
        'segmentation alone': _triplenet(task=ALONE['segmentation alone']),
        'pairnet': _triplenet(),
        'fused masks': _triplenet(*TRIPLENET_MODULES[:1]),
        'and inner connection': _triplenet(*TRIPLENET_MODULES[:2]),
        'and class-agnostic': _triplenet(*TRIPLENET_MODULES[:3]),
        'triplenet': _triplenet(*TRIPLENET_MODULES),
        'triplenet, scale-specific': _triplenet(*TRIPLENET_MODULES, scale_specific=True),
    },
}
"""For each family of networks what is trained to test its paper's claims."""


def variants_of(network: str) -> dict[str, Variant]:
    """The variants that test the claims about a network.

    Raises:
        ConfigError: If there is no such network, or there are none for its family.
    """
    resolve_config(network)  # names the nearest if there is none
    family = NETWORKS[network].network.family
    if family not in CLAIMS:
        raise ConfigError(
            f'No claims are known of network {network!r} (family {family!r}); there are those of {", ".join(CLAIMS)}.'
        )
    return CLAIMS[family]


def score_variant(name: str, config: TrainingConfig, folder: Path) -> dict[str, float]:
    """Train one variant with the seed of the configuration, unless that is done; its validation scores.

    Raises:
        ConfigError: If the folder holds a run of another configuration.
    """
    variant = replace(variants_of(config.network)[name](config), output=str(folder), validate_every=0, validation=())
    path, asked = folder / 'result.json', config_values(config)['validation']
    if path.exists():
        RunFolder(folder, config_values(variant), resume=True).close()
        result = json.loads(path.read_text())
        if result['validation'] == asked:
            return result['scores']
    else:
        train(variant, resume=(folder / 'config.yaml').exists())
    network = load_checkpoint(folder / 'last.safetensors').network
    datasets = [open_dataset(data, network.labels) for data in config.validation]
    scores = validate(network, datasets, str(build_fabric(config).device))
    scores = {figure: score for figure, score in scores.items() if figure not in _unlearned(variant)}
    text = json.dumps({'validation': asked, 'scores': scores}, indent=2) + '\n'
    replace_file(path, lambda file: file.write(text.encode()))
    return scores


def _unlearned(config: TrainingConfig) -> tuple[str, ...]:
    """Figures that would be those of a head as it was initialised, and the sum with them."""
    segmentation = () if any(phase.segment for phase in config.phases) else (*SEGMENTATION_FIGURES, 'sum')
    detection = () if any(phase.detect for phase in config.phases) else (*DETECTION_FIGURES, 'sum')
    return *segmentation, *detection


def _figure(runs: Sequence[dict[str, float]], name: str) -> str:
    """Mean and standard deviation of a figure over the seeds, in points; n/a without truth for it, or learning."""
    if not all(name in run for run in runs):
        return 'n/a'
    points = [100 * run[name] for run in runs]
    deviation = f' +- {statistics.stdev(points):.2f}' if len(points) > 1 else ''
    return f'{statistics.mean(points):.2f}{deviation}'


def compare(config: TrainingConfig, names: Sequence[str], seeds: int, output: Path) -> str:
    """Train variants of the configuration's network with as many seeds, counted from the configuration's.

    Args:
        config: The published way.
        names: Which variants; empty: all of them.
        seeds: How many.
        output: Folder of the runs.

    Returns:
        A Markdown table of the scores, also written to ``output``.

    Raises:
        ConfigError: If a variant is unknown, there is no validation data to score on, the runs would start from weights
            that were trained the published way, in several processes, or all at once on other images than in phases.
    """
    known = list(variants_of(config.network))
    names = names or known
    for name in names:
        if name not in known:
            raise ConfigError(f'There is no variant {name!r} of {config.network}; {nearest(name, known)}')
    if not config.validation:
        raise ConfigError('The configuration names no validation data, so there is nothing to score on.')
    if config.start_from:
        raise ConfigError(f'Every variant trains from scratch; leave start_from ({config.start_from}) out.')
    if config.devices * config.num_nodes > 1:
        raise ConfigError('The variants train in one process; run several at once by --variants instead.')
    special = [phase.name for phase in config.phases if phase.shares or phase.crop_hw or phase.freeze_batch_norm]
    if special and 'all at once' in names:
        raise ConfigError(
            f'All at once would train on other images: phases {", ".join(special)} have shares, crop_hw or '
            'freeze_batch_norm of their own. Leave these out, or that variant.'
        )
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for seed in range(config.seed, config.seed + seeds):
        for name in names:
            folder = output / f'{name.replace(",", "").replace(" ", "_")}_seed{seed}'
            print(f'{name}, seed {seed}: {folder}', file=sys.stderr)
            scores[name].append(score_variant(name, replace(config, seed=seed), folder))
    rows = [[name, *(_figure(runs, figure) for figure in FIGURES)] for name, runs in scores.items()]
    table = tabulate(rows, headers=['variant', 'mIoU', 'AP50', 'AP50:95'], tablefmt='github')
    (output / 'table.md').write_text(table + '\n')
    (output / 'scores.json').write_text(json.dumps(scores, indent=2) + '\n')
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare as the command line says.

    Returns:
        The exit code: 0 done, 1 it could not be done, 2 wrong usage, 130 Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog='python -m training.compare_claims',
        description=__doc__.split('\n')[0],
        epilog='All options of staged_train.py are taken, too, first of all --config FILE.',
        allow_abbrev=False,
    )
    parser.add_argument('--seeds', type=int, default=3, help='runs of each variant, from --seed on (default 3)')
    told = '; '.join(f'{family}: {", ".join(variants)}' for family, variants in CLAIMS.items())
    parser.add_argument('--variants', nargs='+', default=[], metavar='NAME', help=f'default: all. {told}')
    parser.add_argument('--claims-output', type=Path, default=Path('out/claims'), help='default out/claims')
    options, rest = parser.parse_known_args(arguments)
    if not any(word.partition('=')[0] in ('--config', '--data') for word in rest):
        print('compare_claims: --config FILE is missing; name a file of config/training/.', file=sys.stderr)
        return 2
    try:
        if options.seeds < 1:
            raise ConfigError(f'--seeds must be at least 1; got {options.seeds}.')
        refuse_options(rest, REFUSED)
        config, _ = parse_arguments(rest)
        print(compare(config, options.variants, options.seeds, options.claims_output))
    except PerceptionError as error:
        print(f'compare_claims: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('compare_claims: stopped; the same command goes on.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
