"""``python -m gkore``."""

import sys

from gkore.cli import main

sys.exit(main())
