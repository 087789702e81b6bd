"""The page places panels as pictures in files have them: the same cases through both languages."""

import json
import random
import shutil
import subprocess
from importlib import resources

import pytest
from mien_edge.chain.panels import Size, place_panels
from mien_edge.values import Box

PICTURE = Size(640, 480)
GAP = 3
SIZES = [Size(140, 130), Size(60, 24), Size(130.5, 22), Size(30, 18)]
SCRIPT = """(cases) => cases.map(({ faces, sizes, picture, gap }) =>
  placePanels(faces, sizes, picture, gap).map(({ choice, box }) => [choice, box.x, box.y]))"""


@pytest.fixture
def place_on_page(request):
    """Returns places by the page's own script, in node or else in a browser."""
    script = resources.files("mien_edge.view").joinpath("place.js").read_text(encoding="utf-8")
    node = shutil.which("node")
    if node is None:
        page = request.getfixturevalue("chromium").new_page()
        page.add_script_tag(content=script)
        return lambda cases: page.evaluate(SCRIPT, cases)

    def place(cases):
        read = 'JSON.parse(require("fs").readFileSync(0, "utf-8"))'
        program = f"{script}\nconsole.log(JSON.stringify(({SCRIPT})({read})));"
        answer = subprocess.run(
            [node, "-e", program],
            input=json.dumps(cases),
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(answer.stdout)

    return place


def random_faces(seed):
    numbers = random.Random(seed)  # noqa: S311 - no secret
    return [
        Box(numbers.uniform(-30, 620), numbers.uniform(-30, 460), side, side * 1.2)
        for side in numbers.choices([20, 60, 120, 300], k=numbers.randrange(13))
    ]


CASES = [
    [],
    [Box(100, 100, 100, 120)],
    [Box(150, 150, 120, 150), Box(300, 160, 120, 150)],
    [Box(560, 100, 100, 120)],
    [Box(-20, -20, 700, 520)],
    [Box(20 + 150 * column, 120, 140, 170) for column in range(4)],
    [Box(4 + 53 * column, 4 + 53 * row, 50, 50) for row in range(9) for column in range(12)],
    [Box(100, 100, 80, 90), Box(110, 105, 80, 90)],
    [Box(700, 500, 30, 30)],
    *(random_faces(seed) for seed in range(200)),
]


def test_a_panel_on_the_page_goes_where_it_goes_in_a_file(place_on_page):
    cases = [
        {
            "faces": [face._asdict() for face in faces],
            "sizes": [
                [size._asdict() for size in SIZES[number % 4 :]] for number, _ in enumerate(faces)
            ],
            "picture": PICTURE._asdict(),
            "gap": GAP,
        }
        for faces in CASES
    ]
    for faces, on_page in zip(CASES, place_on_page(cases), strict=True):
        sizes = [SIZES[number % 4 :] for number, _ in enumerate(faces)]
        in_file = place_panels(faces, sizes, PICTURE, GAP)
        assert on_page == [[place.choice, place.box.x, place.box.y] for place in in_file], faces
