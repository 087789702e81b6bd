"""mien's training side: FER2013 in, a verified int8 model bundle out."""

import os

# tensorflow-model-optimization 0.8.1 works on tf_keras only; the variable must be set before
# TensorFlow is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
