"""``python -m brats3d`` is the ``brats3d`` command."""

import sys

from brats3d.cli import main

sys.exit(main())
