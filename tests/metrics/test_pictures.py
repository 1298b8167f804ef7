import cv2
import numpy as np
from drawn_scores import LABELS, draw_truth, no_detections, perfect

from perception.interfaces import Detections, GroundTruth, SceneResult
from perception.metrics import FrameScore
from perception.metrics.pictures import PictureKeeper

BLANK = np.full((24, 32, 3), 128, np.uint8)


def offer(keeper: PictureKeeper, ranks: list[float | None]) -> None:
    truth = draw_truth(np.random.default_rng(0))
    for index, rank in enumerate(ranks):
        keeper.offer(FrameScore(name=str(index), mean_iou=rank), BLANK, perfect(truth), truth)


def names(pictures) -> list[str]:
    return [picture.frame.name for picture in pictures]


def test_keeps_the_extremes_in_order():
    keeper = PictureKeeper(LABELS, count=2)
    offer(keeper, [0.5, 0.9, 0.1, None, 0.3, 0.8, 0.2])
    assert names(keeper.worst()) == ['2', '6']
    assert names(keeper.best()) == ['1', '5']


def test_among_equals_the_earlier_one_and_none_twice():
    keeper = PictureKeeper(LABELS, count=2)
    offer(keeper, [0.5, 0.5, 0.5, 0.5, 0.5])
    assert names(keeper.worst()) == ['0', '1']
    few = PictureKeeper(LABELS, count=3)
    offer(few, [0.4, 0.6, 0.5])
    assert names(few.worst()) == ['0', '2']
    assert names(few.best()) == ['1']


def test_parts_merged_are_the_whole():
    random = np.random.default_rng(1)
    ranks = [*np.round(random.random(40), 1).tolist(), None, 0.5]  # with many equals
    whole, merged = PictureKeeper(LABELS, count=5), PictureKeeper(LABELS, count=5)
    offer(whole, ranks)
    start = 0
    for end in (1, 1, 20, 42):
        part = PictureKeeper(LABELS, count=5)
        truth = draw_truth(np.random.default_rng(0))
        for index in range(start, end):
            part.offer(FrameScore(name=str(index), mean_iou=ranks[index]), BLANK, perfect(truth), truth)
        merged.merge(part)
        start = end
    assert names(merged.worst()) == names(whole.worst())
    assert names(merged.best()) == names(whole.best())


def test_images_with_a_known_truth_are_shown_and_no_others():
    truth = draw_truth(np.random.default_rng(0))

    def offer_recording(scored: bool) -> PictureKeeper:
        keeper = PictureKeeper(LABELS, count=3)
        for index in range(4):
            frame = FrameScore(name=f'{scored} {index}', mean_iou=0.6 + index / 100 if scored else None)
            keeper.offer(frame, BLANK, perfect(truth), truth, None if scored else index / 100)
        return keeper

    for order in ((True, False), (False, True)):
        keeper = PictureKeeper(LABELS, count=3)
        for scored in order:
            keeper.merge(offer_recording(scored))
        assert names(keeper.worst()) == ['True 0', 'True 1']
        assert names(keeper.best()) == ['True 3', 'True 2']
    boxes_only = FrameScore(name='boxes', ap50=0.0)
    keeper.offer(boxes_only, BLANK, perfect(truth), truth)
    assert 'boxes' not in names(keeper.worst())


def test_no_pictures_wanted():
    keeper = PictureKeeper(LABELS, count=0)
    offer(keeper, [0.5])
    assert keeper.worst() == keeper.best() == []


def test_paints_masks_boxes_and_only_confident_detections():
    image = np.full((100, 200, 3), 128, np.uint8)
    truth = GroundTruth(boxes_xyxy=np.array([[20, 20, 60, 80]], np.float32), labels=np.array([0]))
    found = Detections(
        boxes_xyxy=np.array([[120, 20, 180, 80], [20, 20, 60, 80]], np.float32),
        scores=np.array([0.9, 0.1], np.float32),
        labels=np.array([0, 0]),
    )
    result = SceneResult(detections=found, mask=np.full((100, 200), 3, np.uint8))
    keeper = PictureKeeper(LABELS, count=1, max_width_px=100)
    keeper.offer(FrameScore(name='a', ap50=0.0), image, result, truth)
    [picture] = keeper.worst()
    prediction, true = (
        cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)
        for content in (picture.prediction_jpeg, picture.truth_jpeg)
    )
    assert prediction.shape == (50, 100, 3)
    blue = np.array(LABELS.detection[0].color_rgb)
    assert np.abs(prediction[25, 60] - blue).max() < 90  # the left side of the confident box, painted on
    assert np.abs(prediction[25, 10] - prediction[25, 45]).max() < 20  # no trace of the weak one
    assert np.abs(true[45, 70] - 128).max() < 10  # a truth without mask leaves the photo as it is
    assert prediction[45, 45].mean() < 115  # the dark building colour lies over the photo


def test_unlabelled_pixels_stay_photo():
    truth = GroundTruth(mask=np.full((24, 32), 255, np.uint8))
    keeper = PictureKeeper(LABELS, count=1)
    result = SceneResult(detections=no_detections(), mask=np.zeros((24, 32), np.uint8))
    keeper.offer(FrameScore(name='a', mean_iou=0.5), BLANK, result, truth)
    [picture] = keeper.worst()
    true = cv2.imdecode(np.frombuffer(picture.truth_jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(true.astype(int) - 128).max() < 4
