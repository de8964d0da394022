"""Settings from environment variables; an empty value counts as unset.

All problems are collected and reported together, never the value of a variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from etl_pipeline.errors import SettingsError

SSL_MODES = ("disabled", "preferred", "required", "verify-ca", "verify-identity")
PG_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
ENVIRONMENTS = ("demo", "local", "clinic")
DBT_TARGETS = ("local", "clinic")
OVERRIDES = Path(__file__).resolve().parents[1] / "overrides.yml"


@dataclass(frozen=True)
class SourceSettings:
    """How to reach OpenDental's database; the account must be read-only.

    `bytes_per_second` is what all connections of a run together may take; None = no limit.
    """

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    ssl_mode: str = "preferred"
    ssl_ca: str | None = None
    bytes_per_second: int | None = None


@dataclass(frozen=True)
class AnalyticsSettings:
    """How to reach the analytics Postgres; `schema` receives the raw tables."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    sslmode: str = "prefer"
    sslrootcert: str | None = None
    schema: str = "raw"


@dataclass(frozen=True)
class Settings:
    """Everything this package reads from its surroundings."""

    source: SourceSettings
    analytics: AnalyticsSettings
    environment: str = "demo"
    allow_business_hours_override: bool = False
    dbt_target: str = "local"
    overrides: Path = OVERRIDES

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read `environ` (usually `os.environ`).

        Raises:
            SettingsError: naming every missing or malformed variable at once.
        """
        reader = EnvReader(environ)
        megabytes = reader.number("OPENDENTAL_SOURCE_MAX_MB_PER_SECOND", 0, 0, 10_000)
        settings = cls(
            source=SourceSettings(
                host=reader.text("OPENDENTAL_SOURCE_HOST", "mysql"),
                port=reader.port("OPENDENTAL_SOURCE_PORT", 3306),
                database=reader.text("OPENDENTAL_SOURCE_DB", "opendental"),
                user=reader.required("OPENDENTAL_SOURCE_USER"),
                password=reader.required("OPENDENTAL_SOURCE_PASSWORD"),
                ssl_mode=reader.choice("OPENDENTAL_SOURCE_SSL_MODE", "preferred", SSL_MODES),
                ssl_ca=reader.optional("OPENDENTAL_SOURCE_SSL_CA"),
                bytes_per_second=megabytes * 1_000_000 or None,
            ),
            analytics=AnalyticsSettings(
                host=reader.text("POSTGRES_ANALYTICS_HOST", "postgres"),
                port=reader.port("POSTGRES_ANALYTICS_PORT", 5432),
                database=reader.text("POSTGRES_ANALYTICS_DB", "opendental_analytics"),
                user=reader.required("POSTGRES_ANALYTICS_USER"),
                password=reader.required("POSTGRES_ANALYTICS_PASSWORD"),
                sslmode=reader.choice("POSTGRES_ANALYTICS_SSLMODE", "prefer", PG_SSL_MODES),
                sslrootcert=reader.optional("POSTGRES_ANALYTICS_SSLROOTCERT"),
                schema=reader.text("POSTGRES_ANALYTICS_SCHEMA", "raw"),
            ),
            environment=reader.choice("ETL_ENVIRONMENT", "demo", ENVIRONMENTS),
            allow_business_hours_override=reader.flag("ETL_ALLOW_BUSINESS_HOURS_OVERRIDE"),
            dbt_target=reader.choice("DBT_TARGET", "local", DBT_TARGETS),
            overrides=Path(reader.text("ETL_OVERRIDES", str(OVERRIDES))),
        )
        reader.finish()
        return settings


class EnvReader:
    """Reads variables and remembers what was wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._problems: list[str] = []

    def optional(self, name: str) -> str | None:
        return self._environ.get(name) or None

    def text(self, name: str, default: str) -> str:
        return self.optional(name) or default

    def required(self, name: str) -> str:
        value = self.optional(name)
        if value is None:
            self._problems.append(f"{name} is not set")
        return value or ""

    def port(self, name: str, default: int) -> int:
        return self.number(name, default, 1, 65535)

    def number(self, name: str, default: int, low: int, high: int) -> int:
        text = self.text(name, str(default))
        if text.isascii() and text.isdigit() and low <= int(text) <= high:
            return int(text)
        self._problems.append(f"{name} is not a number from {low} to {high}")
        return default

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in choices:
            self._problems.append(f"{name} is none of {', '.join(choices)}")
        return value

    def flag(self, name: str) -> bool:
        return self.choice(name, "false", ("true", "false")) == "true"

    def finish(self) -> None:
        if self._problems:
            raise SettingsError(
                f"reading the settings: {'; '.join(self._problems)}",
                "set the variables in .env (see .env.template)",
            )
