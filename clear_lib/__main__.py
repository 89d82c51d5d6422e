"""``python -m clear_lib``."""

from clear_lib.cli import main

raise SystemExit(main())
