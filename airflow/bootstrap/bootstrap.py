"""Bring an Airflow to the state its installation asks for: schema, roles, users, objects, unpaused
DAGs.

    python bootstrap.py            do what is missing, one line for each thing done
    python bootstrap.py --check    only say what would be done; exit 3 when there is something

It is one process, idempotent, and loud: what cannot be done right is an error before anything is
changed. Passwords come from the environment. The environment is the truth for its accounts: a
password changed in the UI is put back.

Exit codes: 0 done or nothing to do, 1 failed, 2 the settings are wrong, 3 `--check` found something
to do.
"""

# Airflow 2.7.1 has these names where Airflow 3 will not: to be moved with that upgrade.
# ruff: noqa: AIR311

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from airflow.models import DagBag
    from airflow.www.security import ApplessAirflowSecurityManager
    from sqlalchemy.engine import Connection as SqlConnection
    from sqlalchemy.engine import Engine
    from sqlalchemy.orm import Session

HERE = Path(__file__).resolve().parent
# Where the project's packages are: a checkout's mounts, or a host's link to its release.
PROJECT = Path(os.environ.get("PROJECT_ROOT") or "/opt/airflow/dbt_dental_clinic")
PIPELINE_ROLE = "Pipeline"
OPERATOR_ROLE = "Operator"
MEMORY = "bootstrap_unpaused"  # the Variable that remembers which DAGs were unpaused once
LOCK_ID = 0x0A1F_B007
WHOLE_TRACE = 1000
SHORTEST_PASSWORD = 8
PLACEHOLDER = re.compile(
    r"^(<.*>|\$\{.*\}|x+|\*+|.*change[-_ ]?(me|it|this).*|replace.*|your[-_ ].*|todo|"
    r"password|passw0rd|secret|admin|airflow|example|none|null)$",
    re.IGNORECASE,
)
SECTIONS = {"variables": dict, "pools": dict, "connections": dict, "dags": dict, "roles": dict}


class BootstrapError(Exception):
    """What was being done; then, on a line of its own, the hint that mends it. `code` is the exit
    code.
    """

    def __init__(self, doing: str, hint: str, *, code: int = 1) -> None:
        super().__init__(f"{doing}\nhint: {hint}")
        self.code = code


# --- what is asked for: environment and file, before Airflow is even imported ---------------------


@dataclass(frozen=True)
class Account:
    """One user that must exist. `password` never leaves this process but as its hash."""

    username: str
    password: str
    email: str
    role: str
    first_name: str
    last_name: str


def read_accounts(environ: Mapping[str, str]) -> tuple[Account, ...]:
    """The administrator, the account of the command line, and an operator where one is named.
    Raises BootstrapError naming everything that is wrong.
    """
    problems: list[str] = []
    admin, api = (
        environ.get("AIRFLOW_ADMIN_USERNAME") or "",
        environ.get("AIRFLOW_API_USERNAME") or "",
    )
    email = environ.get("AIRFLOW_ADMIN_EMAIL") or ""
    for name, value in (
        ("AIRFLOW_ADMIN_USERNAME", admin),
        ("AIRFLOW_ADMIN_EMAIL", email),
        ("AIRFLOW_API_USERNAME", api),
    ):
        if not value:
            problems.append(f"{name} is not set")
    if admin and admin.lower() == api.lower():
        problems.append(
            "AIRFLOW_API_USERNAME is the administrator's name: the two need different rights"
        )
    operator = environ.get("AIRFLOW_OPERATOR_USERNAME") or ""
    rest = [f"AIRFLOW_OPERATOR_{part}" for part in ("EMAIL", "PASSWORD")]
    if operator and operator.lower() in (admin.lower(), api.lower()):
        problems.append("AIRFLOW_OPERATOR_USERNAME is another account's name")
    if operator and not environ.get(rest[0]):
        problems.append(f"{rest[0]} is not set")
    if not operator and any(environ.get(name) for name in rest):
        problems.append("AIRFLOW_OPERATOR_USERNAME is not set, and there is more of an operator")
    secrets = ["AIRFLOW_ADMIN_PASSWORD", "AIRFLOW_API_PASSWORD", "AIRFLOW__CORE__FERNET_KEY"]
    for name in (*secrets, *(rest[1:] if operator else [])):
        value = environ.get(name) or ""
        if not value:
            problems.append(f"{name} is not set")
        elif PLACEHOLDER.match(value):
            problems.append(f"{name} is still a placeholder")
        elif len(value) < SHORTEST_PASSWORD:
            problems.append(f"{name} is shorter than {SHORTEST_PASSWORD} characters")
    if problems:
        raise BootstrapError(
            "reading the settings: " + "; ".join(problems),
            "set them in .env; `cargo xtask env` writes good ones",
            code=2,
        )
    accounts = (
        Account(
            admin, environ["AIRFLOW_ADMIN_PASSWORD"], email, "Admin", "Airflow", "Administrator"
        ),
        Account(
            api,
            environ["AIRFLOW_API_PASSWORD"],
            f"{api}@localhost",
            PIPELINE_ROLE,
            "Command",
            "Line",
        ),
    )
    if not operator:
        return accounts
    email, password = (environ[name] for name in rest)
    return (*accounts, Account(operator, password, email, OPERATOR_ROLE, "Airflow", "Operator"))


def expand(text: str, environ: Mapping[str, str]) -> str:
    """`text` with ${NAME} and ${NAME:-default} replaced. Raises BootstrapError for a name without
    value or default.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        found = environ.get(name) or default
        if found is None:
            raise BootstrapError(
                f"reading objects.yml: it refers to {name}, which is not set",
                f"set {name} in .env, or give a default: ${{{name}:-…}}",
                code=2,
            )
        return found

    return re.sub(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}", value, text)


def read_objects(path: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """`objects.yml`, checked for shape and expanded. Raises BootstrapError."""

    def walk(node: object) -> Any:  # noqa: ANN401 - YAML
        if isinstance(node, str):
            return expand(node, environ)
        if isinstance(node, dict):
            return {key: walk(child) for key, child in node.items()}
        return [walk(child) for child in node] if isinstance(node, list) else node

    def wrong(what: str) -> BootstrapError:
        return BootstrapError(
            f"reading {path}: {what}", "see the comments in airflow/bootstrap/objects.yml", code=2
        )

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise wrong(str(error.strerror)) from error
    except yaml.YAMLError as error:
        raise wrong(f"not YAML: {error}") from error
    if not isinstance(document, dict) or (unknown := sorted(set(document) - set(SECTIONS))):
        raise wrong(
            f"unknown sections {', '.join(map(str, unknown))}"
            if isinstance(document, dict)
            else "not a mapping"
        )
    for section, kind in SECTIONS.items():
        if not isinstance(document.setdefault(section, kind()) or kind(), kind):
            raise wrong(f"{section} is not a mapping")
        document[section] = document[section] or kind()
    document = walk(document)
    for section, key in (("variables", "value"), ("pools", "slots"), ("connections", "conn_type")):
        for name, body in document[section].items():
            if not isinstance(body, dict) or key not in body:
                raise wrong(f"{section}.{name} has no {key}")
    for role, lines in document["roles"].items():
        for line in lines:
            if " on " not in line:
                raise wrong(f"roles.{role}: {line!r} is not «action on resource»")
    for role, name in (
        (PIPELINE_ROLE, "AIRFLOW_API_USERNAME"),
        (OPERATOR_ROLE, "AIRFLOW_OPERATOR_USERNAME"),
    ):
        if role not in document["roles"] and environ.get(name):
            raise wrong(f"roles.{role} is missing, the role of {name}")
    of_host(document, environ)
    return document


def of_host(document: dict[str, Any], environ: Mapping[str, str]) -> None:
    """What deploy.toml says of this host wins over `document`: BOOTSTRAP_VARIABLES, an object of
    texts, and BOOTSTRAP_DAGS, the ids of the active DAGs. Raises BootstrapError.
    """
    try:
        variables = json.loads(environ.get("BOOTSTRAP_VARIABLES") or "{}")
        if not all(isinstance(value, str) for value in variables.values()):
            raise ValueError
    except (ValueError, AttributeError) as error:
        raise BootstrapError(
            "reading BOOTSTRAP_VARIABLES: it is no object of texts",
            "deploy writes it, from [hosts.NAME.variables] of deploy.toml",
            code=2,
        ) from error
    for key, value in variables.items():
        document["variables"][key] = {**document["variables"].get(key, {}), "value": value}
    if dags := (environ.get("BOOTSTRAP_DAGS") or "").split():
        document["dags"]["active"] = dags


# --- the plan: what is missing, in words, with the deed behind them -------------------------------


@dataclass(frozen=True)
class Action:
    """One thing to do: the line that says so, and the deed."""

    line: str
    run: Callable[[], None]


class Bootstrap:
    """Observe, say, do. Holds what was asked for and the database it is asked of."""

    def __init__(
        self,
        accounts: tuple[Account, ...],
        objects: Mapping[str, Any],
        *,
        check: bool,
        say: Callable[[str], None],
    ) -> None:
        self.accounts, self.objects, self.check, self.say = accounts, objects, check, say
        self.actions = 0

    def carry_out(self, actions: Iterator[Action]) -> None:
        """Say each action, and do it unless only checking."""
        for action in actions:
            self.actions += 1
            if not self.check:
                action.run()
            self.say(f"would {action.line}" if self.check else action.line)

    def run(self, engine: Engine, bag: DagBag) -> None:
        """All of it: the schema first, because the rest is observed in it."""
        from airflow.utils.session import create_session

        with locked(engine) as connection:
            check_fernet(connection)
            migration = list(self.migration(connection))
            self.carry_out(iter(migration))
            if migration and self.check:
                self.say("would then look at roles, users, objects and DAGs in the new schema")
                return
            with create_session() as session:
                from airflow.www.security import ApplessAirflowSecurityManager

                manager = ApplessAirflowSecurityManager(session=session)
                self.carry_out(self.standard_roles(manager, migrated=bool(migration)))
                self.carry_out(self.dags(session, bag))
                self.carry_out(self.custom_roles(manager))
                self.carry_out(self.users(session, manager))
                self.carry_out(self.variables(session))
                self.carry_out(self.pools(session))
                self.carry_out(self.connections(session))
                self.carry_out(self.unpausing(session))

    def migration(self, connection: SqlConnection) -> Iterator[Action]:
        """The schema at this Airflow's revision. An unknown revision is a database from a newer
        Airflow: an error.
        """
        from airflow.utils.db import _get_script_object, upgradedb
        from alembic.runtime.migration import MigrationContext
        from alembic.util import CommandError

        present = MigrationContext.configure(connection).get_current_revision()
        script = _get_script_object()
        head = script.get_current_head()
        if present == head:
            return
        if present is not None:
            try:
                script.get_revision(present)
            except CommandError as error:
                raise BootstrapError(
                    f"looking at the metadata database: its revision {present} is unknown"
                    f" to this Airflow (head {head})",
                    "a newer Airflow migrated it: run that image,"
                    " or restore the backup taken before the upgrade",
                ) from error
        connection.execute("commit")  # alembic's locks need ours to hold no table
        line = f"migrate the metadata database from {present or 'empty'} to {head}"
        yield Action(line, lambda: upgradedb(reserialize_dags=False))

    def standard_roles(
        self, manager: ApplessAirflowSecurityManager, *, migrated: bool
    ) -> Iterator[Action]:
        """Airflow's own roles. The webserver keeps them complete; here they only have to exist, and
        follow a migration.
        """
        names = {role.name for role in manager.get_all_roles()}
        wanted = {config["role"] for config in manager.ROLE_CONFIGS}
        if migrated or wanted - names:
            yield Action("create Airflow's standard roles", manager.sync_roles)

    def custom_roles(self, manager: ApplessAirflowSecurityManager) -> Iterator[Action]:
        """The roles of the file with exactly the permissions it names: missing ones are given,
        others taken away.
        """
        for name, lines in self.objects["roles"].items():
            wanted = {tuple(line.split(" on ", 1)) for line in lines}
            role = manager.find_role(name)
            held = {(p.action.name, p.resource.name): p for p in role.permissions} if role else {}
            missing = sorted(wanted - set(held))

            def give(name: str = name, pairs: Sequence[tuple[str, str]] = tuple(missing)) -> None:
                for action, resource in pairs:
                    permission = manager.create_permission(action, resource)
                    manager.add_permission_to_role(manager.find_role(name), permission)

            if role is None:

                def create(name: str = name, give: Callable[[], None] = give) -> None:
                    _must(manager.add_role(name), f"creating role {name}")
                    give()

                yield Action(f"create the role {name} with {len(missing)} permissions", create)
                continue
            for action, resource in missing:
                yield Action(
                    f"give the role {name} «{action} on {resource}»",
                    partial(give, pairs=((action, resource),)),
                )
            for pair in sorted(set(held) - wanted):

                def take(name: str = name, permission: Any = held[pair]) -> None:  # noqa: ANN401
                    manager.remove_permission_from_role(manager.find_role(name), permission)

                yield Action(
                    f"take from the role {name} «{pair[0]} on {pair[1]}»:"
                    " objects.yml does not give it",
                    take,
                )

    def users(self, session: Session, manager: ApplessAirflowSecurityManager) -> Iterator[Action]:
        """The accounts, with the role and the password that are asked for. Others are a person's
        business.
        """
        from sqlalchemy import func
        from werkzeug.security import check_password_hash, generate_password_hash

        for account in self.accounts:
            model = manager.user_model
            user = (
                session.query(model)
                .filter(func.lower(model.username) == account.username.lower())
                .one_or_none()
            )
            if user is None:

                def create(account: Account = account) -> None:
                    role = manager.find_role(account.role)
                    made = manager.add_user(
                        account.username,
                        account.first_name,
                        account.last_name,
                        account.email,
                        role,
                        account.password,
                    )
                    _must(made, f"creating the user {account.username}")

                yield Action(f"create the user {account.username} ({account.role})", create)
                continue
            # The administrator may hold more roles; the others hold their one role and no more.
            names = {role.name for role in user.roles}
            alone = account.role in (PIPELINE_ROLE, OPERATOR_ROLE)
            if account.role not in names or (alone and len(names) > 1):

                def assign(user: Any = user, account: Account = account) -> None:  # noqa: ANN401
                    user.roles = [manager.find_role(account.role)]
                    session.commit()

                yield Action(f"give the user {account.username} the role {account.role}", assign)
            if not user.is_active:

                def activate(user: Any = user) -> None:  # noqa: ANN401
                    user.active = True
                    session.commit()

                yield Action(f"activate the user {account.username}", activate)
            if not check_password_hash(user.password or "", account.password):

                def change(user: Any = user, account: Account = account) -> None:  # noqa: ANN401
                    user.password = generate_password_hash(account.password)
                    user.fail_login_count = 0
                    session.commit()

                yield Action(
                    f"set the password of {account.username} to that of the environment", change
                )

    def variables(self, session: Session) -> Iterator[Action]:
        """Variables of the file, where absent. A different value is a person's: kept, and said."""
        from airflow.models import Variable

        for key, body in self.objects["variables"].items():
            value = str(body["value"])
            present = session.query(Variable).filter(Variable.key == key).one_or_none()
            if present is None:

                def create(
                    key: str = key, value: str = value, body: Mapping[str, Any] = body
                ) -> None:
                    Variable.set(key, value, description=body.get("description"), session=session)
                    session.commit()

                yield Action(f"create the variable {key} = {value}", create)
            elif present.get_val() != value:
                self.say(
                    f"kept the variable {key}: it is not {value},"
                    " which objects.yml, the environment or deploy.toml say"
                )

    def pools(self, session: Session) -> Iterator[Action]:
        """Pools of the file, where absent."""
        from airflow.models import Pool

        for name, body in self.objects["pools"].items():
            present = session.query(Pool).filter(Pool.pool == name).one_or_none()
            if present is None:

                def create(name: str = name, body: Mapping[str, Any] = body) -> None:
                    Pool.create_or_update_pool(
                        name=name,
                        slots=int(body["slots"]),
                        description=body.get("description", ""),
                        include_deferred=bool(body.get("include_deferred", False)),
                        session=session,
                    )
                    session.commit()

                yield Action(f"create the pool {name} with {body['slots']} slots", create)
            elif present.slots != int(body["slots"]):
                self.say(
                    f"kept the pool {name}: it has {present.slots} slots,"
                    f" objects.yml says {body['slots']}"
                )

    def connections(self, session: Session) -> Iterator[Action]:
        """Connections of the file, where absent. Their values are never compared or said: they are
        secrets.
        """
        from airflow.models import Connection

        for conn_id, body in self.objects["connections"].items():
            if session.query(Connection.id).filter(Connection.conn_id == conn_id).first() is None:

                def create(conn_id: str = conn_id, body: Mapping[str, Any] = body) -> None:
                    fields = dict(body)
                    if isinstance(fields.get("extra"), dict):
                        fields["extra"] = json.dumps(fields["extra"])
                    session.add(Connection(conn_id=conn_id, **fields))
                    session.commit()

                yield Action(f"create the connection {conn_id} ({body['conn_type']})", create)

    def dags(self, session: Session, bag: DagBag) -> Iterator[Action]:
        """The rows of the DAGs, so that a DAG can be unpaused and its permissions mean something
        before the scheduler.
        """
        from airflow.models.serialized_dag import SerializedDagModel

        known = {row.dag_id for row in session.query(SerializedDagModel.dag_id)}
        if missing := sorted(set(bag.dags) - known):

            def sync() -> None:
                bag.sync_to_db(session=session)
                session.commit()
                _no_import_errors(bag)

            yield Action(f"register the DAGs {', '.join(missing)}", sync)

    def unpausing(self, session: Session) -> Iterator[Action]:
        """Unpause each active DAG once, ever. That it was done is remembered in the same
        transaction.
        """
        from airflow.models import DagModel, Variable

        remembered = session.query(Variable).filter(Variable.key == MEMORY).one_or_none()
        once = set(json.loads(remembered.get_val() or "[]")) if remembered else set()
        for dag_id in self.objects["dags"].get("active") or []:
            if dag_id in once:
                continue
            once.add(dag_id)

            def unpause(dag_id: str = dag_id, memory: str = json.dumps(sorted(once))) -> None:
                session.query(DagModel).filter(DagModel.dag_id == dag_id).update(
                    {"is_paused": False}
                )
                row = session.query(Variable).filter(Variable.key == MEMORY).one_or_none()
                if row is None:
                    row = Variable(
                        key=MEMORY,
                        description="DAGs that airflow-init has unpaused; it never does so again",
                    )
                    session.add(row)
                row.set_val(memory)
                session.commit()

            yield Action(f"unpause the DAG {dag_id}", unpause)


# --- what must hold before anything is changed ----------------------------------------------------


def connect(seconds: float, say: Callable[[str], None]) -> Engine:
    """An engine of our own on the metadata database, once it answers. Raises BootstrapError."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.pool import NullPool

    from airflow import settings

    url = settings.engine.url
    where = f"{url.database} at {url.host}:{url.port or 5432}"
    if url.get_backend_name() != "postgresql":
        raise BootstrapError(
            f"looking at the settings: the metadata database is {url.get_backend_name()},"
            " not PostgreSQL",
            "set AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
            code=2,
        )
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            with engine.connect() as connection:
                connection.execute("select 1")
            return engine
        except OperationalError as error:
            reason = str(error.orig).strip().splitlines()[-1]
            # What waiting does not mend: wrong password, no such role or database.
            final = any(
                word in reason
                for word in ("authentication failed", "does not exist", "no pg_hba.conf entry")
            )
            if final or time.monotonic() >= deadline:
                raise BootstrapError(
                    f"connecting to the metadata database {where}: {reason}",
                    "is the postgres service up and are its credentials in .env?"
                    " `cargo xtask logs postgres`",
                ) from None
            if not told:
                say(f"waiting for the metadata database {where}")
                told = True
            time.sleep(0.5)


@contextmanager
def locked(engine: Engine) -> Iterator[SqlConnection]:
    """A connection that holds the lock of this script: two inits at once take turns."""
    with engine.connect() as connection:
        connection.execute("select pg_advisory_lock(%s)", LOCK_ID)
        yield connection


def check_fernet(connection: SqlConnection) -> None:
    """Every encrypted value in the database opens with the key of the environment. Raises
    BootstrapError, names only.
    """
    from airflow.exceptions import AirflowException
    from airflow.models.crypto import get_fernet
    from cryptography.fernet import InvalidToken

    try:
        fernet = get_fernet()
    except AirflowException as error:
        raise BootstrapError(
            "reading AIRFLOW__CORE__FERNET_KEY: it is no Fernet key",
            "`cargo xtask env` writes a good one",
            code=2,
        ) from error
    queries = {
        "variable": "select key, val from variable where is_encrypted",
        "connection": "select conn_id, password from connection where is_encrypted union all"
        " select conn_id, extra from connection where is_extra_encrypted",
    }
    shut: list[str] = []
    for table, query in queries.items():
        if connection.execute("select to_regclass(%s)", table).scalar() is None:
            continue
        for name, token in connection.execute(query):
            try:
                if token:
                    fernet.decrypt(token.encode())
            except InvalidToken:
                shut.append(f"{table} {name}")
    if shut:
        raise BootstrapError(
            "opening the secrets in the metadata database: AIRFLOW__CORE__FERNET_KEY"
            " is not the key they were made with"
            f" ({', '.join(sorted(set(shut)))})",
            "put the old key back into .env (two keys, «new,old», rotate it); nothing was changed",
        )


def load_dags(active: list[str]) -> DagBag:
    """The DAG files, parsed. Raises BootstrapError for any import error and for an active DAG that
    is not there.
    """
    from airflow.models import DagBag

    # Airflow logs each traceback; it is told once, in the error below.
    logging.getLogger("airflow.models.dagbag.DagBag").setLevel(logging.CRITICAL)
    bag = DagBag(include_examples=False, read_dags_from_db=False, collect_dags=False)
    # By default two frames are kept, often both of a library that our line called.
    bag.dagbag_import_error_traceback_depth = WHOLE_TRACE
    bag.collect_dags(include_examples=False)
    _no_import_errors(bag)
    if absent := sorted(set(active) - set(bag.dags)):
        raise BootstrapError(
            f"reading {bag.dag_folder}: objects.yml calls {', '.join(absent)} active,"
            " and there is no such DAG",
            "is airflow/dags mounted? `cargo xtask doctor`",
        )
    return bag


def _no_import_errors(bag: DagBag) -> None:
    if bag.import_errors:
        texts: list[str] = []
        places: list[str] = []
        for path, trace in sorted(bag.import_errors.items()):
            place, end = _innermost(path, trace, Path(bag.dag_folder))
            texts.append(f"{Path(path).name}:\n{end.rstrip()}")
            places.append(place)
        raise BootstrapError(
            "reading the DAG files: " + "\n".join(texts),
            f"mend {' and '.join(dict.fromkeys(places))}, then run `cargo xtask up` again",
        )


def _innermost(dag_file: str, trace: str, dag_folder: Path) -> tuple[str, str]:
    """Where in the checkout an import failed, `airflow/dags/etl_pipeline_dag.py, line 7`, and what
    `trace` says from there on. Without a frame of ours: the DAG file, and all of `trace`.
    """

    def ours(path: Path) -> Path | None:
        if not path.is_absolute():  # `<string>`, say
            return None
        # A host's link may stand in a frame, or where it led.
        real = path.resolve()
        for mounted, folder in ((dag_folder, "airflow/dags"), (PROJECT, "")):
            if real.is_relative_to(mounted.resolve()):
                return folder / real.relative_to(mounted.resolve())
        return None

    frames = re.finditer(r'^ *File "([^"]+)", line (\d+)', trace, re.MULTILINE)
    for frame in reversed(list(frames)):
        if place := ours(Path(frame[1])):
            return f"{place}, line {frame[2]}", trace[frame.start() :]
    return str(ours(Path(dag_file)) or dag_file), trace


def _must(made: object, doing: str) -> None:
    """FAB's manager logs a failure and returns nothing; here it is an error."""
    if not made:
        raise BootstrapError(doing, "see the line above; it is from the security manager")


# --- the command ----------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="say what would be done, change nothing"
    )
    parser.add_argument(
        "--objects", type=Path, default=HERE / "objects.yml", help="the file of objects"
    )
    parser.add_argument(
        "--wait", type=float, default=60.0, metavar="S", help="seconds to wait for the database"
    )
    args = parser.parse_args(argv)
    started = time.monotonic()

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        accounts = read_accounts(os.environ)
        objects = read_objects(args.objects, os.environ)
        # One line for each thing done, and nothing else: Airflow would log to the same place.
        logging.disable(logging.INFO)
        warnings.simplefilter("ignore")
        os.environ["SQLALCHEMY_SILENCE_UBER_WARNING"] = "1"
        engine = connect(args.wait, say)
        bag = load_dags(list(objects["dags"].get("active") or []))
        bootstrap = Bootstrap(accounts, objects, check=args.check, say=say)
        bootstrap.run(engine, bag)
    except BootstrapError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    seconds = f"{time.monotonic() - started:.1f} s"
    if bootstrap.actions == 0:
        say(f"nothing to do ({seconds})")
        return 0
    say(f"{bootstrap.actions} things {'to do' if args.check else 'done'} ({seconds})")
    return 3 if args.check else 0


if __name__ == "__main__":
    sys.exit(main())
