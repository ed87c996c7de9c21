"""`python -m allgrad` is the command `allgrad`."""

import sys

from allgrad.cli.main import main

sys.exit(main())
