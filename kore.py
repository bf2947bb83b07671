"""``import kore``: what applications know Kore by; everything lives in ``gkore.api``."""

import sys

from gkore import api

sys.modules[__name__] = api
