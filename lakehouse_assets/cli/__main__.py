"""`python -m lakehouse_assets.cli`, where the package's scripts are not on the path."""

import sys

from lakehouse_assets.cli.command import main

sys.exit(main())
