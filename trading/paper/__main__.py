"""`python -m trading.paper`."""

from __future__ import annotations

import sys

from trading.paper.cli import main

sys.exit(main())
