"""From a source's frames to readings: sources, stages and sinks, and the loop that calls them."""
