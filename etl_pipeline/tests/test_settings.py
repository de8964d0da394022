"""Settings and rules: no database needed."""

from __future__ import annotations

import pytest

from etl_pipeline import exclusions
from etl_pipeline.errors import SettingsError
from etl_pipeline.settings import Settings
from etl_pipeline.source import writing

COMPLETE = {
    "OPENDENTAL_SOURCE_USER": "reader",
    "OPENDENTAL_SOURCE_PASSWORD": "s3cret-source",
    "POSTGRES_ANALYTICS_USER": "analytics",
    "POSTGRES_ANALYTICS_PASSWORD": "s3cret-analytics",
}


def test_defaults_and_empty_means_unset() -> None:
    settings = Settings.from_env({**COMPLETE, "OPENDENTAL_SOURCE_PORT": "", "ETL_ENVIRONMENT": ""})
    assert (settings.source.host, settings.source.port) == ("mysql", 3306)
    assert (settings.analytics.host, settings.analytics.schema) == ("postgres", "raw")
    assert settings.environment == "demo"
    assert settings.allow_business_hours_override is False


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(
            {"OPENDENTAL_SOURCE_PORT": "33o6", "ETL_ENVIRONMENT": "prod", "DBT_TARGET": "x"}
        )
    for name in (*COMPLETE, "OPENDENTAL_SOURCE_PORT", "ETL_ENVIRONMENT", "DBT_TARGET"):
        assert name in str(caught.value)


def test_passwords_are_not_in_repr() -> None:
    assert "s3cret" not in repr(Settings.from_env(COMPLETE))


@pytest.mark.parametrize(
    ("table", "excluded"),
    [
        ("tmppatient", True), ("tempinsplan_bak_20200424", True), ("Preference", True),
        ("programproperty", True), ("securityloghash", True), ("demo_marker", True),
        ("patient", False), ("userod", False), ("securitylog", False), ("appointment", False),
    ],
)  # fmt: skip
def test_excluded_tables(table: str, excluded: bool) -> None:
    assert (exclusions.table_reason(table) is not None) is excluded


@pytest.mark.parametrize(
    ("table", "column", "excluded"),
    [
        ("userod", "Password", True), ("userod", "UserName", False),
        ("procnote", "Signature", True), ("procnote", "SigIsTopaz", False),
        ("emailaddress", "EmailPassword", True), ("emailaddress", "AccessToken", True),
        ("creditcard", "XChargeToken", True), ("clearinghouse", "Password", True),
        ("userod", "PasswordHash", True), ("patient", "SecurityHash", True),
        ("document", "ChartLetterHash", True), ("patient", "PassportCountry", False),
        ("procedurelog", "ProcFee", False), ("treatplan", "SignatureText", False),
    ],
)  # fmt: skip
def test_excluded_columns(table: str, column: str, excluded: bool) -> None:
    assert (exclusions.column_reason(table, column) is not None) is excluded


@pytest.mark.parametrize(
    ("grants", "privileges"),
    [
        (["GRANT USAGE ON *.* TO `r`@`%`", "GRANT SELECT, SHOW VIEW ON `od`.* TO `r`@`%`"], ()),
        (["GRANT SELECT (`PatNum`, `LName`) ON `od`.`patient` TO `r`@`%`"], ()),
        (["GRANT ALL PRIVILEGES ON *.* TO `r`@`%`"], ("ALL PRIVILEGES",)),
        (["GRANT SELECT, UPDATE, DELETE ON `od`.* TO `r`@`%`"], ("DELETE", "UPDATE")),
        (["GRANT SELECT ON `od`.* TO `r`@`%` WITH GRANT OPTION"], ("GRANT OPTION",)),
    ],
)
def test_grants_that_write(grants: list[str], privileges: tuple[str, ...]) -> None:
    assert writing(iter(grants)) == privileges
