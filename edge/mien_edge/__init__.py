"""mien's edge runtime: camera frames in, emotion readings out, no pixels kept."""

import os

# OpenCV reads this when it loads: a picture of over 100 megapixels would take more memory than a
# small device has.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "100000000")

__version__ = "0.1.0"
