"""The page with picture, timeline and health."""
