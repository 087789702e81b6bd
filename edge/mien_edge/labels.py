"""The labels, alone, so that who only reads the log needs no NumPy. Part of the contract: `contract.LABELS`."""

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The order of FER2013 (Goodfellow et al. 2013): a model's output i is the logit of LABELS[i]."""
