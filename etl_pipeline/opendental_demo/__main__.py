"""`python -m opendental_demo`."""

import sys

from opendental_demo.cli import main

sys.exit(main())
