"""`python -m fsm.cli` is `fsm`."""

from __future__ import annotations

import sys

from . import main

sys.exit(main())
