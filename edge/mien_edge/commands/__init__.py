"""The commands of `mien-edge`: their options, and what they print."""
