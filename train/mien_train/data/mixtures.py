"""Pictures mixed of two: a face blended with another, or the upper half of one above the lower half
of another.

What a teacher says of its training pictures is partly what their labels told it. Of a mixture it
has seen no label: what it says there is what it sees, and a student that has to say the same of as
many mixtures as it likes learns more of it (Beyer et al. 2021, "Knowledge distillation: a good
teacher is patient and consistent", https://arxiv.org/abs/2106.05237). Halves that do not belong
together show bared teeth below knitted brows.
"""

from dataclasses import dataclass, fields

import numpy as np

from mien_train.arrays import Array, Doubles, Indices, Mask, Pixels
from mien_train.data.strengths import Augment

_SEAM = (0.375, 0.71)  # of the picture's height: between the eyes' lower edge and the upper lip
_SEAM_SHARPNESS = 1.5  # pixels over which one face becomes the other


@dataclass(frozen=True, eq=False)
class Mixtures:
    """What each of n pictures is mixed with: an array of n rows each.

    partner: the row of the other picture. is_mirrored: whether the other is mirrored first.
    share: of the other in a blend, 0..1. seam: the height, as a share of the picture's, below which
    the other is seen; 1 for none.
    """

    partner: Indices
    is_mirrored: Mask
    share: Doubles
    seam: Doubles

    @property
    def is_mixture(self) -> Mask:
        """(n,): whether a picture shows anything of another."""
        return (self.share > 0) | (self.seam < 1)

    def take(self, rows: Array) -> "Mixtures":
        """Return those of `rows` (indices or a boolean mask)."""
        return Mixtures(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw_mixtures(count: int, augment: Augment, rng: np.random.Generator) -> Mixtures:
    """Draw what each of `count` pictures is mixed with."""
    kind = rng.random(count)
    is_blend = kind < augment.blend
    is_splice = ~is_blend & (kind < augment.blend + augment.splice)
    return Mixtures(
        partner=rng.permutation(count),
        is_mirrored=rng.random(count) < 0.5,
        share=np.where(is_blend, rng.random(count), 0),
        seam=np.where(is_splice, rng.uniform(*_SEAM, count), 1),
    )


def mix(crops: Pixels, others: Pixels, mixtures: Mixtures) -> Pixels:
    """Return (n, s, s) uint8 crops mixed with (n, s, s) others."""
    size = crops.shape[-1]
    mirrored = np.where(mixtures.is_mirrored[:, None, None], others[:, :, ::-1], others)
    below_seam = np.arange(size) - mixtures.seam[:, None] * size
    lower = 1 / (1 + np.exp(-below_seam / _SEAM_SHARPNESS))
    is_splice = mixtures.seam < 1
    share = np.where(is_splice[:, None], lower, mixtures.share[:, None])[:, :, None]
    return np.rint((1 - share) * crops + share * mirrored).astype(np.uint8)
