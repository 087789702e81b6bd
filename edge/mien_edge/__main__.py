"""python -m mien_edge"""

from mien_edge.cli import script

script()
