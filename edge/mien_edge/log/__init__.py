"""The on-device log: one process writes it, any number read it."""
