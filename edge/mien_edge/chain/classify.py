"""From tracked faces to readings of this one frame."""

from mien_edge.chain import quality
from mien_edge.chain.detect import gray
from mien_edge.contract import needed_pixels, softmax
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
        image = gray(frame.image) if self.settings.align else frame.image
        return tuple(self._read(frame, image, face) for face in faces)

    def _read(self, frame: Frame, image: Pixels, face: Face) -> Reading:
        verdict, emotion = self._judge(image, face)
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

    def _judge(self, image: Pixels, face: Face) -> tuple[Quality, Emotion | None]:
        verdict = quality.before_crop(face, self.settings)
        if verdict != Quality.GOOD:
            return verdict, None
        crop = self._crop(image, face)
        verdict = quality.after_crop(crop, self.settings)
        if verdict != Quality.GOOD:
            return verdict, None
        return verdict, self.emotion(crop)

    def _crop(self, image: Pixels, face: Face) -> Pixels:
        """The network's pixels of one face; of the image only what they are made of turns gray."""
        preprocess = self.card.preprocess
        if self.settings.align:
            patch, box = quality.align_eyes(image, face)
            return preprocess(patch, box)
        square = preprocess.square(face.box)
        rows, columns = needed_pixels(square, image.shape)
        patch = gray(image[rows, columns])
        square = square._replace(x=square.x - columns.start, y=square.y - rows.start)
        return preprocess.normalize(preprocess.cropped(patch, square))

    def emotion(self, crop: Pixels) -> Emotion:
        """Calibrated probabilities of one preprocessed crop: gray uint8, of the card's size."""
        scores = softmax(self.classifier.logits(crop), self.card.calibration.temperature)
        return Emotion(self.card.labels, tuple(scores.tolist()))
