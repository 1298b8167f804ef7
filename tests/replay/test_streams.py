"""Streams of recordings and their truth: whose an annotation is, and that nothing counts twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from perception.bag.writer import BagWriter
from perception.errors import DatasetError, RecordingError
from perception.interfaces import StampedImage
from perception.labels import CITYSCAPES_11_3
from perception.replay.recordings import ReplayOptions, Stream, name_recordings, open_streams, refuse_shared_truth
from tests.training.data.drawn_layouts import write_picture

FIRST_NS = 1_700_000_000_000_000_000
HW = (24, 32)


def draw_bag(path: Path, topics: Sequence[str], *, first_ns: int = FIRST_NS, count: int = 2, masks: str = '') -> Path:
    with BagWriter(path) as writer:
        for index in range(count):
            stamp_ns = first_ns + index * 10**8
            for topic in topics:
                writer.write_image(topic, StampedImage(image_rgb=np.zeros((*HW, 3), np.uint8), stamp_ns=stamp_ns))
            if masks:
                png = cv2.imencode('.png', np.full(HW, index, np.uint8))[1].tobytes()
                writer.write_mask(f'{masks}/truth/mask/compressed', png, stamp_ns)
    return path


def draw_truth(root: Path, *names: str) -> Path:
    for name in names:
        write_picture(root / 'testannot' / f'{name}.png', np.full(HW, 3, np.uint8))
    return root


def streams(tmp_path: Path, *paths: Path, **options: object) -> list[Stream]:
    settings = ReplayOptions(output=tmp_path / 'out', **options)  # type: ignore[arg-type]
    found = [
        stream
        for recording in name_recordings(paths, tmp_path / 'out')
        for stream in open_streams(recording, CITYSCAPES_11_3, settings)
    ]
    refuse_shared_truth(found)
    return found


@pytest.mark.parametrize('names', [('1', '2'), (f'f_{FIRST_NS}', f'f_{FIRST_NS + 10**8}')], ids=['order', 'stamp'])
def test_a_folder_of_truth_is_not_that_of_two_cameras(tmp_path: Path, names: tuple[str, str]) -> None:
    bag = draw_bag(tmp_path / 'bag', ['/front/image_raw', '/rear/image_raw'])
    truth = str(draw_truth(tmp_path / 'truth', *names))
    with pytest.raises(DatasetError, match=r'of both bag/front/image_raw and bag/rear/image_raw.*Give --topic'):
        streams(tmp_path, bag, truth=truth)
    (front,) = streams(tmp_path, bag, truth=truth, topics=('/front/image_raw',))
    assert len(list(front.truth.claims())) == 2


def test_a_folder_of_truth_that_fits_one_camera_by_count_names_the_option(tmp_path: Path) -> None:
    bag = draw_bag(tmp_path / 'bag', ['/front/image_raw', '/rear/image_raw'])
    with pytest.raises(DatasetError, match=r'3 annotations.*has 2 cameras \(/front/image_raw, .*give --topic'):
        streams(tmp_path, bag, truth=str(draw_truth(tmp_path / 'truth', '1', '2', '3')))


def test_stamps_that_are_those_of_one_camera_say_whose_the_truth_is(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'bag') as writer:
        for topic, offset in (('/front/image_raw', 0), ('/rear/image_raw', 5 * 10**7)):
            for index in range(2):
                stamp_ns = FIRST_NS + index * 10**8 + offset
                writer.write_image(topic, StampedImage(image_rgb=np.zeros((*HW, 3), np.uint8), stamp_ns=stamp_ns))
    truth = draw_truth(tmp_path / 'truth', f'f_{FIRST_NS}', f'f_{FIRST_NS + 10**8}')
    front, rear = streams(tmp_path, tmp_path / 'bag', truth=str(truth))
    assert (len(list(front.truth.claims())), len(list(rear.truth.claims()))) == (2, 0)


@pytest.mark.parametrize('names', [('1', '2'), (f'f_{FIRST_NS}', f'f_{FIRST_NS + 10**8}')], ids=['order', 'stamp'])
def test_a_folder_of_truth_is_not_that_of_two_recordings(tmp_path: Path, names: tuple[str, str]) -> None:
    bags = [draw_bag(tmp_path / name, ['/front/image_raw']) for name in ('one', 'two')]
    with pytest.raises(DatasetError, match=r'truth of both one/front/image_raw and two/front/image_raw'):
        streams(tmp_path, *bags, truth=str(draw_truth(tmp_path / 'truth', *names)))


def test_a_folder_of_truth_for_the_stamps_of_many_recordings_is_taken(tmp_path: Path) -> None:
    bags = [
        draw_bag(tmp_path / name, ['/front/image_raw'], first_ns=first_ns)
        for name, first_ns in (('one', FIRST_NS), ('two', FIRST_NS + 10**10))
    ]
    names = [f'f_{first_ns + index * 10**8}' for first_ns in (FIRST_NS, FIRST_NS + 10**10) for index in range(2)]
    found = streams(tmp_path, *bags, truth=str(draw_truth(tmp_path / 'truth', *names)))
    assert [len(list(stream.truth.claims())) for stream in found] == [2, 2]


def test_pictures_of_one_name_in_two_folders_do_not_share_a_truth(tmp_path: Path) -> None:
    for folder in ('one', 'two'):
        write_picture(tmp_path / folder / '1.png', np.zeros((*HW, 3), np.uint8))
    with pytest.raises(DatasetError, match='truth of both one and two'):
        streams(tmp_path, tmp_path / 'one', tmp_path / 'two', truth=str(draw_truth(tmp_path / 'truth', '1')))


def test_one_topic_of_truth_is_not_that_of_two_streams(tmp_path: Path) -> None:
    bag = draw_bag(tmp_path / 'bag', ['/front/image_raw', '/rear/image_raw'], masks='/front')
    front, rear = streams(tmp_path, bag)
    assert (front.truth.description, rear.truth.description) == ('topics /front/truth/mask/compressed', 'none')
    with pytest.raises(DatasetError, match='/front/truth/mask/compressed would be the truth of both'):
        streams(tmp_path, bag, mask_topic='/front/truth/mask/compressed')


def test_a_rectified_picture_is_scored_on_the_truth_of_the_raw_one_only_when_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bag = draw_bag(tmp_path / 'bag', ['/cam/image_raw', '/cam/image_rect_color'], masks='/cam')
    (raw,) = streams(tmp_path, bag)
    assert raw.name == 'bag/cam/image_raw'
    assert raw.truth.description != 'none'
    (rectified,) = streams(tmp_path, bag, topics=('/cam/image_rect_color',))
    assert rectified.truth.description == 'none'
    assert 'taken for that of /cam/image_raw, and rectified pixels lie elsewhere' in caplog.text
    (rectified,) = streams(tmp_path, bag, topics=('/cam/image_rect_color',), truth='topics')
    assert rectified.truth.description != 'none'
    alone = draw_bag(tmp_path / 'alone', ['/cam/image_rect_color'], masks='/cam')
    assert streams(tmp_path, alone)[0].truth.description != 'none'


def test_predictions_of_two_pictures_of_one_camera_have_topics_of_their_own(tmp_path: Path) -> None:
    bag = draw_bag(tmp_path / 'bag', ['/cam/image_raw', '/cam/image_mono', '/rear/image'])
    wanted = ('/cam/image_raw', '/cam/image_mono', '/rear/image')
    assert [stream.camera for stream in streams(tmp_path, bag)] == ['/cam', '/rear']
    cameras = [stream.camera for stream in streams(tmp_path, bag, topics=wanted)]
    assert cameras == ['/cam/image_raw', '/cam/image_mono', '/rear']


def test_nothing_counts_twice(tmp_path: Path) -> None:
    bag = draw_bag(tmp_path / 'bag', ['/front/image_raw'])
    with pytest.raises(RecordingError, match='--topic /front/image_raw is given twice'):
        streams(tmp_path, bag, topics=('/front/image_raw', 'front/image_raw'))
    file = next(bag.glob('*.mcap'))
    with pytest.raises(RecordingError, match=r'bag\.mcap is a part of .*bag, which is given'):
        streams(tmp_path, bag, file)
    (tmp_path / 'link').symlink_to(bag)
    with pytest.raises(RecordingError, match='link is given twice'):
        streams(tmp_path, bag, tmp_path / 'link')


def test_the_truth_of_a_frame_that_cannot_be_decoded_is_not_said_to_be_unused(tmp_path: Path) -> None:
    for name in ('1', '2'):
        write_picture(tmp_path / 'test' / f'{name}.png', np.zeros((*HW, 3), np.uint8))
    (tmp_path / 'test' / '3.png').write_bytes(b'')
    truth = draw_truth(tmp_path, '1', '2', '3', '4')
    (stream,) = streams(tmp_path, tmp_path / 'test', truth=str(truth))
    for position, frame in enumerate(stream.source):
        stream.truth.of(position, frame)
    assert stream.source.skipped == {'undecodable': 1}
    balance = stream.truth.balance(whole=True)
    assert (balance.unmatched, balance.remarks) == (1, ('1 of 4 annotations, such as 4, belong to no frame by name.',))


def test_nor_is_that_of_a_message(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'bag') as writer:
        for index in range(2):
            stamp_ns = FIRST_NS + index * 10**8
            frame = StampedImage(image_rgb=np.zeros((*HW, 3), np.uint8), stamp_ns=stamp_ns)
            fields = {'format': 'jpeg', 'data': b'junk'}
            if index:
                writer._write_frame('/cam/image/compressed', 'sensor_msgs/msg/CompressedImage', frame, fields)
            else:
                writer.write_jpeg('/cam/image/compressed', frame)
            writer.write_mask('/cam/truth/mask/compressed', cv2.imencode('.png', np.zeros(HW))[1].tobytes(), stamp_ns)
    (stream,) = streams(tmp_path, tmp_path / 'bag')
    for position, frame in enumerate(stream.source):
        stream.truth.of(position, frame)
    assert stream.source.skipped == {'undecodable': 1}
    assert stream.truth.balance(whole=True).unmatched == 0
