"""Questions on a terminal."""

import sys
from pathlib import Path

from mien_edge import files

from mien_train.data import label_map
from mien_train.data.layouts.recognize import read_layout


def ask_labels(path: Path, answers: Path) -> Path | None:
    """Ask what the unknown words are that photographs are labelled with, and write the answers as a
    label map, which the next command can be given.

    path: a folder or manifest of photographs. answers: the file to write. Returns it, or None where
    there was nothing to ask. Raises DataError for a layout that is malformed.
    """
    layout = read_layout(path, label_map.known_words())
    words = [picture.label for picture in layout.pictures if picture.label]
    unknown = label_map.unknown_words(words, {})
    if not unknown or len(unknown) == len(set(words)):
        return None
    lines = ["word,label"]
    for word in unknown:
        label = _ask(word, words.count(word))
        lines.append(f'"{word.replace(chr(34), chr(34) * 2)}",{label}')
    files.write_text(answers, "\n".join(lines) + "\n")
    sys.stderr.write(f"answers: {answers}; give them again with: --label-map {answers}\n")
    return answers


def _ask(word: str, count: int) -> str:
    """Return a label, or an empty string for one that is left out; ask until it is either."""
    question = f"{count} pictures are labelled {word!r}; which label is that (empty: leave out)? "
    while True:
        sys.stderr.write(question)
        sys.stderr.flush()
        try:
            return label_map.check_label(sys.stdin.readline().strip(), 1)
        except ValueError as problem:
            sys.stderr.write(f"{str(problem).removeprefix('line 1: ')}\n")
