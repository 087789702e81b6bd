"""A small data set that looks like FER2013's file, and can be learnt."""

import numpy as np
from mien_edge.contract import LABELS
from mien_train.data.read import VOTE_OF_LABEL


def picture(label, rng):
    """(48, 48) uint8: a bar whose angle tells the label, in noise."""
    angle = np.pi * label / len(LABELS)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    distance = np.abs(np.cos(angle) * x + np.sin(angle) * y + rng.uniform(-0.1, 0.1))
    return np.clip(60 + 120 * (distance < 0.2) + rng.normal(0, 12, (48, 48)), 0, 255).astype(
        np.uint8
    )


def rows(counts, seed=0):
    """(emotion, pixels, Usage) per row; `counts` maps a usage to rows per label."""
    rng = np.random.default_rng(seed)
    for usage, count in counts.items():
        for index in range(count * len(LABELS)):
            label = index % len(LABELS)
            yield label, picture(label, rng), usage


def write_votes(path, entries, columns=VOTE_OF_LABEL):
    """FER+'s file for those rows: six people agree with the label, two say neutral, two do not know.

    columns: where the six votes for each label stand.
    """
    lines = [
        "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    ]
    for number, (label, _, usage) in enumerate(entries):
        votes = dict.fromkeys(range(10), 0)
        votes[columns[label]] += 6
        votes[0] += 2
        votes[8] += 2
        lines.append(f"{usage},fer{number:07d}.png," + ",".join(str(votes[i]) for i in range(10)))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_csv(path, entries, header="emotion,pixels,Usage"):
    """Write Kaggle's format; returns the path."""
    lines = [header]
    for label, image, usage in entries:
        values = {
            "emotion": str(label),
            "pixels": " ".join(map(str, np.ravel(image))),
            "Usage": usage,
        }
        lines.append(",".join(values[column] for column in header.split(",")))
    path.write_text("\n".join(lines) + "\n")
    return path
