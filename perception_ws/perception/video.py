"""Write pictures to an MP4 file that browsers and players open (H.264)."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np

_SLOWEST = Fraction(1, 1000)


def _as_rate(hertz: float) -> Fraction:
    # 0 would be taken for a rate that nobody gave.
    return max(Fraction(hertz).limit_denominator(1000), _SLOWEST)


class VideoWriter:
    """Collects (H, W, 3) uint8 RGB pictures; those of another size than the first are resized to it.

    Args:
        path: The MP4 file; replaced when the film is closed, removed if it got no picture.
        frame_rate_hz: Pictures a second in the film, 0.001 at least.
    """

    def __init__(self, path: Path, frame_rate_hz: float) -> None:
        self._path, self._unfinished = path, path.with_name(f'.{path.name}')
        self._container = av.open(str(self._unfinished), 'w')
        self._stream = self._container.add_stream('libx264', rate=_as_rate(frame_rate_hz))
        self._stream.pix_fmt = 'yuv420p'
        self._stream.options = {'crf': '23', 'preset': 'veryfast'}
        self._size: tuple[int, int] | None = None

    def write(self, image_rgb: np.ndarray) -> None:
        height, width = image_rgb.shape[:2]
        if self._size is None:
            # The chroma planes of yuv420p have half the size.
            self._size = max(2, width - width % 2), max(2, height - height % 2)
            self._stream.width, self._stream.height = self._size
        if (width, height) != self._size:
            image_rgb = cv2.resize(image_rgb, self._size)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_rgb), format='rgb24')
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is still in the encoder and the file's index; without it the film does not play."""
        if self._size is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
        if self._size is None:
            self._unfinished.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)
        else:
            self._unfinished.replace(self._path)

    def __enter__(self) -> 'VideoWriter':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
