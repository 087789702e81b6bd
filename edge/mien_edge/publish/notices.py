"""What is wrong with publishing, apart from the connection: logged once, kept for the status."""

import logging
from typing import Literal

Subject = Literal["log", "name", "qos", "refused", "retain", "set aside"]
"""What a notice is about."""

_log = logging.getLogger("mien.publish")


class Notices:
    """The latest notice of each subject, until it is withdrawn."""

    def __init__(self) -> None:
        self._texts: dict[Subject, str] = {}
        self._logged: set[tuple[Subject, str]] = set()

    def __contains__(self, subject: Subject) -> bool:
        return subject in self._texts

    def lines(self) -> list[str]:
        """Return all notices, one line each."""
        return list(self._texts.values())

    def tell(self, subject: Subject, text: str, key: str = "") -> bool:
        """Keep a notice, and log it if it is the first of its key; return whether it is.

        key: what is logged once of the subject; empty for the text itself.
        """
        self._texts[subject] = text
        entry = (subject, key or text)
        is_first = entry not in self._logged
        if is_first:
            self._logged.add(entry)
            _log.warning("%s", text)
        return is_first

    def withdraw(self, *subjects: Subject) -> None:
        """Forget the notices of these subjects; they are not logged again."""
        for subject in subjects:
            self._texts.pop(subject, None)

    def end(self, subject: Subject, text: str) -> None:
        """Withdraw a notice, if there is one, and log its end; a later one is logged again."""
        if subject in self._texts:
            del self._texts[subject]
            self._logged = {entry for entry in self._logged if entry[0] != subject}
            _log.warning("%s", text)
