"""Make the weights that ship with this project out of a training's checkpoint: smaller, silent about the machine.

    python -m training.release_weights --checkpoint RUN/best.safetensors --data data \\
        --output perception_ws/perception/weights/interdependent_lite.safetensors

Writes the weights in 16 bit, and a model card beside them: what they were trained on, their figures (of the 16-bit
file, by the loop of training.evaluate) and what they must not be used for.
Weights of your own need none of this: node and commands take best.safetensors as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from perception.checkpoint import SHIPPED_WEIGHTS, Checkpoint, load_checkpoint, save_checkpoint
from perception.errors import CheckpointError, ConfigError, PerceptionError
from perception.metrics import Report
from perception.metrics.tables import share
from perception.pipeline import Perceiver
from perception.postprocess import PostprocessConfig
from training.data import build_dataset
from training.data.taught import teacher_title
from training.evaluation import SCORE_THRESHOLD, evaluate_dataset
from training.run_folder import replace_file

JUDGED_ON = (('camvid', 'test'), ('camvid', 'val'), ('driving_boxes', 'test'))
SOURCES = {
    'camvid': 'CamVid (Brostow et al.) gives masks and weak boxes (components of the mask)',
    'driving_boxes': 'driving_boxes (DAWN: road photos in fog, rain, snow and sand) gives boxes',
    'labelmefacade': 'LabelMeFacade (street photos, in the layout of CamVid) gives masks of six classes',
    'cityscapes': 'the streets drawn by this project, named cityscapes here for their layout, give both',
}
"""What the card says of a data set, by the name of its reader, or of its folder where that is another data set."""
LAYOUTS = {'labelmefacade': 'camvid'}
"""Reader of a data set that has none of its own, by the name of its folder."""
FOR_RESEARCH_ONLY = {'camvid': 'CamVid', 'driving_boxes': 'DAWN', 'labelmefacade': 'LabelMeFacade'}
_OF_THE_MACHINE = ('cache', 'output', 'start_from', 'workers', 'threads', 'labels')  # the header has the label space


def clean_provenance(provenance: dict[str, Any]) -> dict[str, Any]:
    """What the training wrote about itself, without paths and names of the machine that it ran on.

    Raises:
        CheckpointError: If the checkpoint says nothing about its training.
    """
    training = provenance.get('training')
    if not training:
        raise CheckpointError('The checkpoint holds no provenance of a training; release what staged_train wrote.')
    kept = {key: value for key, value in training.items() if key not in _OF_THE_MACHINE}
    kept['imagenet_weights'] = Path(training.get('imagenet_weights', '')).name
    for key in ('data', 'validation'):
        kept[key] = [_clean_data(data) for data in training.get(key, [])]
    environment = provenance.get('environment', {})
    cleaned = {
        'step': provenance.get('step'),
        'of': provenance.get('of'),
        'phase': provenance.get('phase'),
        'validation': provenance.get('validation', {}),
        'commit': environment.get('commit', ''),
        'training': kept,
    }
    if 'started_from' in provenance:
        cleaned['started_from'] = clean_provenance(provenance['started_from'])
    return cleaned


def _clean_data(data: dict[str, Any]) -> dict[str, Any]:
    """A data set of the mixture, with the name of its folder and of its teacher in place of paths."""
    kept = {name: value for name, value in data.items() if name not in ('root', 'teacher')}
    folder = Path(data.get('root', '')).name
    if LAYOUTS.get(folder) == data['name']:
        kept['folder'] = folder
    if data.get('teacher'):
        kept['teacher'] = {**data['teacher'], 'labels': teacher_title(data['teacher']['labels'])}
    return kept


def release(checkpoint: Checkpoint, output: Path) -> Checkpoint:
    """Write the weights in 16 bit; returns them as they are read back.

    Raises:
        CheckpointError: If the file cannot be written, the checkpoint says nothing about its training, or it was
            trained on data that the card knows nothing of.
    """
    provenance = clean_provenance(checkpoint.provenance)
    if unknown := [name for name in _trained_on(provenance) if name not in SOURCES]:
        raise CheckpointError(
            f'The model card can describe {", ".join(SOURCES)}, but these weights were trained on '
            f'{", ".join(unknown)}. Weights of your own need no release: use the checkpoint as it is.'
        )
    save_checkpoint(output, checkpoint.network, provenance, stored_as=torch.float16)
    return load_checkpoint(output)


def judge(checkpoint: Checkpoint, data: Path) -> dict[str, Report]:
    """Scores on every data set of JUDGED_ON, in original pixels."""
    perceiver = Perceiver(checkpoint, config=PostprocessConfig(score_threshold=SCORE_THRESHOLD))
    reports = {}
    for name, split in JUDGED_ON:
        dataset = build_dataset(name, data / name, split, perceiver.labels)
        reports[dataset.name] = evaluate_dataset(perceiver, dataset).report()
    return reports


def model_card(checkpoint: Checkpoint, reports: dict[str, Report]) -> str:
    """The card of released weights, as Markdown."""
    provenance = checkpoint.provenance
    training = provenance['training']
    names = _trained_on(provenance)
    restricted = ' and '.join(FOR_RESEARCH_ONLY[name] for name in names if name in FOR_RESEARCH_ONLY)
    licence = (
        f'for research only, as {restricted} {"are" if " and " in restricted else "is"}' if restricted else 'Apache-2.0'
    )
    parameters = sum(parameter.numel() for parameter in checkpoint.network.parameters())
    shares = ', '.join(f'{_source(entry)} {entry["split"]}' for entry in training['data'])
    teachers = ', '.join(_teachers(provenance))
    taught = f' What a data set is not annotated for was labelled by {teachers}.' if teachers else ''
    height, width = checkpoint.network.input_spec.image_hw
    lines = [
        f'# {checkpoint.title}',
        '',
        f'{parameters:,} parameters, input {height}x{width} (height x width), 11 segmentation and 3 detection classes '
        f'of the interdependent paper. {_describe_beginning(provenance)}',
        '',
        f'**Trained on** {shares}: {"; ".join(SOURCES[name] for name in names)}.{taught}',
        f'{_describe_runs(provenance)}. Test splits were only read.',
        '',
        f'**Licence of the weights**: {licence}. The code is Apache-2.0.',
        '',
        '**Not for driving.** Few images of few places, most by day; small and thin things (poles, far people) are '
        'often missed. Use it to see the pipeline run; train your own.',
        '',
        '| percent | ' + ' | '.join(reports) + ' |',
        '|---|' + '---:|' * len(reports),
    ]
    first = next(iter(reports.values()))
    rows: list[tuple[str, list[float | None]]] = [('mIoU', [r.segmentation.mean_iou for r in reports.values()])]
    for index, name in enumerate(first.segmentation.classes):
        rows.append((f'IoU {name}', [report.segmentation.iou[index] for report in reports.values()]))
    rows.append(('AP50', [report.detection.mean_ap50 for report in reports.values()]))
    for index, name in enumerate(first.detection.classes):
        rows.append((f'AP50 {name}', [report.detection.ap50[index] for report in reports.values()]))
    rows.append(('AP50:95', [report.detection.mean_ap for report in reports.values()]))
    lines += [f'| {name} | ' + ' | '.join(share(value) for value in values) + ' |' for name, values in rows]
    lines += [
        '',
        'Boxes of CamVid are weak ones. Each column again: '
        '`python -m training.evaluate --dataset camvid --root data/camvid --split test`.',
        '',
    ]
    return '\n'.join(lines)


def _source(entry: dict[str, Any]) -> str:
    return str(entry.get('folder', entry['name']))


def _teachers(provenance: dict[str, Any]) -> list[str]:
    """Models whose labels the run, and those before it, learned from."""
    names = [entry['teacher']['labels'] for entry in provenance['training']['data'] if entry.get('teacher')]
    earlier = _teachers(provenance['started_from']) if 'started_from' in provenance else []
    return list(dict.fromkeys((*names, *earlier)))


def _trained_on(provenance: dict[str, Any]) -> list[str]:
    """The data sets of the run and of those whose weights it started from."""
    names = [_source(entry) for entry in provenance['training']['data']]
    earlier = _trained_on(provenance['started_from']) if 'started_from' in provenance else []
    return list(dict.fromkeys((*names, *earlier)))


def _describe_beginning(provenance: dict[str, Any]) -> str:
    """Where the first of the runs had its first weights from."""
    while 'started_from' in provenance:
        provenance = provenance['started_from']
    pretrained = provenance['training'].get('imagenet_weights')
    return f'Encoder pre-trained on ImageNet ({pretrained}).' if pretrained else 'From scratch: no pre-training.'


def _describe_runs(provenance: dict[str, Any]) -> str:
    """The run, after those whose weights it started from."""
    training = provenance['training']
    phases = '; '.join(f'{phase["name"]} {phase["iterations"]:,} steps' for phase in training['phases'])
    size = training['batch_size']
    run = f'Step {provenance["step"]:,} of {provenance["of"]:,} ({phases}), batches of {size}'
    earlier = provenance.get('started_from')
    return f'{_describe_runs(earlier)}. Then with other settings: {run[0].lower()}{run[1:]}' if earlier else run


def main(arguments: Sequence[str] | None = None) -> int:
    """Release as the command line says. Returns the exit code."""
    parser = argparse.ArgumentParser(prog='python -m training.release_weights', description=__doc__.split('\n')[0])
    parser.add_argument('--checkpoint', type=Path, required=True, help='best.safetensors of a run')
    parser.add_argument(
        '--data', type=Path, default=Path('data'), help='folder that holds camvid/ and driving_boxes/ (default data)'
    )
    parser.add_argument('--output', type=Path, required=True, help='the weights; the card stands beside them as .md')
    options = parser.parse_args(arguments)
    output: Path = options.output
    try:
        # Elsewhere until the card is written: weights without figures are not to ship.
        with TemporaryDirectory() as folder:
            small, checkpoint = Path(folder) / output.name, load_checkpoint(options.checkpoint)
            ships = output.resolve().parent == SHIPPED_WEIGHTS.resolve().parent
            if ships and checkpoint.network.name != output.stem:
                raise ConfigError(
                    f'Weights that ship are found by the name of their network, and {options.checkpoint} is of '
                    f'{checkpoint.network.name}, not of {output.stem}; name another file by --output.'
                )
            released = release(checkpoint, small)
            card = model_card(released, judge(released, options.data))
            output.parent.mkdir(parents=True, exist_ok=True)
            output.with_suffix('.md').write_text(card, encoding='utf-8')
            replace_file(output, lambda file: file.write(small.read_bytes()))
    except (PerceptionError, OSError) as error:
        print(f'release_weights: {error}', file=sys.stderr)
        return 1
    print(f'{card}\n{output}, {output.stat().st_size / 1e6:.1f} MB')
    return 0


if __name__ == '__main__':
    sys.exit(main())
