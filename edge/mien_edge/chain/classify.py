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
    """Crops each face as the card says, and gives its emotion or the reason why there is none.

    bundle: its card says how a face is cropped, how logits become probabilities, and its name.
    classifier: runs the bundle's model.
    settings: which faces are good enough.
    """

    def __init__(self, bundle: Bundle, classifier: Classifier, settings: QualitySettings) -> None:
        self.card = bundle.card
        self.classifier = classifier
        self.settings = settings

    def __call__(self, frame: Frame, faces: tuple[Face, ...]) -> tuple[Reading, ...]:
        """One reading per face, in their order; its `label` is None, for it is not settled yet."""
        if not faces:
            return ()
        picture = gray(frame.image)
        return tuple(self._read(frame, picture, face) for face in faces)

    def _read(self, frame: Frame, picture: Pixels, face: Face) -> Reading:
        verdict, emotion = self._judge(picture, face)
        return Reading(
            time=frame.captured_at,
            frame=frame.index,
            track=face.track,
            box=face.box,
            emotion=emotion,
            label=None,
            quality=verdict,
            model=self.card.id,
            source=frame.name,
            position=frame.position,
        )

    def _judge(self, picture: Pixels, face: Face) -> tuple[Quality, Emotion | None]:
        verdict = quality.before_crop(face, self.settings)
        if verdict != Quality.GOOD:
            return verdict, None
        crop = self._crop(picture, face)
        verdict = quality.after_crop(crop, self.settings)
        if verdict != Quality.GOOD:
            return verdict, None
        return verdict, self.emotion(crop)

    def _crop(self, picture: Pixels, face: Face) -> Pixels:
        if not self.settings.align:
            return self.card.preprocess(picture, face.box)
        patch, box = quality.align_eyes(picture, face)
        return self.card.preprocess(patch, box)

    def emotion(self, crop: Pixels) -> Emotion:
        """Calibrated probabilities of one preprocessed crop: gray uint8, of the card's size."""
        scores = softmax(self.classifier.logits(crop), self.card.calibration.temperature)
        return Emotion(self.card.labels, tuple(float(score) for score in scores))
