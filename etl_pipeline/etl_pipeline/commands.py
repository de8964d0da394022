"""How a person types the commands that hints name.

Bare, they are Python modules. What a person types instead where they run inside something else, the
installation says: DBT_COMMAND, ETL_COMMAND, NIGHTLY_COMMAND, SQL_COMMAND.
"""

from __future__ import annotations

import os


def typed(variable: str, bare: str, arguments: str = "") -> str:
    """The command that the environment's `variable` names, else `bare`, with `arguments`."""
    return f"{os.environ.get(variable) or bare} {arguments}".rstrip()


def etl(arguments: str = "") -> str:
    """A command of this package: `etl("status")`."""
    return typed("ETL_COMMAND", "python -m etl_pipeline", arguments)


def dbt(arguments: str = "") -> str:
    """dbt, on the project and with the settings of the nights: `dbt("parse")`."""
    return typed("DBT_COMMAND", "dbt", arguments)


def nightly(arguments: str = "") -> str:
    """A run over all tables, as the nights have it: `nightly("--full")`."""
    return typed("NIGHTLY_COMMAND", "python -m etl_pipeline run", arguments)


def sql(statements: str) -> str:
    """Statements for the analytics database, which hold no apostrophe: `sql("drop view v;")`."""
    return typed("SQL_COMMAND", "psql", f"-c '{statements}'")
