import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drawn_scores import LABELS, draw_pair

from perception.cli import main
from perception.errors import MissingDependencyError
from perception.metrics import Evaluator
from perception.metrics.libraries import require
from perception.resources import SAMPLE_BAG

LIBRARIES = ('torchmetrics', 'torchmetrics.classification', 'faster_coco_eval', 'pycocotools', 'cityscapesscripts')
"""What robot.txt does not install."""
ON_A_ROBOT = f"""
import sys
sys.modules.update(dict.fromkeys({LIBRARIES}))
from perception.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_missing_library_names_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, 'torchmetrics.classification', None)
    result, truth = draw_pair(np.random.default_rng(0))
    with pytest.raises(
        MissingDependencyError, match=r'torchmetrics.*pip install -r requirements/evaluation\.txt.*--truth none'
    ):
        Evaluator(LABELS).add(result, truth)


def test_gives_the_module():
    assert require('json').loads('1') == 1


def test_a_replay_without_truth_needs_no_scoring_library_and_is_the_same(tiny_checkpoint_path: Path, tmp_path: Path):
    def arguments(output: str) -> list[str]:
        replay = ['replay', str(SAMPLE_BAG), '--truth', 'none', '--frames', '2', '--device', 'cpu']
        return [*replay, '--model', str(tiny_checkpoint_path), '--output', str(tmp_path / output)]

    command = [sys.executable, '-c', ON_A_ROBOT, *arguments('robot')]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    shown = subprocess.run(command, capture_output=True, text=True, timeout=110, env=environment)
    assert shown.returncode == 0, shown.stderr
    assert main(arguments('workstation')) == 0
    reports = [(tmp_path / output / 'report.json').read_bytes() for output in ('robot', 'workstation')]
    assert reports[0] == reports[1]
