"""python -m mien_edge"""

import sys

from mien_edge.cli import main

sys.exit(main())
