"""Reading annotations: what is really in an image, out of the files of a data set.

The readers of training data and the judgement of recordings share these, so that both mean the same by a class id.
"""

from perception.truth.camvid import CamVidAnnotations
from perception.truth.cityscapes import CityscapesAnnotations
from perception.truth.coco import CocoAnnotations
from perception.truth.pascal_voc import VocAnnotations

__all__ = ['CamVidAnnotations', 'CityscapesAnnotations', 'CocoAnnotations', 'VocAnnotations']
