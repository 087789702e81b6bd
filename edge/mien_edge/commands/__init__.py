"""What each sub-command of `mien-edge` does, and its options."""
