import sys

import pytest

from perception.errors import MissingDependencyError
from perception.labels import CITYSCAPES_11_3
from perception.metrics import Evaluator
from perception.metrics.libraries import require


def test_missing_library_names_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, 'torchmetrics.classification', None)
    with pytest.raises(MissingDependencyError, match=r'torchmetrics.*pip install -r requirements/evaluation\.txt'):
        Evaluator(CITYSCAPES_11_3)


def test_gives_the_module():
    assert require('json').loads('1') == 1
