"""sensor_msgs/Image and CompressedImage fields <-> arrays, without rclpy and without cv_bridge.

Messages are duck-typed: those of rclpy and those of rosbags work alike. The frequent encodings are a view on the
message's bytes; Bayer, YUV and 16-bit ones are converted; what is left goes through cv_bridge where it is installed.
Pictures in files are decoded by the same code as those in messages.
Unlike in cv_bridge, a padded ``step``, the byte order and the data length are honoured or refused, with one error type.

Shape letters: H W rows and columns of the image, C channels.
"""

from perception.image_messages.compressed import (
    CompressedImageFields,
    decode_compressed_image,
    encode_jpeg_fields,
    encode_png_fields,
)
from perception.image_messages.decoded import DecodedImage
from perception.image_messages.depth import holds_depth
from perception.image_messages.headers import picture_kind
from perception.image_messages.picture import MAX_PIXELS, decode_ids, decode_picture
from perception.image_messages.raw import ImageFields, decode_image, encode_image_fields
from perception.interfaces import PixelOrder

__all__ = [
    'MAX_PIXELS',
    'CompressedImageFields',
    'DecodedImage',
    'ImageFields',
    'PixelOrder',
    'decode_compressed_image',
    'decode_ids',
    'decode_image',
    'decode_picture',
    'encode_image_fields',
    'encode_jpeg_fields',
    'encode_png_fields',
    'holds_depth',
    'picture_kind',
]
