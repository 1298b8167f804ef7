"""Label spaces of the user's own: what is read from a file, and what is said of one that is wrong."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from perception.errors import ConfigError
from perception.interfaces import LabelClass, LabelSpace
from perception.labels import BUILT_IN, CITYSCAPES_11_3, check_same_classes, load_label_space, parse_label_space

YARD = """
name: yard
segmentation:
  - {name: ground, color: [110, 90, 70]}
  - {name: crate, color: [255, 190, 0]}
detection:
  - {name: crate, color: [255, 190, 0]}
  - {name: barrel, color: [0, 90, 255], areas: [crate, ground]}
  - {name: cone, color: [255, 90, 0]}
"""


def load(folder: Path, text: str) -> LabelSpace:
    file = folder / 'yard.yaml'
    file.write_text(text, encoding='utf-8')
    return load_label_space(file)


def test_a_file_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, YARD) == LabelSpace(
        name='yard',
        segmentation=(
            LabelClass(name='ground', color_rgb=(110, 90, 70)),
            LabelClass(name='crate', color_rgb=(255, 190, 0)),
        ),
        detection=(
            LabelClass(name='crate', color_rgb=(255, 190, 0), areas=('crate',)),  # the area of its name
            LabelClass(name='barrel', color_rgb=(0, 90, 255), areas=('crate', 'ground')),
            LabelClass(name='cone', color_rgb=(255, 90, 0)),
        ),
    )


@pytest.mark.parametrize(
    ('old', 'new', 'said'),
    [
        ('ground, color', 'crate, color', r"segmentation: two classes are named 'crate'"),
        ('name: barrel', 'name: crate', r"detection: two classes are named 'crate'"),
        ('{name: ground, ', '{', r'segmentation, class 0 \(from 0\) has no name'),
        ('{name: ground, ', '{name: "", ', r'segmentation, class 0 \(from 0\): name is '),
        ('name: ground', 'name: yes', r'class 0 \(from 0\): name is True; expected text .* in quotes'),
        ('[110, 90, 70]', '[110, 90]', r"'ground' has color \[110, 90\]; expected \[red"),
        ('[110, 90, 70]', '[110, 90, 256]', r"'ground' has color .*256\]; expected .* 0\.\.255"),
        ('[110, 90, 70]', '"#6e5a46"', r"'ground' has color '#6e5a46'"),
        ('color: [0, 90', 'colour: [0, 90', r"'barrel' has no key 'colour': did you mean 'color'"),
        ('areas: [crate, ground]', 'areas: [crates]', r"'barrel' is made of 'crates', .*did you mean 'crate'"),
        ('areas: [crate, ground]', 'areas: crate', r"'barrel' has areas 'crate'; expected a list"),
        ('name: yard', 'title: yard', r"has no key 'title': did you mean|has no key 'title': known"),
        ('name: yard', 'name: yard\nname: field', r"the key 'name' stands there twice"),
        ('name: yard', 'name: voc_21_20', r"'voc_21_20' is that of a built-in label space with other classes"),
        ('name: yard', '', r'has no name; a label space has'),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in YARD
    with pytest.raises(ConfigError, match=rf'(?s)yard\.yaml.*({said})') as error:
        load(tmp_path, YARD.replace(old, new, 1))
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize('text', ['', '[]', 'name: yard\nsegmentation: []\ndetection: []', 'a: [', '\x00'])
def test_what_is_no_label_space_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r'yard\.yaml'):
        load(tmp_path, text)


def test_masks_of_8_bit_hold_no_more(tmp_path: Path) -> None:
    classes = ''.join(f'  - {{name: area {number}, color: [0, 0, 1]}}\n' for number in range(255))
    detection = 'detection: [{name: crate, color: [0, 0, 1]}]'
    with pytest.raises(ConfigError, match='255 segmentation classes; masks of 8 bit hold 254'):
        load(tmp_path, f'name: yard\nsegmentation:\n{classes}{detection}')


def test_an_unknown_name_lists_those_built_in() -> None:
    with pytest.raises(
        ConfigError, match=r"no label space 'cityscape_11_3'.*did you mean 'cityscapes_11_3'.*voc_21_20"
    ):
        load_label_space('cityscape_11_3')


@pytest.mark.parametrize('name', BUILT_IN)
def test_plain_values_give_the_same(name: str) -> None:
    labels = load_label_space(name)
    assert parse_label_space(asdict(labels)) == labels


def test_what_earlier_versions_wrote_knows_its_areas() -> None:
    values = asdict(CITYSCAPES_11_3)
    for entry in (*values['segmentation'], *values['detection']):
        del entry['areas']
    assert parse_label_space(values) == CITYSCAPES_11_3
    # Another one of that name has other classes, and nobody knows what they are made of.
    values['detection'][0]['name'] = 'tram'
    assert [label.areas for label in parse_label_space(values).detection] == [(), (), ()]


def test_label_spaces_are_the_same_by_their_names_in_order() -> None:
    ours = CITYSCAPES_11_3
    repainted = replace(
        ours, detection=tuple(replace(label, color_rgb=(1, 1, 1), areas=()) for label in ours.detection)
    )
    check_same_classes(repainted, 'a', ours, 'b')
    turned = replace(ours, name='turned', detection=ours.detection[::-1])
    with pytest.raises(ConfigError) as error:
        check_same_classes(turned, 'a.pt', ours, 'b.pt')
    said = str(error.value)
    assert "a.pt has label space 'turned' (areas road, traffic sign" in said
    assert "b.pt has 'cityscapes_11_3' (areas road" in said
    assert 'objects bicycle/motorcycle, person/rider, car/truck/bus)' in said
    assert 'objects car/truck/bus, person/rider, bicycle/motorcycle)' in said
