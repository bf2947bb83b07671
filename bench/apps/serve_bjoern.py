"""Run an application of wsgi.py on bjoern: `serve_bjoern.py APP PORT`."""

import sys

import bjoern
import wsgi

if __name__ == "__main__":
    bjoern.run(getattr(wsgi, sys.argv[1]), "127.0.0.1", int(sys.argv[2]))
