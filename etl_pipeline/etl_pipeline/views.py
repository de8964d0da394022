"""Views that stand on a raw table, taken away for the moment in which the table is altered.

Postgres refuses to change the type of a column that a view reads, or to drop it. So dbt's views and
a person's are dropped and made again in the transaction of the change: nobody sees them missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg2
from psycopg2 import sql

from etl_pipeline import commands
from etl_pipeline.errors import PipelineError
from etl_pipeline.target import Cursor


@dataclass(frozen=True)
class View:
    """What is needed to make a view again.

    Attributes:
        name: as SQL names it, with its schema.
        grants: (grantee as SQL names it, privilege, with grant option).
    """

    name: str
    definition: str
    owner: str
    comment: str | None
    grants: tuple[tuple[str, str, bool], ...]


def dependents(cursor: Cursor, table: str) -> tuple[View, ...]:
    """All views on `table` (SQL name), and the views on those; what reads a view stands after it.

    Raises:
        PipelineError: a materialized view is among them, whose indexes and rows would be lost.
    """
    found = cursor.rows(
        """
        with recursive readers as (
            select r.ev_class as oid, 1 as depth
            from pg_depend as d inner join pg_rewrite as r on d.objid = r.oid
            where
                d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
                and d.refobjid = %s::regclass and r.ev_class <> d.refobjid
            union
            select r.ev_class, b.depth + 1
            from readers as b
            inner join pg_depend as d
                on d.refobjid = b.oid and d.refclassid = 'pg_class'::regclass
                and d.classid = 'pg_rewrite'::regclass
            inner join pg_rewrite as r on d.objid = r.oid and r.ev_class <> b.oid
        )

        select
            format('%%I.%%I', n.nspname, c.relname),
            c.relkind,
            pg_get_viewdef(c.oid),
            pg_get_userbyid(c.relowner),
            obj_description(c.oid, 'pg_class'),
            coalesce(
                (
                    select json_agg(json_build_array(
                        case a.grantee
                            when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee))
                        end,
                        a.privilege_type,
                        a.is_grantable
                    ))
                    from aclexplode(c.relacl) as a
                    where a.grantee <> c.relowner
                ),
                '[]'
            )
        from (select oid, max(depth) as depth from readers group by oid) as r
        inner join pg_class as c on r.oid = c.oid
        inner join pg_namespace as n on c.relnamespace = n.oid
        order by r.depth, 1
        """,
        [table],
    )
    for name, kind, *_ in found:
        if kind != "v":
            raise PipelineError(
                f"altering a column of {table}: materialized view {name} reads it",
                f"drop materialized view {name}; and make it again after the next run",
            )
    return tuple(
        View(name, definition, owner, comment, tuple(map(tuple, grants)))
        for name, _, definition, owner, comment, grants in found
    )


def drop(cursor: Cursor, views: tuple[View, ...]) -> None:
    """Drop them, readers first."""
    for view in reversed(views):
        cursor.run(f"drop view {view.name}")


def restore(cursor: Cursor, views: tuple[View, ...]) -> None:
    """Make them again, with owner, comment and grants.

    Raises:
        PipelineError: one does not fit the altered table; it is named.
    """
    for view in views:
        try:
            cursor.run(f"create view {view.name} as {view.definition}")
        except psycopg2.Error as error:
            raise PipelineError(
                f"making view {view.name} again after its table was altered:"
                f" Postgres refused it ({error.pgcode})",
                f"drop view {view.name} cascade; run again; then {commands.dbt('build')}",
            ) from None
        cursor.run(
            sql.SQL("alter view {} owner to {}").format(
                sql.SQL(view.name), sql.Identifier(view.owner)
            )
        )
        if view.comment is not None:
            cursor.run(
                sql.SQL("comment on view {} is {}").format(
                    sql.SQL(view.name), sql.Literal(view.comment)
                )
            )
        for grantee, privilege, grantable in view.grants:
            option = " with grant option" if grantable else ""
            cursor.run(f"grant {privilege} on {view.name} to {grantee}{option}")
