"""python -m mien_deploy"""

import sys

from mien_deploy.cli import main

sys.exit(main())
