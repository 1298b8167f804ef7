"""Checkpoints: every network survives the file, and every bad file is refused with one clear message."""

import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from perception import checkpoint
from perception.checkpoint import (
    describe_model,
    load_checkpoint,
    resolve_checkpoint,
    save_checkpoint,
    untrained_checkpoint,
)
from perception.errors import CheckpointError
from perception.interfaces import InputSpec, LabelClass, LabelSpace, PerceptionNetwork
from perception.labels import CITYSCAPES_11_3
from perception.networks import NETWORKS, build_network, resolve_input_spec
from tests.small_networks import SMALLEST

LABELS = LabelSpace(
    name='käse & co',
    segmentation=(LabelClass(name='rind', color_rgb=(1, 2, 3)), LabelClass(name='loch/孔', color_rgb=(255, 0, 9))),
    detection=(LabelClass(name='maus', color_rgb=(4, 5, 6)),),
)
SPEC = InputSpec(image_hw=(32, 48), resize='letterbox', mean_rgb=(1.5, 0.1, 3.0), std_rgb=(60.1, 50.2, 1 / 3))
STEM = 'encoder.stem.conv.weight'
PROVENANCE = {'dataset': 'drawn', 'iterations': [10, 20], 'scores': {'miou': 0.1 + 0.2}, 'note': None}


@pytest.fixture(scope='module', autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_network(name: str, seed: int = 1) -> PerceptionNetwork:
    """A network whose every parameter and statistic has a value that no constructor gives."""
    torch.manual_seed(seed)
    network = build_network(name, LABELS, SMALLEST.get(NETWORKS[name].network.family), SPEC)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) / 10)
        else:
            tensor.add_(7)
    return network


@pytest.fixture(scope='module')
def network() -> PerceptionNetwork:
    return draw_network('interdependent_small')


@pytest.fixture(scope='module')
def written(network: PerceptionNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('written') / 'good.safetensors'
    save_checkpoint(path, network, PROVENANCE)
    return path


def weights_equal(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    same = (ours[key].dtype == theirs[key].dtype and torch.equal(ours[key], theirs[key]) for key in ours)
    return ours.keys() == theirs.keys() and all(same)


def refuse(path: Path | str) -> str:
    """The one-line message of the refusal, which names the file."""
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(path)
    message = str(refusal.value)
    assert str(path) in message
    assert '\n' not in message
    return message


@pytest.mark.parametrize('name', list(NETWORKS))
def test_every_network_comes_back_whole(name: str, tmp_path: Path) -> None:
    network = draw_network(name)
    path = tmp_path / 'deep' / 'folder' / 'network.safetensors'
    save_checkpoint(path, network, PROVENANCE)
    loaded = load_checkpoint(str(path))
    assert weights_equal(loaded.network, network)
    assert type(loaded.network) is type(network)
    assert loaded.network.name == name
    assert loaded.network.config == network.config
    assert loaded.network.labels == LABELS
    assert loaded.network.input_spec == SPEC
    assert loaded.provenance == PROVENANCE
    assert loaded.path == path
    assert not loaded.network.training
    images = torch.randint(0, 256, (2, 3, *SPEC.image_hw), dtype=torch.uint8)
    with torch.no_grad():
        expected, found = network.eval()(images), loaded.network(images)
    for ours, theirs in zip(found[:4], expected[:4], strict=True):
        assert torch.equal(ours, theirs)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_writing_leaves_the_network_as_it_is(network: PerceptionNetwork, tmp_path: Path) -> None:
    trained = draw_network('interdependent_small').train().to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / 'a', trained)
    assert trained.training
    assert dict(trained.named_parameters())[STEM].is_contiguous(memory_format=torch.channels_last)
    assert weights_equal(load_checkpoint(tmp_path / 'a').network, network)


def test_digest_tells_files_apart(network: PerceptionNetwork, written: Path, tmp_path: Path) -> None:
    first = load_checkpoint(written)
    assert len(first.digest) == 12
    int(first.digest, 16)
    assert first.trained
    assert first.title == f'interdependent_small@{first.digest}'
    save_checkpoint(tmp_path / 'same', network, PROVENANCE)
    assert load_checkpoint(tmp_path / 'same').digest == first.digest
    save_checkpoint(tmp_path / 'other', draw_network('interdependent_small', seed=2), PROVENANCE)
    assert load_checkpoint(tmp_path / 'other').digest != first.digest
    save_checkpoint(tmp_path / 'unnamed', network)
    assert load_checkpoint(tmp_path / 'unnamed').provenance == {}


def test_a_new_checkpoint_replaces_the_old_one(written: Path, tmp_path: Path) -> None:
    path = tmp_path / 'best.safetensors'
    shutil.copy(written, path)
    save_checkpoint(path, draw_network('interdependent_small', seed=2))
    assert weights_equal(load_checkpoint(path).network, draw_network('interdependent_small', seed=2))


def fail_in_the_middle(descriptor: int) -> None:
    """An os.fsync on a disk that fills up."""
    os.truncate(descriptor, 100)
    raise OSError(errno.ENOSPC, 'No space left on device')


def refuse_to_replace(path: Path, target: Path) -> Path:
    raise PermissionError(13, 'Permission denied')


@pytest.mark.parametrize(
    ('where', 'method', 'failure'),
    [(os, 'fsync', fail_in_the_middle), (Path, 'replace', refuse_to_replace)],
    ids=['full disk', 'no right'],
)
def test_failed_write_keeps_the_old_file(
    where: Any,
    method: str,
    failure: Callable[..., Any],
    written: Path,
    network: PerceptionNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / 'best.safetensors'
    shutil.copy(written, path)
    monkeypatch.setattr(where, method, failure)
    with pytest.raises(CheckpointError, match=r'Cannot write the checkpoint .*best\.safetensors'):
        save_checkpoint(path, draw_network('interdependent_small', seed=2))
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ['best.safetensors']
    assert weights_equal(load_checkpoint(path).network, network)


def test_reader_never_sees_a_part(
    written: Path, network: PerceptionNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'best.safetensors'
    shutil.copy(written, path)
    whole_before_replacing = []

    def replace_and_look(partial: Path, target: Path) -> None:
        whole_before_replacing.append((weights_equal(load_checkpoint(target).network, network), partial.name))
        load_checkpoint(partial)
        os.replace(partial, target)

    monkeypatch.setattr(Path, 'replace', replace_and_look)
    save_checkpoint(path, draw_network('interdependent_small', seed=2))
    assert whole_before_replacing == [(True, 'best.safetensors.partial')]


def test_folder_is_not_replaced(network: PerceptionNetwork, tmp_path: Path) -> None:
    (tmp_path / 'folder').mkdir()
    with pytest.raises(CheckpointError, match='Cannot write'):
        save_checkpoint(tmp_path / 'folder', network)
    assert [file.name for file in tmp_path.iterdir()] == ['folder']


def test_file_in_the_place_of_a_folder_is_refused(network: PerceptionNetwork, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(CheckpointError, match='Cannot write'):
        save_checkpoint(tmp_path / 'file' / 'checkpoint', network)


def test_provenance_must_be_json(network: PerceptionNetwork, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='plain JSON values'):
        save_checkpoint(tmp_path / 'a', network, {'path': Path('somewhere')})
    assert not list(tmp_path.iterdir())


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / 'none.safetensors', tmp_path):
        said = refuse(path)
        assert 'There is no checkpoint file' in said
        # Some callers take a file only, and each names it otherwise: --checkpoint, --model, model_path, start_from.
        assert 'model_path' not in said
        assert 'random weights' not in said


@pytest.mark.parametrize('share', [0.0, 1e-6, 1e-5, 1e-3, 0.05, 0.5, 0.999])
def test_truncated_file_is_refused(share: float, written: Path, tmp_path: Path) -> None:
    content = written.read_bytes()
    path = tmp_path / 'short.safetensors'
    path.write_bytes(content[: int(share * len(content))])
    assert 'may be truncated' in refuse(path)
    path.write_bytes(content[:-1])
    assert 'may be truncated' in refuse(path)


@pytest.mark.parametrize(
    'content',
    [b'\x00' * 4096, bytes(range(256)) * 16, b'PK\x03\x04 a zip', b'{"json": 1}', b'network:\n', b'options:{a: 1}\n'],
    ids=['zeros', 'all', 'zip', 'json', 'yaml', 'yaml with a brace in the ninth place'],
)
def test_a_file_of_another_kind_is_not_called_truncated(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / 'junk.safetensors'
    path.write_bytes(content)
    said = refuse(path)
    assert f'is no .safetensors file: it begins with {content[:16]!r}' in said
    assert 'truncated' not in said


def test_a_file_whose_header_is_broken_may_be_truncated(tmp_path: Path) -> None:
    path = tmp_path / 'broken.safetensors'
    path.write_bytes((40).to_bytes(8, 'little') + b'{"no json' + b' ' * 100)
    assert 'is not a readable safetensors file' in refuse(path)


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize('wrap', ['pickle', 'torch'])
def test_pickles_are_refused_and_never_run(wrap: str, network: PerceptionNetwork, tmp_path: Path) -> None:
    path, target = tmp_path / 'model.pth', tmp_path / 'exploded'
    bomb = {**network.state_dict(), 'bomb': Bomb(target)} if wrap == 'torch' else Bomb(target)
    if wrap == 'torch':
        torch.save(bomb, path)
    else:
        path.write_bytes(pickle.dumps(bomb))
    assert 'expected one written by save_checkpoint' in refuse(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))
    assert target.exists(), 'the bomb is a dud, so this test shows nothing'


def rewrite(
    written: Path,
    path: Path,
    *,
    describe: Callable[[dict[str, Any]], Any] = lambda description: None,
    change: Callable[[dict[str, Tensor]], Any] = lambda tensors: None,
    sealed: bool = False,
) -> Path:
    """A copy of a good checkpoint with another description or other tensors, changed in place.

    Without a checksum, as earlier versions wrote it, or sealed: with that of the good one.
    """
    with safe_open(written, framework='pt') as file:
        description = json.loads(file.metadata()['perception'])
    if not sealed:
        del description['sha256']
    tensors = load_file(written)
    describe(description)
    change(tensors)
    save_file(tensors, path, metadata={'perception': json.dumps(description)})
    return path


def test_rewriting_without_a_change_is_accepted(written: Path, network: PerceptionNetwork, tmp_path: Path) -> None:
    assert weights_equal(load_checkpoint(rewrite(written, tmp_path / 'same')).network, network)


def test_choices_that_are_gone_may_stand_at_what_is_left_of_them(
    written: Path, network: PerceptionNetwork, tmp_path: Path
) -> None:
    gone = {'dropout_kind': 'element', 'relu_on_class_map': True, 'share_heads': False}
    older = rewrite(written, tmp_path / 'older', describe=lambda text: text['config'].update(gone))
    found = load_checkpoint(older).network
    assert found.config == network.config
    assert weights_equal(found, network)


@pytest.mark.parametrize(
    'metadata',
    [
        None,
        {'format': 'pt'},
        {'perception': 'no json'},
        {'perception': '[]'},
        {'perception': '3'},
        {'perception': '{}'},
    ],
)
def test_weights_of_another_program_are_refused(metadata: dict[str, str] | None, written: Path, tmp_path: Path) -> None:
    save_file(load_file(written), tmp_path / 'foreign.safetensors', metadata=metadata)
    assert 'no perception description' in refuse(tmp_path / 'foreign.safetensors')


@pytest.mark.parametrize(
    ('describe', 'says'),
    [
        (lambda text: text.update(format='another'), 'no perception description'),
        (lambda text: text.update(format_version=2), 'has format version 2; this version of perception reads 1'),
        (lambda text: text.pop('format_version'), 'has format version None'),
        (lambda text: text.update(network='interdependent_smal'), "did you mean 'interdependent_small'"),
        (lambda text: text['config'].update(steam_width=3), "no field 'steam_width'; did you mean 'stem_width'"),
        (lambda text: text['config'].update(stem_width='8'), 'stem_width: expected int, got str'),
        (lambda text: text['config'].update(share_heads=True), "no longer has the choice 'share_heads': False is all"),
        (
            lambda text: text['config'].update(dropout_kind='channel'),
            "'element' is all that is left of it",
        ),
        (lambda text: text.update(config=[1]), 'cannot build'),
        (lambda text: text['input'].update(image_hw=[33, 48]), 'multiples of 16'),
        (lambda text: text.update(input=[]), 'incomplete description'),
        (lambda text: text['input'].update(resize='crop'), "resize is 'crop'"),
        (lambda text: text['input'].update(size=3), 'incomplete description'),
        (lambda text: text['input'].update(image_hw=[32]), 'incomplete description'),
        (lambda text: text.pop('network'), "incomplete description (KeyError('network'))"),
        (lambda text: text.pop('labels'), "incomplete description (KeyError('labels'))"),
        (lambda text: text['labels'].pop('detection'), "incomplete description (KeyError('detection'))"),
        (lambda text: text['labels'].update(segmentation=None), 'incomplete description'),
        (lambda text: text['labels']['segmentation'].pop(), 'of wrong shape'),
    ],
)
def test_bad_descriptions_are_refused(
    describe: Callable[[dict[str, Any]], Any], says: str, written: Path, tmp_path: Path
) -> None:
    assert says in refuse(rewrite(written, tmp_path / 'bad.safetensors', describe=describe))


def flip(content: bytes, place: int, random: np.random.Generator) -> bytes:
    """The same with another byte at a place: one bit, or anything."""
    other = content[place] ^ (1 << int(random.integers(8))) if random.random() < 0.5 else int(random.integers(256))
    return content[:place] + bytes([other]) + content[place + 1 :]


def test_a_flipped_byte_is_never_run(written: Path, network: PerceptionNetwork, tmp_path: Path) -> None:
    content, random = written.read_bytes(), np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], 'little')
    document = content.index(b'__metadata__'), content.index(b'}"}') + 3
    checksum = content.index(b'sha256')
    places = [
        *range(8),
        *range(checksum - 4, checksum + 80),
        *random.integers(*document, 200),
        *random.integers(0, header, 100),
        *random.integers(header, len(content), 200),
    ]
    path = tmp_path / 'flipped.safetensors'
    refusals = []
    for place in map(int, places):
        flipped = flip(content, place, random)
        path.write_bytes(flipped)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError as error:
            refusals.append(str(error))
        else:
            # A blank may become another blank, or a byte itself.
            assert flipped == content or header > place, place
            assert weights_equal(loaded.network, network), place
            assert (loaded.network.config, loaded.provenance) == (network.config, PROVENANCE), place
    assert len(refusals) > 500
    assert all(str(path) in refusal and '\n' not in refusal for refusal in refusals)


def test_a_truncated_file_is_refused_wherever_it_ends(written: Path, tmp_path: Path) -> None:
    content, random = written.read_bytes(), np.random.default_rng(1)
    path = tmp_path / 'short.safetensors'
    for length in (*range(17), *map(int, random.integers(0, len(content), 60)), len(content) - 1):
        path.write_bytes(content[:length])
        refuse(path)
    path.write_bytes(content + b'\0')
    refuse(path)


@pytest.mark.parametrize(
    'describe',
    [
        lambda text: text['config']['anchors_wh'][0].reverse(),
        lambda text: text['input'].update(mean_rgb=[0, 0, 0]),
        lambda text: text['labels']['segmentation'].reverse(),
        lambda text: text.pop('provenance'),
    ],
    ids=['anchors', 'normalisation', 'classes', 'provenance'],
)
def test_an_edited_header_is_refused(describe: Callable[[Any], Any], written: Path, tmp_path: Path) -> None:
    assert 'is damaged: the SHA-256' in refuse(rewrite(written, tmp_path / 'edited', describe=describe, sealed=True))


def test_tensors_that_changed_places_are_refused(written: Path, tmp_path: Path) -> None:
    def swap(tensors: dict[str, Tensor]) -> None:
        one, other = 'encoder.stem.norm.weight', 'encoder.stem.norm.bias'
        tensors[one], tensors[other] = tensors[other], tensors[one]

    assert 'is damaged: the SHA-256' in refuse(rewrite(written, tmp_path / 'swapped', change=swap, sealed=True))
    same = load_checkpoint(rewrite(written, tmp_path / 'same', sealed=True))
    assert weights_equal(same.network, load_checkpoint(written).network)


def test_a_file_without_a_checksum_loads_with_a_note(
    written: Path, network: PerceptionNetwork, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert weights_equal(load_checkpoint(written).network, network)
    assert not caplog.records
    old = rewrite(written, tmp_path / 'old.safetensors')
    assert weights_equal(load_checkpoint(old).network, network)
    assert [record.getMessage()[: len(str(old)) + 16] for record in caplog.records] == [f'{old} has no checksum']


def test_provenance_may_have_numbers_as_keys(network: PerceptionNetwork, tmp_path: Path) -> None:
    path = tmp_path / 'numbered.safetensors'
    save_checkpoint(path, network, {'scores': {9: 0.1, 10: (0.2, 1e-9)}, 'käse': -0.0})
    assert load_checkpoint(path).provenance == {'scores': {'9': 0.1, '10': [0.2, 1e-9]}, 'käse': -0.0}


def test_weights_in_sixteen_bits_are_checked_as_they_lie(network: PerceptionNetwork, tmp_path: Path) -> None:
    for stored_as in (torch.float16, torch.bfloat16):
        path = tmp_path / f'{stored_as}.safetensors'
        save_checkpoint(path, network, stored_as=stored_as)
        load_checkpoint(path)
        content = bytearray(path.read_bytes())
        content[-1000] ^= 1
        path.write_bytes(content)
        assert 'is damaged: the SHA-256' in refuse(path)


def spoil(value: float) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[STEM][0, 0, 0, 0] = value

    return change


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (lambda tensors: tensors.pop(STEM), f'1 missing ({STEM})'),
        (lambda tensors: tensors.clear(), ', ...)'),
        (lambda tensors: tensors.update(head=torch.ones(1)), '1 unknown (head)'),
        (
            lambda tensors: tensors.update({STEM: tensors[STEM][1:].clone()}),
            f'1 of wrong shape ({STEM} (7, 3, 7, 7) instead of (8, 3, 7, 7))',
        ),
        (
            lambda tensors: tensors.update({'model.' + STEM: tensors.pop(STEM)}),
            f'1 missing ({STEM}); 1 unknown (model.{STEM})',
        ),
        (spoil(float('nan')), f'NaN or infinite weights ({STEM})'),
        (spoil(float('-inf')), f'NaN or infinite weights ({STEM})'),
    ],
    ids=['missing', 'empty', 'unknown', 'misshapen', 'renamed', 'nan', 'infinite'],
)
def test_tensors_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Tensor]], Any], says: str, written: Path, tmp_path: Path
) -> None:
    assert says in refuse(rewrite(written, tmp_path / 'bad.safetensors', change=change))


@pytest.mark.parametrize('name', [name for name in NETWORKS if name.endswith('_small')])
def test_a_network_at_random_has_no_weights_of_a_file(name: str) -> None:
    assert describe_model(f'{name}@untrained') == f'{name}@untrained, random weights'
    resolved = resolve_checkpoint(f'{name}@untrained')
    assert not resolved.trained
    assert resolved.title == f'{name}@untrained'
    assert resolved.path is None
    assert resolved.network.labels == CITYSCAPES_11_3
    assert resolved.network.input_spec == resolve_input_spec(name)
    assert not resolved.network.training


def test_a_network_name_gives_its_weights_that_ship_else_random_ones(
    written: Path, network: PerceptionNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, 'SHIPPED_WEIGHTS', tmp_path / checkpoint.SHIPPED_WEIGHTS.name)
    assert describe_model('interdependent_lite') == 'interdependent_lite, random weights'
    assert resolve_checkpoint('interdependent_lite').title == 'interdependent_lite@untrained'
    shutil.copy(written, tmp_path / 'interdependent_lite.safetensors')
    assert describe_model('interdependent_lite') == 'interdependent_lite, the weights that ship'
    resolved = resolve_checkpoint('interdependent_lite')
    assert resolved.trained
    assert weights_equal(resolved.network, network)
    assert not resolve_checkpoint('interdependent_lite@untrained').trained


def test_a_file_that_ships_is_of_the_network_that_names_it() -> None:
    for path in checkpoint.SHIPPED_WEIGHTS.parent.glob('*.safetensors'):
        assert load_checkpoint(path).network.name == path.stem


def test_random_weights_are_those_of_the_seed() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = untrained_checkpoint('interdependent_small')
    assert torch.equal(torch.rand(1), expected), "the caller's random numbers were used up"
    assert weights_equal(first.network, untrained_checkpoint('interdependent_small').network)
    assert not weights_equal(first.network, untrained_checkpoint('interdependent_small', seed=1).network)


def test_model_is_a_file(written: Path, network: PerceptionNetwork) -> None:
    resolved = resolve_checkpoint(str(written))
    assert weights_equal(resolved.network, network)
    assert resolved == replace(load_checkpoint(written), network=resolved.network)


def test_no_model_is_the_shipped_one(
    written: Path, network: PerceptionNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, 'SHIPPED_WEIGHTS', written)
    assert weights_equal(resolve_checkpoint('').network, network)
    # Nobody asked for random weights, so a package that lost its own must not publish their boxes.
    monkeypatch.setattr(checkpoint, 'SHIPPED_WEIGHTS', tmp_path / 'none')
    with pytest.raises(CheckpointError, match=r'not installed: there is no .*none\. Install the package again'):
        resolve_checkpoint('')


def test_model_that_is_neither_is_refused() -> None:
    said = r'There is no checkpoint file interdependent_smal\. Check the path, or give the name of a network'
    with pytest.raises(CheckpointError, match=said):
        resolve_checkpoint('interdependent_smal')


def test_shipped_weights_can_be_used(caplog: pytest.LogCaptureFixture) -> None:
    shipped = resolve_checkpoint('')
    assert not caplog.records, 'they have a checksum'
    card = checkpoint.SHIPPED_WEIGHTS.with_suffix('.md').read_text(encoding='utf-8')
    assert card.startswith(f'# {shipped.title}\n')
    assert shipped.network.name == checkpoint.DEFAULT_NETWORK
    assert shipped.provenance
