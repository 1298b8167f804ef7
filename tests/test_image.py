"""Resize, letterbox and their undoing, at sizes that divide nothing."""

import cv2
import numpy as np
import pytest

from perception.errors import ShapeError
from perception.image import FrameGeometry, plan_geometry, prepare_image, to_rgb
from perception.interfaces import InputSpec, PixelOrder

SIZES = [(1, 1), (1, 500), (500, 1), (37, 53), (64, 96), (127, 95), (95, 127), (241, 511), (600, 91)]
SPECS = [InputSpec(image_hw=(64, 96), resize=resize) for resize in ('stretch', 'letterbox')]
LETTERBOX = InputSpec(image_hw=(64, 96), resize='letterbox')
CHANNELS = {
    PixelOrder.RGB: [0, 1, 2],
    PixelOrder.BGR: [2, 1, 0],
    PixelOrder.RGBA: [0, 1, 2, 3],
    PixelOrder.BGRA: [2, 1, 0, 3],
}

every_spec = pytest.mark.parametrize('spec', SPECS, ids=lambda spec: spec.resize)
every_size = pytest.mark.parametrize('original_hw', SIZES, ids=lambda size: f'{size[0]}x{size[1]}')


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


def to_network(boxes_xyxy: np.ndarray, geometry: FrameGeometry) -> np.ndarray:
    """Where boxes of the original image lie in the network input."""
    (height, width), (content_height, content_width) = geometry.original_hw, geometry.content_hw
    scale = np.array([content_width / width, content_height / height] * 2)
    return boxes_xyxy * scale + np.array([geometry.left, geometry.top] * 2)


@every_size
def test_stretch_fills_the_input(original_hw: tuple[int, int]) -> None:
    geometry = plan_geometry(original_hw, InputSpec(image_hw=(64, 96)))
    assert geometry == FrameGeometry(original_hw=original_hw, content_hw=(64, 96), top=0, left=0)


@every_size
def test_letterbox_keeps_the_aspect_and_centres(original_hw: tuple[int, int]) -> None:
    geometry = plan_geometry(original_hw, LETTERBOX)
    (height, width), (content_height, content_width) = original_hw, geometry.content_hw
    assert content_height == 64 or content_width == 96
    scale = min(64 / height, 96 / width)
    assert abs(content_height - max(1, height * scale)) <= 0.5
    assert abs(content_width - max(1, width * scale)) <= 0.5
    for offset, content, side in ((geometry.top, content_height, 64), (geometry.left, content_width, 96)):
        assert 0 <= side - content - 2 * offset <= 1


@every_spec
@every_size
def test_boxes_map_back(spec: InputSpec, original_hw: tuple[int, int]) -> None:
    height, width = original_hw
    corners = np.random.default_rng(0).uniform(0, 1, (50, 2, 2)) * [width, height]
    boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    boxes = np.concatenate((boxes, [[0, 0, width, height]]))
    geometry = plan_geometry(original_hw, spec)
    found = geometry.boxes_to_original(to_network(boxes, geometry).astype(np.float32))
    assert found.shape == (51, 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, boxes, rtol=1e-5, atol=2e-5 * max(original_hw))


@every_spec
def test_boxes_are_clipped(spec: InputSpec) -> None:
    geometry = plan_geometry((37, 53), spec)
    beyond = np.array([[-500, -500, 500, 500], [-500, 10, -400, 20]], np.float32)
    whole, outside = geometry.boxes_to_original(beyond)
    assert whole.tolist() == [0, 0, 53, 37]
    assert outside[0] == outside[2] == 0
    assert geometry.boxes_to_original(np.zeros((0, 4), np.float32)).shape == (0, 4)


@every_spec
@every_size
def test_mask_comes_back_at_the_nearest_pixel(spec: InputSpec, original_hw: tuple[int, int]) -> None:
    geometry = plan_geometry(original_hw, spec)
    content_height, content_width = geometry.content_hw
    border, height, width = 255, *original_hw
    mask = np.full(spec.image_hw, border, np.uint8)
    content = noise(*geometry.content_hw) % 200
    mask[geometry.top : geometry.top + content_height, geometry.left : geometry.left + content_width] = content

    # The centre of original pixel i lies at (i + 1/2) * content / original; floor() names the pixel around it.
    rows = (2 * np.arange(height) + 1) * content_height // (2 * height)
    columns = (2 * np.arange(width) + 1) * content_width // (2 * width)
    found = geometry.mask_to_original(mask)
    assert found.shape == original_hw
    assert found.dtype == np.uint8
    assert border not in found
    # A centre that falls on the edge between two pixels may go either way.
    on_row_edge = (2 * np.arange(height) + 1) * content_height % (2 * height) == 0
    on_column_edge = (2 * np.arange(width) + 1) * content_width % (2 * width) == 0
    clear = ~on_row_edge[:, None] & ~on_column_edge[None]
    assert np.array_equal(found[clear], content[rows[:, None], columns[None]][clear])


@every_spec
def test_drawn_rectangle_is_found_where_the_geometry_says(spec: InputSpec) -> None:
    image = np.zeros((241, 333, 3), np.uint8)
    image[60:180, 90:270] = 255
    prepared, geometry = prepare_image(image, spec)
    bright = prepared[..., 0] > 180  # the letterbox's border is the mean colour, 124
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    seen = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
    found = geometry.boxes_to_original(seen)[0]
    pixel = 333 / geometry.content_hw[1], 241 / geometry.content_hw[0]
    assert np.abs(found - [90, 60, 270, 180]).max() <= max(pixel)

    mask = geometry.mask_to_original(bright.astype(np.uint8))
    assert mask.shape == (241, 333)
    assert mask[64:176, 94:266].all()
    mask[56:184, 86:274] = 0
    assert not mask.any()


@every_spec
@every_size
@pytest.mark.parametrize('order', list(PixelOrder))
def test_content_is_the_resized_image(spec: InputSpec, original_hw: tuple[int, int], order: PixelOrder) -> None:
    image_rgb = noise(*original_hw, 3)
    if order is PixelOrder.MONO:
        pixels = image_rgb[..., 0].copy()
        image_rgb = np.repeat(pixels[..., None], 3, axis=2)
    else:
        four = np.concatenate((image_rgb, noise(*original_hw, 1)), axis=2)
        pixels = np.ascontiguousarray(four[..., CHANNELS[order]])
    prepared, geometry = prepare_image(pixels, spec, order)
    assert prepared.shape == (64, 96, 3)
    assert prepared.dtype == np.uint8

    height, width = geometry.content_hw
    content = np.s_[geometry.top : geometry.top + height, geometry.left : geometry.left + width]
    expected = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(prepared[content], expected)
    border = np.ones((64, 96), bool)
    border[content] = False
    assert (prepared[border] == [124, 116, 104]).all()
    assert border.any() == (geometry.content_hw != spec.image_hw)


def test_image_of_the_right_size_is_not_changed() -> None:
    image = noise(64, 96, 3)
    for spec in SPECS:
        assert np.array_equal(prepare_image(image, spec)[0], image)


def test_border_takes_the_mean_of_the_spec() -> None:
    spec = InputSpec(image_hw=(32, 32), resize='letterbox', mean_rgb=(10.6, 20.2, 250.0))
    prepared, _ = prepare_image(np.zeros((10, 20, 3), np.uint8), spec)
    assert prepared[0, 0].tolist() == [11, 20, 250]
    assert prepared[16, 16].tolist() == [0, 0, 0]


@pytest.mark.parametrize('order', list(CHANNELS))
def test_to_rgb(order: PixelOrder) -> None:
    image_rgb = noise(5, 7, 3)
    four = np.concatenate((image_rgb, noise(5, 7, 1)), axis=2)
    assert np.array_equal(to_rgb(np.ascontiguousarray(four[..., CHANNELS[order]]), order), image_rgb)


def test_to_rgb_repeats_grey_and_does_not_copy_rgb() -> None:
    grey, image_rgb = noise(5, 7), noise(5, 7, 3)
    assert np.array_equal(to_rgb(grey, PixelOrder.MONO), np.stack((grey,) * 3, axis=2))
    assert to_rgb(image_rgb, PixelOrder.RGB) is image_rgb


@every_spec
@pytest.mark.parametrize('columns', [slice(0, 60), slice(13, 60)], ids=['padded', 'inside'])
def test_padding_of_rows_is_not_seen(spec: InputSpec, columns: slice) -> None:
    wide = noise(40, 100, 3)
    view = wide[:, columns]
    assert not view.flags.c_contiguous
    before = wide.copy()
    expected, _ = prepare_image(view.copy(), spec)
    wide[:, 60:] = 255 - wide[:, 60:]
    wide.flags.writeable = False  # bytes of a message cannot be written
    found, _ = prepare_image(view, spec)
    assert np.array_equal(found, expected)
    assert np.array_equal(wide[:, :60], before[:, :60])


@pytest.mark.parametrize('order', [PixelOrder.RGBA, PixelOrder.MONO])
def test_padding_of_rows_is_not_seen_in_other_orders(order: PixelOrder) -> None:
    wide = noise(40, 100, 4) if order is PixelOrder.RGBA else noise(40, 100)
    view = wide[:, :60]
    assert np.array_equal(prepare_image(view, LETTERBOX, order)[0], prepare_image(view.copy(), LETTERBOX, order)[0])


@pytest.mark.parametrize(
    ('pixels', 'order', 'says'),
    [
        (np.zeros((0, 5, 3), np.uint8), PixelOrder.RGB, '(0, 5, 3)'),
        (np.zeros((5, 0, 3), np.uint8), PixelOrder.RGB, '(5, 0, 3)'),
        (np.zeros((5, 7), np.uint8), PixelOrder.BGR, '(H, W, 3)'),
        (np.zeros((5, 7, 4), np.uint8), PixelOrder.RGB, '(5, 7, 4)'),
        (np.zeros((5, 7, 3), np.uint8), PixelOrder.BGRA, '(H, W, 4)'),
        (np.zeros((5, 7, 3), np.uint8), PixelOrder.MONO, '(H, W, 1)'),
        (np.zeros((5, 7, 3), np.float32), PixelOrder.RGB, 'float32'),
        (np.zeros((5, 7, 3), np.uint16), PixelOrder.RGB, 'uint16'),
        (np.zeros(35, np.uint8), PixelOrder.MONO, '(35,)'),
        (np.zeros((1, 5, 7, 3), np.uint8), PixelOrder.RGB, '(1, 5, 7, 3)'),
    ],
)
def test_other_arrays_are_refused(pixels: np.ndarray, order: PixelOrder, says: str) -> None:
    with pytest.raises(ShapeError) as refusal:
        prepare_image(pixels, InputSpec(), order)
    assert says in str(refusal.value)
    assert order.value in str(refusal.value)
