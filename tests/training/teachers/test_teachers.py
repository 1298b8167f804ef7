"""Teachers: a YOLOX file against its code written out, a checkpoint's views, and files that are none."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from perception.checkpoint import load_checkpoint
from perception.errors import CheckpointError, ConfigError
from perception.image import prepare_image
from perception.interfaces import Detections
from perception.postprocess import PostprocessConfig, postprocess
from training.teachers import TEACHERS, Views, build_teacher
from training.teachers.views import join_detections

SIZE = 64
CELLS = 8 * 8 + 4 * 4 + 2 * 2
PERSON, CAR, TRAFFIC_LIGHT, TRUCK = 0, 2, 9, 7


def write_yolox(path: Path, predictions: np.ndarray) -> Path:
    """A file that says the same of every image of SIZE x SIZE."""
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    value = numpy_helper.from_array(predictions[None].astype(np.float32), 'value')
    # Something of the image must be in it, or the input would be none.
    nodes = [
        helper.make_node('ReduceMax', ['images'], ['most'], keepdims=0),
        helper.make_node('Mul', ['most', 'zero'], ['nothing']),
        helper.make_node('Add', ['value', 'nothing'], ['output']),
    ]
    graph = helper.make_graph(
        nodes,
        'yolox',
        [helper.make_tensor_value_info('images', onnx.TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info('output', onnx.TensorProto.FLOAT, [1, *predictions.shape])],
        [value, numpy_helper.from_array(np.array(0, np.float32), 'zero')],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8), path)
    return path


def test_yolox_is_decoded_as_its_paper_says(tmp_path: Path) -> None:
    predictions = np.zeros((CELLS, 85), np.float32)
    # Stride 8, row 3, column 2: centre (2.5, 3.25) cells, 2 x 3 cells.
    predictions[3 * 8 + 2, :5] = 0.5, 0.25, np.log(2), np.log(3), 0.9
    predictions[3 * 8 + 2, 5 + CAR], predictions[3 * 8 + 2, 5 + TRUCK] = 0.5, 0.8
    # Stride 32, row 1, column 0, reaching over the border.
    predictions[64 + 16 + 2, :5] = 0.5, 0.5, np.log(2), np.log(1), 0.6
    predictions[64 + 16 + 2, 5 + PERSON] = 1.0
    predictions[5, :5] = 0.5, 0.5, 0, 0, 1.0
    predictions[5, 5 + TRAFFIC_LIGHT] = 1.0  # none of ours
    teacher = build_teacher(write_yolox(tmp_path / 'yolox.onnx', predictions), Views(sizes=(SIZE,), flip=False))
    # An image twice as large as the input: boxes come back in its pixels.
    found = teacher(np.zeros((2 * SIZE, 2 * SIZE, 3), np.uint8)).detections
    np.testing.assert_allclose(found.scores, [0.72, 0.6], atol=1e-6)
    assert found.labels.tolist() == [0, 1]
    vehicle = [2 * 8 * side for side in (2.5 - 1, 3.25 - 1.5, 2.5 + 1, 3.25 + 1.5)]
    np.testing.assert_allclose(found.boxes_xyxy, [vehicle, [0, 2 * 32, 2 * 48, 2 * 64]], atol=1e-3)
    assert teacher(np.zeros((SIZE, SIZE, 3), np.uint8)).mask is None
    assert not teacher.segments


def test_the_mirrored_view_comes_back_to_its_place(tmp_path: Path) -> None:
    predictions = np.zeros((CELLS, 85), np.float32)
    predictions[8, :5], predictions[8, 5 + CAR] = (0.5, 0.5, 0, 0, 1.0), 0.5
    teacher = build_teacher(write_yolox(tmp_path / 'yolox.onnx', predictions), Views(sizes=(SIZE,)))
    found = teacher(np.zeros((SIZE, SIZE, 3), np.uint8)).detections
    assert sorted(found.boxes_xyxy.tolist()) == [[0, 8, 8, 16], [SIZE - 8, 8, SIZE, 16]]


def test_boxes_of_several_views_are_told_once() -> None:
    one = Detections(
        boxes_xyxy=np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32),
        scores=np.array([0.5, 0.4], np.float32),
        labels=np.array([0, 1]),
    )
    other = Detections(
        boxes_xyxy=np.array([[0, 0, 10, 9], [0, 0, 10, 10]], np.float32),
        scores=np.array([0.8, 0.3], np.float32),
        labels=np.array([0, 1]),
    )
    found = join_detections([one, other], Views())
    np.testing.assert_allclose(found.scores, [0.8, 0.4, 0.3])
    assert found.labels.tolist() == [0, 1, 1]
    assert len(join_detections([_empty(), _empty()], Views())) == 0


def _empty() -> Detections:
    return Detections(
        boxes_xyxy=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), labels=np.zeros(0, np.int64)
    )


def test_a_checkpoint_in_one_view_is_the_network_itself(tiny_checkpoint_path: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint_path)
    image = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    prepared, geometry = prepare_image(image, checkpoint.network.input_spec)
    with torch.inference_mode():
        output = checkpoint.network(torch.from_numpy(prepared).permute(2, 0, 1)[None])
    (expected,) = postprocess(
        output, [geometry], PostprocessConfig(score_threshold=0.05, nms_threshold=0.6), with_confidence=True
    )
    teacher = build_teacher(tiny_checkpoint_path, Views(flip=False))
    answer = teacher(image)
    assert teacher.segments
    assert teacher.title == checkpoint.title
    assert answer.mask is not None
    assert answer.confidence is not None
    assert expected.confidence is not None
    assert np.array_equal(answer.mask, expected.mask)
    assert np.abs(answer.confidence.astype(int) - expected.confidence).max() <= 1
    # Boxes that differed before they were clipped may be doubles behind it.
    once = join_detections([expected.detections], Views())
    np.testing.assert_allclose(answer.detections.boxes_xyxy, once.boxes_xyxy, atol=1e-3)
    np.testing.assert_allclose(answer.detections.scores, once.scores, atol=1e-6)


def test_with_a_mirror_the_answer_is_mirrored_with_the_image(tiny_checkpoint_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (96, 192, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 8)
    teacher = build_teacher(tiny_checkpoint_path, Views(sizes=(192, 256)))
    straight, mirrored = teacher(image), teacher(np.ascontiguousarray(image[:, ::-1]))
    assert straight.mask is not None
    assert mirrored.mask is not None
    assert (straight.mask == mirrored.mask[:, ::-1]).mean() > 0.99
    np.testing.assert_allclose(straight.detections.scores[:20], mirrored.detections.scores[:20], atol=1e-4)


def test_files_that_are_no_teacher(tmp_path: Path, tiny_checkpoint_path: Path) -> None:
    assert set(TEACHERS) == {'.onnx', '.safetensors'}
    for name, error, message in (
        ('absent.onnx', CheckpointError, 'there is no such file'),
        ('absent.safetensors', CheckpointError, 'There is no checkpoint file'),
        ('teacher.pt', ConfigError, 'expected a file that ends with .onnx or .safetensors'),
    ):
        with pytest.raises(error, match=message):
            build_teacher(tmp_path / name, Views())
    (tmp_path / 'text.onnx').write_text('no network')
    pytest.importorskip('onnxruntime')
    with pytest.raises(CheckpointError, match='no ONNX file that ONNX Runtime can run'):
        build_teacher(tmp_path / 'text.onnx', Views())
    other = write_yolox(tmp_path / 'other.onnx', np.zeros((CELLS, 25), np.float32))
    with pytest.raises(CheckpointError, match=r'expected a YOLOX trained on COCO.*85 columns'):
        build_teacher(other, Views())
    right = write_yolox(tmp_path / 'right.onnx', np.zeros((CELLS, 85), np.float32))
    with pytest.raises(CheckpointError, match='does not take an image of 96x96'):
        build_teacher(right, Views(sizes=(96,)))(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ConfigError, match='multiples of 32'):
        Views(sizes=(100,))
