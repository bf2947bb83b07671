"""``python -m gkore.acme LINE CHALLENGES DIRECTORY``: three descriptors of the master's; see ``life``."""

import sys

from gkore.acme.life import run

run(*map(int, sys.argv[1:]))
