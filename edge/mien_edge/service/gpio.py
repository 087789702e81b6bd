"""What people at the device see and touch: a light that is on whenever the camera is, and a button that pauses it.

Through gpiozero (apt install python3-gpiozero python3-lgpio on Raspberry Pi OS), pins by Broadcom's numbers.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mien_edge.errors import RuntimeMissingError, SettingsError
from mien_edge.settings import GpioSettings


class Panel:
    """Light and button as the settings name them; one that is not named does nothing.

    `alive` is called while the camera is paused, for somebody must know that this is no fault; in the folder `state` a
    pause outlives a restart. Raises RuntimeMissingError without gpiozero, SettingsError for a pin that cannot be used.
    """

    def __init__(
        self, settings: GpioSettings, alive: Callable[[str], None] = lambda text: None, state: Path | None = None
    ) -> None:
        self._alive = alive
        self._kept = state / "paused" if state and settings.button else None
        self._paused = self._kept is not None and self._kept.exists()
        self._light = _made("LED", settings.led) if settings.led else None
        self._button = _made("Button", settings.button, bounce_time=0.05) if settings.button else None
        if self._button is not None:
            self._button.when_pressed = self._toggle

    def _toggle(self) -> None:
        self._paused = not self._paused
        if self._kept is not None:
            with suppress(OSError):
                self._kept.touch() if self._paused else self._kept.unlink(missing_ok=True)

    @property
    def paused(self) -> bool:
        """Whether somebody wants the camera off."""
        return self._paused

    def camera(self, on: bool) -> None:
        """The camera goes on or off, and the light with it."""
        if self._light is not None:
            self._light.value = on

    def on_tick(self) -> None:
        """The camera is still paused."""
        self._alive("paused")

    def close(self) -> None:
        """Light off, pins free."""
        for each in (self._light, self._button):
            if each is not None:
                each.close()


def _made(kind: str, pin: int, **options: Any) -> Any:
    try:
        import gpiozero
    except ImportError:
        hint = "sudo apt install python3-gpiozero python3-lgpio, or set gpio.led and gpio.button to 0"
        raise RuntimeMissingError(f"gpiozero is missing; {hint}") from None
    try:
        return getattr(gpiozero, kind)(pin, **options)
    except Exception as problem:  # gpiozero's pin factories raise what they like
        raise SettingsError(f"gpio: pin {pin} cannot be used ({problem}); see: pinout") from None
