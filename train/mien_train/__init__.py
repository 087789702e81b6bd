"""mien's training side: pictures of faces in, a verified int8 model bundle out."""

import os

# Set before TensorFlow is imported: it would tell of each instruction set that it knows.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
