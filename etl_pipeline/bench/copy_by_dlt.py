"""The copy as dlt's documentation writes it: sql_database with its default backend."""

from __future__ import annotations

import sys

import dlt
from dlt.sources.sql_database import sql_database

dlt.pipeline(pipeline_name="bench", destination="postgres", dataset_name="raw").run(
    sql_database(table_names=sys.argv[1:]), write_disposition="replace"
)
