"""The labels, alone, so that a process that only reads the log needs no NumPy."""

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The order of FER2013 (Goodfellow et al. 2013): a model's output i is the logit of LABELS[i]."""
