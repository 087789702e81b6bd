"""The web page with picture, timeline and health."""
