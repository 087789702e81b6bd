"""Every error a user can cause or meet.

Each message says what to do next; the CLI prints it as one line.
"""


class MienError(Exception):
    """Root of all errors of the kit."""


class ContractError(MienError, ValueError):
    """A card or a model that breaks the contract between training and device."""


class BundleError(MienError, ValueError):
    """A model bundle that is missing, incomplete, altered or computes something else than its
    golden vectors.
    """


class SettingsError(MienError, ValueError):
    """A setting that is unknown, of the wrong type or out of range."""


class SourceError(MienError, OSError):
    """A camera, file or stream that cannot be read."""


class FrameError(SourceError):
    """One frame that a camera failed to deliver or that cannot be decoded; the next may be good."""


class SinkError(MienError, OSError):
    """A place for readings that cannot be written."""


class PublishError(MienError, OSError):
    """The MQTT broker cannot be reached or refuses, or the settings for it are wrong."""


class RuntimeMissingError(MienError, ImportError):
    """A package that this device lacks."""


class DataError(MienError, ValueError):
    """Training data that is malformed."""


class RunError(MienError, RuntimeError):
    """A step of a training run that cannot start or go on."""


class DeployError(MienError, OSError):
    """A device that cannot be reached or refuses what it is sent."""
