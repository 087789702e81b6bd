"""crop_correction.py WILD [--faces 1000]: could the emotion network itself say where its face is?

The network stays as it is. Faces of WILD (its table wild.csv says where they are) are cropped
askew: shifted by up to a fifth of a side, up to a fifth larger or smaller, turned by up to 15
degrees. From each of the network's last layers a ridge regression learns to say how, on four fifths
of the pictures; printed is what remains on the others. Nothing is asserted.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from mien_edge.chain import detect, photos
from mien_edge.model.bundle import find_bundle, load_bundle
from mien_edge.values import Box

VIEWS = 3  # of each face
SHIFT = 0.2  # sides of the box; and the logarithm of the scale
DEGREES = 15.0
BORDER = 100  # pixels that are repeated about a picture
RIDGE = 1000.0
LAYERS = 4  # of the network, the last ones


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wild", type=Path)
    parser.add_argument("--faces", type=int, default=1000)
    arguments = parser.parse_args()
    features, errors = samples(arguments.wild, arguments.faces)
    is_train = np.arange(len(errors)) < 0.8 * len(errors)
    test = errors[~is_train]
    show("as cropped", test)
    for layer, values in features.items():
        predicted = ridge(values[is_train], errors[is_train], values[~is_train])
        show(layer, test - predicted)


def samples(wild: Path, count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features by layer, each (n, width), and errors (n, 4): shift x and y, log scale, degrees."""
    rng = np.random.default_rng(0)
    with open(wild / "wild.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    bundle = load_bundle(find_bundle(""))
    network = Interpreter(str(bundle.model), experimental_preserve_all_tensors=True, num_threads=1)
    network.allocate_tensors()
    [entry] = network.get_input_details()
    lengths = {each["index"]: int(np.prod(each["shape"])) for each in network.get_tensor_details()}
    outputs = [each["outputs"][0] for each in network._get_ops_details()]
    layers = [index for index in outputs if 1 < lengths[index] < 5000][-LAYERS:]
    features = defaultdict(list)
    errors = []
    for place in rng.permutation(len(rows))[:count]:
        row = rows[place]
        picture = detect.gray(photos.read_photo(wild / row["file"]))
        picture = cv2.copyMakeBorder(picture, *[BORDER] * 4, cv2.BORDER_REPLICATE)
        box = Box(*(float(row[key]) for key in ("x", "y", "width", "height")))
        for _ in range(VIEWS):
            error = rng.uniform(-1, 1, 4) * (SHIFT, SHIFT, SHIFT, DEGREES)
            crop = askew(picture, box._replace(x=box.x + BORDER, y=box.y + BORDER), error)
            pixels = bundle.card.preprocess(*crop)
            network.set_tensor(entry["index"], pixels.reshape(entry["shape"]))
            network.invoke()
            for index in layers:
                name = f"layer with {lengths[index]:,} values"
                features[name].append(network.get_tensor(index).astype(np.float64).ravel())
            errors.append(error)
    return {name: np.array(rows) for name, rows in features.items()}, np.array(errors)


def askew(picture: np.ndarray, box: Box, error: np.ndarray) -> tuple[np.ndarray, Box]:
    """A picture turned about a face, and a box that is not where the face is."""
    dx, dy, log_scale, degrees = error
    height, width = picture.shape
    turn = cv2.getRotationMatrix2D(box.centre, degrees, 1.0)
    side = max(box.width, box.height)
    scale = np.exp(log_scale)
    x, y = box.centre
    shifted = Box(
        x + dx * side - box.width * scale / 2,
        y + dy * side - box.height * scale / 2,
        box.width * scale,
        box.height * scale,
    )
    turned = cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return turned, shifted


def ridge(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predictions for `test` of a linear model of standardized features."""
    mean = train.mean(axis=0)
    deviation = train.std(axis=0) + 1e-3
    train = (train - mean) / deviation
    test = (test - mean) / deviation
    kernel = train @ train.T + RIDGE * np.eye(len(train))
    weights = train.T @ np.linalg.solve(kernel, targets - targets.mean(axis=0))
    return test @ weights + targets.mean(axis=0)


def show(name: str, errors: np.ndarray) -> None:
    """Print what remains of an error."""
    x, y, log_scale, degrees = np.sqrt((errors**2).mean(axis=0))
    median, low = np.percentile([overlap(error) for error in errors], (50, 5))
    print(  # noqa: T201
        f"{name:<26} shift {x:.3f} {y:.3f} sides, log scale {log_scale:.3f}, "
        f"{degrees:4.1f} degrees; IoU median {median:.3f}, 5 % {low:.3f}"
    )


def overlap(error: np.ndarray) -> float:
    """IoU of a square box with the one that has this error."""
    scale = float(np.exp(error[2]))
    shifted = Box(0.5 + error[0] - scale / 2, 0.5 + error[1] - scale / 2, scale, scale)
    return Box(0, 0, 1, 1).iou(shifted)


if __name__ == "__main__":
    main()
