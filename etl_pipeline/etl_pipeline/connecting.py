"""Why a database cannot be reached, in words, with one hint each."""

from __future__ import annotations

import ssl
from pathlib import Path

import psycopg2

from etl_pipeline.errors import ConnectionFailed, Refused
from etl_pipeline.settings import AnalyticsSettings, SourceSettings

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def in_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def explain_source(error: Exception, settings: SourceSettings) -> ConnectionFailed:
    """A failed connection to the source as a sentence and a hint."""
    what = f"connecting to the source {settings.user}@{settings.host}:{settings.port}"
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    cause = getattr(error, "original_exception", None)
    if isinstance(error, ConnectionFailed):
        return error
    if isinstance(error, RuntimeError):
        return Refused(
            f"{what}: the account's sha2 authentication needs the package cryptography",
            "install it, or alter the account to mysql_native_password",
        )
    if isinstance(cause or error, ssl.SSLError) or code == 2026:
        return ConnectionFailed(
            f"{what}: the TLS handshake failed",
            "check OPENDENTAL_SOURCE_SSL_MODE and OPENDENTAL_SOURCE_SSL_CA",
        )
    if code == 1045:
        return Refused(
            f"{what}: the server refused the user or its password",
            "check OPENDENTAL_SOURCE_USER and OPENDENTAL_SOURCE_PASSWORD; an account is bound to"
            " the host it may come from (user@'%')",
        )
    if code in (1044, 1049):
        return Refused(
            f"{what}: database {settings.database} does not exist or may not be read",
            f"check OPENDENTAL_SOURCE_DB, or grant select on {settings.database}.* to the account",
        )
    if code in (1130, 1129):
        return ConnectionFailed(
            f"{what}: the server does not accept this host",
            f"on the server: create user '{settings.user}'@'%' … and grant it select",
        )
    return ConnectionFailed(
        *_unreachable(
            what, settings.host, str(error), "OPENDENTAL_SOURCE_HOST", "bind-address of the source"
        )
    )


def explain_analytics(
    error: psycopg2.OperationalError, settings: AnalyticsSettings
) -> ConnectionFailed:
    """A failed connection to the analytics database as a sentence and a hint."""
    what = f"connecting to the analytics database {settings.user}@{settings.host}:{settings.port}"
    text = str(error)
    if "password authentication failed" in text or "no password supplied" in text:
        return Refused(
            f"{what}: the server refused the user or its password",
            "check POSTGRES_ANALYTICS_USER and POSTGRES_ANALYTICS_PASSWORD",
        )
    if "does not exist" in text:
        return Refused(
            f"{what}: database {settings.database} or the role does not exist",
            "check POSTGRES_ANALYTICS_DB and POSTGRES_ANALYTICS_USER",
        )
    if "no pg_hba.conf entry" in text:
        return Refused(
            f"{what}: the server does not accept this host, user or lack of TLS",
            "add a line to its pg_hba.conf, or set POSTGRES_ANALYTICS_SSLMODE=require",
        )
    if "SSL" in text or "certificate" in text:
        return ConnectionFailed(
            f"{what}: the TLS handshake failed",
            "check POSTGRES_ANALYTICS_SSLMODE and POSTGRES_ANALYTICS_SSLROOTCERT",
        )
    return ConnectionFailed(
        *_unreachable(
            what, settings.host, text, "POSTGRES_ANALYTICS_HOST", "listen_addresses of the server"
        )
    )


def _unreachable(what: str, host: str, text: str, variable: str, listening: str) -> tuple[str, str]:
    low = text.lower()
    if "not known" in low or "translate host" in low or "name resolution" in low:
        return (
            f"{what}: the host name is unknown here",
            f"check {variable}; inside a container, a service's name or host.docker.internal",
        )
    if host in _LOOPBACK and in_container():
        return (
            f"{what}: nothing listens there; inside a container {host} is the container itself",
            f"set {variable}=host.docker.internal; the database must listen on the address that"
            " containers reach, and accept the account from there",
        )
    if "refused" in low:
        return (f"{what}: nothing listens there", f"start the database, check {listening}")
    if "timed out" in low or "timeout" in low:
        return (f"{what}: no answer in time", "check the VPN, the firewall and the host")
    return (f"{what}: the connection failed", f"check {variable} and the port")
