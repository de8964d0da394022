"""`python -m etl_pipeline`."""

import sys

from etl_pipeline.cli import main

sys.exit(main())
