"""Data sets: read, split, audited, augmented."""
