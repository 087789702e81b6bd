"""An LED that is on whenever the camera is on, and a button that pauses and resumes the camera.

Both go through gpiozero (apt install python3-gpiozero python3-lgpio on Raspberry Pi OS); pins have
Broadcom's numbers.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mien_edge.errors import RuntimeMissingError, SettingsError
from mien_edge.settings import GpioSettings

_BOUNCE_SECONDS = 0.05  # a button's contacts open and close several times at one press


def _ignore(status: str) -> None:
    """Do nothing."""


class GpioSwitch:
    """The camera's PauseControl at the device: the LED and the button that the settings name.

    ping: called with a status text while the camera is paused, so that systemd's watchdog knows
        that this is no fault.
    state: folder in which a pause outlives a restart; None to forget it.

    Raises RuntimeMissingError without gpiozero, SettingsError for a pin that cannot be used.
    """

    def __init__(
        self,
        settings: GpioSettings,
        ping: Callable[[str], None] = _ignore,
        state: Path | None = None,
    ) -> None:
        self._ping = ping
        self._marker: Path | None = None
        if state is not None and settings.button:
            self._marker = state / "paused"
        self._paused = self._marker is not None and self._marker.exists()
        self._led: Any = None
        self._button: Any = None
        if settings.led:
            self._led = _open_device("LED", settings.led)
        if settings.button:
            self._button = _open_device("Button", settings.button, bounce_time=_BOUNCE_SECONDS)
            self._button.when_pressed = self._on_pressed

    def _on_pressed(self) -> None:
        self._paused = not self._paused
        if self._marker is None:
            return
        with suppress(OSError):
            if self._paused:
                self._marker.touch()
            else:
                self._marker.unlink(missing_ok=True)

    @property
    def paused(self) -> bool:
        """Whether the camera is to be off."""
        return self._paused

    def camera(self, on: bool) -> None:
        """Show on the LED whether the camera is on."""
        if self._led is not None:
            self._led.value = on

    def on_tick(self) -> None:
        """Ping the watchdog; the camera calls it several times a second while it is paused."""
        self._ping("paused")

    def close(self) -> None:
        """Turn the LED off and free the pins."""
        for device in (self._led, self._button):
            if device is not None:
                device.close()


def _open_device(kind: str, pin: int, **options: Any) -> Any:
    """Open a gpiozero device: its class by name, a pin, and the class's own options."""
    try:
        import gpiozero
    except ImportError:
        packages = "sudo apt install python3-gpiozero python3-lgpio"
        fix = f"{packages}, or set gpio.led and gpio.button to 0"
        raise RuntimeMissingError(f"gpiozero is missing; {fix}") from None
    try:
        return getattr(gpiozero, kind)(pin, **options)
    except Exception as problem:  # gpiozero's pin factories raise errors of many libraries
        raise SettingsError(f"gpio: pin {pin} cannot be used ({problem}); see: pinout") from None
