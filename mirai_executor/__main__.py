"""Lets ``python -m mirai_executor`` be the command line."""

import sys

from .cli import main

sys.exit(main())
