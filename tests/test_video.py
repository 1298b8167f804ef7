"""Films are read back with another library than the one that wrote them."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from perception.video import VideoWriter

RED, GREEN, BLUE = (200, 30, 40), (30, 180, 50), (40, 50, 190)


def picture(height: int, width: int, color_rgb: tuple[int, int, int] = RED) -> np.ndarray:
    return np.full((height, width, 3), color_rgb, np.uint8)


def write(path: Path, pictures: list[np.ndarray], frame_rate_hz: float = 10.0) -> Path:
    with VideoWriter(path, frame_rate_hz) as writer:
        for image in pictures:
            writer.write(image)
    return path


def read(path: Path) -> tuple[list[np.ndarray], float]:
    """RGB frames and frame rate, by OpenCV."""
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    frames = []
    while (frame := capture.read())[0]:
        frames.append(cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB))
    frame_rate_hz = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return frames, frame_rate_hz


@pytest.mark.parametrize('count', [1, 3, 40])
def test_film_holds_every_picture_in_order(count: int, tmp_path: Path) -> None:
    colors = [(RED, GREEN, BLUE)[index % 3] for index in range(count)]
    path = write(tmp_path / 'film.mp4', [picture(48, 64, color) for color in colors])
    frames, frame_rate_hz = read(path)
    assert len(frames) == count
    assert frame_rate_hz == pytest.approx(10)
    for frame, color in zip(frames, colors, strict=True):
        assert frame.shape == (48, 64, 3)
        assert np.abs(frame.reshape(-1, 3).mean(axis=0) - color).max() < 10


def test_pictures_are_upright(tmp_path: Path) -> None:
    image = picture(48, 64, RED)
    image[:24, 32:], image[24:, :32], image[24:, 32:] = GREEN, BLUE, (230, 230, 230)
    frame = read(write(tmp_path / 'film.mp4', [image, image]))[0][1]
    for row, column in ((12, 16), (12, 48), (36, 16), (36, 48)):
        assert np.abs(frame[row, column].astype(int) - image[row, column]).max() < 15


def test_players_can_open_it(tmp_path: Path) -> None:
    with av.open(str(write(tmp_path / 'film.mp4', [picture(48, 64)] * 3))) as container:
        stream = container.streams.video[0]
        assert container.format.name.startswith('mov,mp4')
        assert stream.codec_context.name == 'h264'
        assert stream.codec_context.pix_fmt == 'yuv420p'


@pytest.mark.parametrize(
    ('image_hw', 'film_hw'),
    [((49, 65), (48, 64)), ((48, 65), (48, 64)), ((1, 1), (2, 2)), ((1, 5), (2, 4)), ((721, 33), (720, 32))],
)
def test_odd_sizes_lose_a_row_or_column(image_hw: tuple[int, int], film_hw: tuple[int, int], tmp_path: Path) -> None:
    frames, _ = read(write(tmp_path / 'film.mp4', [picture(*image_hw)] * 2))
    assert [frame.shape for frame in frames] == [(*film_hw, 3)] * 2


def test_the_first_picture_sets_the_size(tmp_path: Path) -> None:
    pictures = [picture(48, 64), picture(96, 20, GREEN), picture(11, 13, BLUE), picture(48, 64)]
    frames, _ = read(write(tmp_path / 'film.mp4', pictures))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    assert np.abs(frames[1].reshape(-1, 3).mean(axis=0) - GREEN).max() < 10


@pytest.mark.parametrize('frame_rate_hz', [0.5, 12.5, 29.97, 30000 / 1001, 60.0])
def test_frame_rate(frame_rate_hz: float, tmp_path: Path) -> None:
    path = write(tmp_path / 'film.mp4', [picture(48, 64)] * 5, frame_rate_hz)
    assert read(path)[1] == pytest.approx(frame_rate_hz, rel=1e-4)
    with av.open(str(path)) as container:
        assert container.duration is not None
        seconds = container.duration / av.time_base
    assert seconds == pytest.approx(5 / frame_rate_hz, rel=0.02)


def test_views_are_written_like_copies(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (48, 100, 3), np.uint8)
    of_view = write(tmp_path / 'view.mp4', [wide[:, :64]])
    of_copy = write(tmp_path / 'copy.mp4', [wide[:, :64].copy()])
    assert np.array_equal(read(of_view)[0][0], read(of_copy)[0][0])


def test_film_without_pictures_is_none(tmp_path: Path) -> None:
    write(tmp_path / 'film.mp4', [picture(48, 64)])
    write(tmp_path / 'film.mp4', [])
    assert not list(tmp_path.iterdir())


def test_a_film_is_replaced_when_the_next_one_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / 'film.mp4', [picture(48, 64)] * 3)
    with VideoWriter(path, 10) as writer:
        for _ in range(100):  # many, since the encoder holds some back
            writer.write(picture(48, 64))
        assert len(read(path)[0]) == 3
    assert len(read(path)[0]) == 100
    assert list(tmp_path.iterdir()) == [path]


def test_old_film_is_written_over(tmp_path: Path) -> None:
    write(tmp_path / 'film.mp4', [picture(48, 64)] * 9)
    write(tmp_path / 'film.mp4', [picture(32, 32)] * 2)
    assert [frame.shape for frame in read(tmp_path / 'film.mp4')[0]] == [(32, 32, 3)] * 2


def write_until_it_fails(path: Path, pictures: list[np.ndarray]) -> None:
    with VideoWriter(path, 10) as writer:
        for image in pictures:
            writer.write(image)
        raise RuntimeError('the camera fell off')


def test_pictures_before_an_error_are_kept(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match='the camera fell off'):
        write_until_it_fails(tmp_path / 'film.mp4', [picture(48, 64)] * 4)
    assert len(read(tmp_path / 'film.mp4')[0]) == 4


def test_a_rate_that_no_film_has_is_the_slowest_there_is(tmp_path: Path) -> None:
    path = write(tmp_path / 'film.mp4', [picture(32, 32)] * 2, frame_rate_hz=1e-5)
    with av.open(str(path)) as film:
        assert film.streams.video[0].average_rate == Fraction(1, 1000)
