"""``python -m clear_lib.study``."""

from clear_lib.study.cli import main

raise SystemExit(main())
