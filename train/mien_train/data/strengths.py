"""How strongly pictures are augmented: a part of a recipe, apart from what needs OpenCV."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Augment:
    """Strengths; 0 (or 0.0) turns each off.

    flip: probability of a mirror image. rotate: at most so many degrees. scale: at most this share
    larger or smaller.
    shift: at most so many pixels. device: probability that the picture is cropped as the real
    detector crops it.
    brightness: at most so many gray levels. contrast: at most this share more or less. gamma: at
    most this share more or less. blur: probability of a Gaussian blur of 0.5 to 1.5 pixels. shrink:
    probability that the picture is reduced by up to 2.5 and enlarged again, as a far face is.
    noise: greatest standard deviation in gray levels.
    jpeg: probability of JPEG compression at quality 15 to 60.
    erase: probability that a rectangle of 4 to 18 pixels a side is filled with noise (Zhong et al.
    2017).
    mixup: alpha of the beta distribution that blends two rows (Zhang et al. 2017).
    blend, splice: shares of the pictures of a teacher's views that are mixed with another before
    the teacher sees them, evenly or at a seam below the eyes; see mixtures.py.
    """

    flip: float = 0.5
    rotate: float = 12.0
    scale: float = 0.15
    shift: float = 3.0
    brightness: float = 20.0
    contrast: float = 0.2
    blur: float = 0.1
    noise: float = 6.0
    erase: float = 0.3
    mixup: float = 0.2
    device: float = 0.0
    gamma: float = 0.0
    shrink: float = 0.0
    jpeg: float = 0.0
    blend: float = 0.0
    splice: float = 0.0


OFF = Augment(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
