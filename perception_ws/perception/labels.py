"""The label spaces: which classes a network knows, with their names and colours.

The paper names 11 segmentation and 3 detection classes of Cityscapes (interdependent paper, Table 1); their ids
are in docs/decisions.md#data-and-scores. Segmentation puts riders with cycles, detection puts them with persons.
Colours are those of Cityscapes where the classes agree.
"""

from perception.interfaces import LabelClass, LabelSpace

CITYSCAPES_11_3 = LabelSpace(
    name='cityscapes_11_3',
    segmentation=(
        LabelClass(name='road', color_rgb=(128, 64, 128)),
        LabelClass(name='traffic sign', color_rgb=(220, 220, 0)),
        LabelClass(name='pedestrian', color_rgb=(220, 20, 60)),
        LabelClass(name='building', color_rgb=(70, 70, 70)),
        LabelClass(name='sky', color_rgb=(70, 130, 180)),
        LabelClass(name='vegetation', color_rgb=(107, 142, 35)),
        LabelClass(name='pole', color_rgb=(153, 153, 153)),
        LabelClass(name='sidewalk', color_rgb=(244, 35, 232)),
        LabelClass(name='fence', color_rgb=(190, 153, 153)),
        LabelClass(name='rider/cycle', color_rgb=(255, 120, 0)),
        LabelClass(name='car/truck/bus', color_rgb=(0, 0, 142)),
    ),
    detection=(
        LabelClass(name='car/truck/bus', color_rgb=(60, 140, 255)),
        LabelClass(name='person/rider', color_rgb=(255, 60, 90)),
        LabelClass(name='bicycle/motorcycle', color_rgb=(255, 190, 0)),
    ),
)

DETECTED_AREAS = {
    'car/truck/bus': ('car/truck/bus',),
    'person/rider': ('pedestrian', 'rider/cycle'),
    'bicycle/motorcycle': ('rider/cycle',),
}
"""Which segmentation classes an object of a detection class is made of; the two heads agree where these meet."""
