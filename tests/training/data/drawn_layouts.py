"""Tiny data sets in the layout of each reader, drawn by hand, so that every number in a test can be counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

HW = (40, 64)
"""Height and width of every drawn image."""


def write_picture(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def gradient_rgb(number: int = 0, image_hw: tuple[int, int] = HW) -> np.ndarray:
    """(H, W, 3) smooth picture; red grows to the right, green downwards, blue tells the pictures apart."""
    rows, columns = np.mgrid[: image_hw[0], : image_hw[1]]
    blue = np.full(image_hw, 40 * number + 10)
    return np.stack((columns * 255 // image_hw[1], rows * 255 // image_hw[0], blue), axis=2).astype(np.uint8)


def draw_cityscapes(root: Path, split: str = 'train', frames: int = 3) -> None:
    """Road below, sky above; two cars (rows 10-20: columns 5-15 and 30-42), a rider, a bicycle, two person groups."""
    for number in range(frames):
        ids = np.full(HW, 23, np.uint8)  # sky
        ids[20:] = 7  # road
        ids[:3, :4] = 12  # wall: no class
        instances = ids.astype(np.uint16)
        objects = (
            (26, 26001, np.s_[10:20, 5:15]),
            (26, 26002, np.s_[10:20, 30:42]),
            (25, 25000, np.s_[22:28, 50:54]),
            (33, 33000, np.s_[28:34, 48:56]),
            (24, 24, np.s_[5:9, 44:48]),
            (24, 24, np.s_[5:9, 58:62]),
            (31, 31000, np.s_[36:39, 2:9]),  # train: no class, no box
        )
        for class_id, instance, place in objects:
            ids[place], instances[place] = class_id, instance
        stem = f'aachen/aachen_{number:06d}_000019'
        image_bgr = cv2.cvtColor(gradient_rgb(number), cv2.COLOR_RGB2BGR)
        write_picture(root / f'leftImg8bit/{split}/{stem}_leftImg8bit.png', image_bgr)
        write_picture(root / f'gtFine/{split}/{stem}_gtFine_labelIds.png', ids)
        write_picture(root / f'gtFine/{split}/{stem}_gtFine_instanceIds.png', instances)


def draw_camvid(root: Path, split: str = 'train', frames: int = 3) -> None:
    """A car of 12x20 pixels at rows 10-22, columns 4-24; a small one of 2x3; a pedestrian; a bicyclist."""
    stems = [f'0001TP_{number:06d}' for number in range(frames)]
    for number, stem in enumerate(stems):
        ids = np.full(HW, 3, np.uint8)  # road
        ids[:8] = 0  # sky
        ids[10:22, 4:24] = 8
        ids[30:32, 40:43] = 8
        ids[12:32, 30:36] = 9
        ids[14:34, 46:58] = 10
        ids[38:, :] = 255
        write_picture(root / split / f'{stem}.png', cv2.cvtColor(gradient_rgb(number), cv2.COLOR_RGB2BGR))
        write_picture(root / f'{split}annot' / f'{stem}.png', ids)
    (root / f'{split}.txt').write_text('\n'.join(stems) + '\n')


def coco_content(frames: int, categories: tuple[str, ...], folder: str = '') -> dict[str, list[dict[str, object]]]:
    """Two objects and a crowd per image; category ids count from 1."""
    boxes = (([4, 5, 20, 10], 0), ([50, 20, 30, 10], 0), ([0, 30, 12, 8], 1))  # the second reaches beyond the image
    return {
        'categories': [{'id': 1 + place, 'name': name} for place, name in enumerate(categories)],
        'images': [
            {'id': 10 + number, 'file_name': f'{folder}{number:03d}.png', 'height': HW[0], 'width': HW[1]}
            for number in range(frames)
        ],
        'annotations': [
            {
                'id': 100 * number + place,
                'image_id': 10 + number,
                'category_id': 1 + place,
                'bbox': box,
                'iscrowd': crowd,
            }
            for number in range(frames)
            for place, (box, crowd) in enumerate(boxes)
        ],
    }


def draw_coco(root: Path, split: str = 'train', frames: int = 3) -> None:
    categories = ('car', 'person', 'bicycle', 'truck', 'bus', 'motorcycle', 'zebra')
    for number in range(frames):
        write_picture(root / f'{split}2017' / f'{number:03d}.png', gradient_rgb(number))
    write_json(root / f'annotations/instances_{split}2017.json', coco_content(frames, categories))


def draw_driving_boxes(root: Path, split: str = 'train', frames: int = 3) -> None:
    folder = f'images/{split}/'
    for number in range(frames):
        write_picture(root / folder / f'{number:03d}.png', gradient_rgb(number))
    write_json(root / f'{split}.json', coco_content(frames, ('vehicle', 'person', 'two_wheeler'), folder))


VOC_OBJECT = """
  <object>
    <name>{}</name><pose>Left</pose><truncated>1</truncated><difficult>{}</difficult>
    <bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
  </object>"""


def voc_xml(*objects: tuple[object, ...], size: str = '<size><width>64</width><height>40</height></size>') -> str:
    """An annotation file; an object is name, difficult, xmin, ymin, xmax, ymax."""
    return f'<annotation>{size}{"".join(VOC_OBJECT.format(*values) for values in objects)}</annotation>'


def draw_voc(root: Path, split: str = 'train', frames: int = 3) -> None:
    """A car at rows 5-15, columns 4-24, a person that reaches to the border, a difficult bus; masks of all but one."""
    objects = ('car', 0, 5, 6, 24, 15), ('person', 0, 51, 21, 64, 30), ('bus', 1, 1, 31, 12, 38), ('dog', 0, 9, 9, 9, 9)
    names = [f'2012_{number:06d}' for number in range(frames)]
    for number, name in enumerate(names):
        ids = np.zeros(HW, np.uint8)
        ids[5:15, 4:24], ids[20:30, 50:], ids[5:15, 24] = 7, 15, 255
        write_picture(root / 'JPEGImages' / f'{name}.png', cv2.cvtColor(gradient_rgb(number), cv2.COLOR_RGB2BGR))
        write_text(root / 'Annotations' / f'{name}.xml', voc_xml(*objects))
        if number != 1:
            write_picture(root / 'SegmentationClass' / f'{name}.png', ids)
    write_text(root / 'ImageSets' / 'Main' / f'{split}.txt', '\n'.join(names) + '\n')
    write_text(root / 'ImageSets' / 'Segmentation' / f'{split}.txt', f'{names[0]}\n{names[-1]}\n')


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content))


DRAWERS: dict[str, Callable[..., None]] = {
    'cityscapes': draw_cityscapes,
    'camvid': draw_camvid,
    'coco': draw_coco,
    'driving_boxes': draw_driving_boxes,
    'voc': draw_voc,
}
"""One per entry of DATASETS."""
