"""From tracked faces to readings of this one frame."""

from mien_edge.chain import quality
from mien_edge.chain.detect import gray
from mien_edge.contract import softmax
from mien_edge.events import Quality
from mien_edge.model.bundle import Bundle
from mien_edge.model.interpreter import Classifier
from mien_edge.settings import QualitySettings
from mien_edge.values import Emotion, Face, Frame, Pixels, Reading


class Classify:
    """Crops each face as the card says, and gives its emotion or the reason why there is none."""

    def __init__(self, bundle: Bundle, classifier: Classifier, settings: QualitySettings) -> None:
        self.card, self.classifier, self.settings = bundle.card, classifier, settings

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Reading, ...]:
        """One reading per face; `label` is not settled yet and None."""
        picture = gray(frame.image) if faces else frame.image
        return tuple(self._read(frame, picture, face) for face in faces)

    def _read(self, frame: Frame, picture: Pixels, face: Face) -> Reading:
        verdict, emotion = quality.before_crop(face, self.settings), None
        if verdict == Quality.GOOD:
            patch, box = quality.align_eyes(picture, face) if self.settings.align else (picture, face.box)
            crop = self.card.preprocess(patch, box)
            verdict = quality.after_crop(crop, self.settings)
            emotion = self.emotion(crop) if verdict == Quality.GOOD else None
        return Reading(
            frame.captured_at, frame.index, face.track, face.box, emotion, None, verdict, self.card.id, frame.name
        )

    def emotion(self, crop: Pixels) -> Emotion:
        """Calibrated probabilities of one preprocessed crop."""
        scores = softmax(self.classifier.logits(crop), self.card.calibration.temperature)
        return Emotion(self.card.labels, tuple(float(score) for score in scores))
