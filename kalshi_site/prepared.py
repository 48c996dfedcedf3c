"""Questions and changes whose SQL is written once.

Django writes a queryset's SQL anew at each use, which takes many times as long as the database takes to answer it, and
some fifty of them stand between a click and the exchange. Here a queryset is built once, with a blank for each
argument; from then on only values are filled in. What is asked and what comes back stays what the queryset says.

    @prepared
    def _resting(venue: str, states: tuple[str, ...]) -> QuerySet[Order]:
        return Order.objects.filter(venue=venue, state__in=states)

    _resting("paper", ("resting",))     # a list of orders
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from types import SimpleNamespace
from typing import Any, Final, Generic, ParamSpec, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import DEFAULT_DB_ALIAS, connection, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.sqlite3.base import FORMAT_QMARK_REGEX
from django.db.models import Model, QuerySet
from django.db.models.expressions import Expression
from django.db.models.sql import InsertQuery, UpdateQuery
from django.db.models.sql.compiler import SQLCompiler

P = ParamSpec("P")
Row = TypeVar("Row")
New = TypeVar("New", bound=Model)
_PLAIN: Final = (str, int)  # as a database takes them
# Fields that hand such a value on as it is, after they have asked themselves a dozen questions about it.
_HANDED_ON: Final = (
    *(models.CharField, models.TextField, models.ForeignKey, models.OneToOneField),
    *(models.IntegerField, models.PositiveIntegerField, models.PositiveSmallIntegerField),
)
LONG: Final = 32  # values in a list
MOST_SHAPES: Final = 64  # of one question that are kept


class Statement:
    """SQL in Django's spelling, run on this thread's connection.

    Django's cursor respells it for SQLite each time, and costs more than most of our questions themselves. Here that is
    done once, and the driver is asked itself: unless somebody listens to what is executed (a fence, a debugger).
    """

    def __init__(self, sql: str) -> None:
        self._sql = sql
        self._for_sqlite = FORMAT_QMARK_REGEX.sub("?", sql).replace("%%", "%")

    def run(self, values: Sequence[Any] = ()) -> tuple[list[tuple[Any, ...]], int]:
        """The rows that come back, if any, and how many were changed. Raises Django's database errors."""
        db = _here()
        if db.vendor != "sqlite" or db.connection is None or db.execute_wrappers or db.queries_logged:
            with db.cursor() as cursor:
                cursor.execute(self._sql, values)
                return cursor.fetchall() if cursor.description else [], cursor.rowcount
        db.validate_no_broken_transaction()
        with db.wrap_database_errors:
            cursor = db.connection.execute(self._for_sqlite, values)
            return cursor.fetchall(), cursor.rowcount


def _here() -> BaseDatabaseWrapper:
    """This thread's connection itself: Django's stand-in looks it up anew for each attribute."""
    return connections[DEFAULT_DB_ALIAS]


class Blank(Expression):
    """The place of a value in SQL that was written before the value was known: `key` says of which."""

    def __init__(self, key: Any) -> None:
        super().__init__()
        self.key = key

    def as_sql(self, *_: Any, **__: Any) -> tuple[str, tuple[Any, ...]]:
        return "%s", (self,)

    def __str__(self) -> str:
        raise TypeError(f"argument {self.key} is not known yet: hand it to a lookup as it is")


class Prepared(Generic[P, Row]):
    """A question that is asked with values. Calling it returns the rows as a list, `first` the first or None.

    Values are text, whole numbers, times, or a tuple of them for `__in`. Raises TypeError for another kind: None too,
    which SQL compares with nothing.
    """

    def __init__(self, build: Callable[P, QuerySet[Any, Row]]) -> None:
        self._build: Callable[..., QuerySet[Any, Row]] = build
        self._names = tuple(inspect.signature(build).parameters)
        self._written: dict[tuple[Any, ...], _Question] = {}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> list[Row]:
        values = (*args, *(kwargs[name] for name in self._names[len(args) :])) if kwargs else args
        if any(type(each) is tuple and len(each) > LONG for each in values):
            return list(self._build(*values))  # its length hardly comes again: not worth the keeping
        db = _here()
        shape = (db.vendor, *(len(each) if type(each) is tuple else None for each in values))
        question = self._written.get(shape) or self._write(shape, values)
        return question.ask(db, values)

    def first(self, *args: P.args, **kwargs: P.kwargs) -> Row | None:
        """The first row. The queryset says in which order, and should ask for one alone."""
        rows = self(*args, **kwargs)
        return rows[0] if rows else None

    def _write(self, shape: tuple[Any, ...], values: tuple[Any, ...]) -> _Question:
        if len(self._written) >= MOST_SHAPES:
            self._written.clear()
        blanks = [_blank(at, value) for at, value in enumerate(values)]
        question = self._written[shape] = _Question(self._build(*blanks))
        return question


def prepared(build: Callable[P, QuerySet[Any, Row]]) -> Prepared[P, Row]:
    """Decorate a function that hands its arguments to a queryset's lookups and does nothing else with them."""
    return Prepared(build)


def update(model: type[Model], *, where: Mapping[str, Any], changes: Mapping[str, Any]) -> int:
    """`model.objects.filter(**where).update(**changes)`, for plain values. Returns how many rows it changed."""
    db, given = _here(), (where, changes)
    empty = tuple((name, value is None) for name, value in where.items())
    statement, places = _written_update(db.vendor, model, empty, tuple(changes))
    values = [_kept(db, field, given[which][name]) for which, name, field in places]
    with transaction.mark_for_rollback_on_error(using=db.alias):
        return statement.run(values)[1]


def insert(row: New) -> New:
    """`row.save(force_insert=True)`, for a model to whose saving nobody listens. Returns the row, with its key."""
    db = _here()
    statement, fields = _written_insert(db.vendor, type(row))
    values = [_kept(db, each, each.pre_save(row, add=True)) for each in fields]
    with transaction.mark_for_rollback_on_error(using=db.alias):
        given, _ = statement.run(values)
    if given:
        ((row.pk,),) = given
    row._state.adding, row._state.db = False, db.alias
    return row


class _Question:
    """A queryset, written for one database and one count of values in each list."""

    def __init__(self, rows: QuerySet[Any, Any]) -> None:
        self._iterable: Any = rows._iterable_class
        self._locks = rows.query.select_for_update
        self._compiler: SQLCompiler = rows.query.get_compiler(connection=connection)
        sql, self._blanks = self._wording()
        self._statement = Statement(sql) if sql else None
        self._converters = self._compiler.get_converters([each[0] for each in self._compiler.select or ()])

    def _wording(self) -> tuple[str, tuple[Any, ...]]:
        try:
            return self._compiler.as_sql()
        except EmptyResultSet:  # one of nothing: no database need be asked
            return "", ()

    def ask(self, db: BaseDatabaseWrapper, values: tuple[Any, ...]) -> list[Any]:
        if self._locks and not db.in_atomic_block:
            raise transaction.TransactionManagementError("a row is locked inside a transaction alone")
        if self._statement is None:
            return []
        filled = [_of(db, values, each.key) if isinstance(each, Blank) else each for each in self._blanks]
        rows: list[Any] = self._statement.run(filled)[0]
        if not rows:
            return []
        if self._converters:
            rows = list(self._compiler.apply_converters(rows, self._converters))
        return list(self._iterable(_Answer(self._compiler, db, rows)))


class _Answer:
    """All that Django's makers of rows ask of a queryset, its query and its compiler; the rows are here already."""

    def __init__(self, compiler: SQLCompiler, db: BaseDatabaseWrapper, rows: list[Any]) -> None:
        self._rows = rows
        self.query, self.db, self.model = self, db.alias, compiler.query.model
        self.select, self.klass_info = compiler.select, compiler.klass_info
        self.annotation_col_map = compiler.annotation_col_map
        self._known_related_objects: dict[Any, Any] = {}

    def get_compiler(self, using: str) -> _Answer:
        return self

    def execute_sql(self, **_: Any) -> list[Any]:
        return self._rows

    def results_iter(self, *_: Any, tuple_expected: bool = False, **__: Any) -> Iterator[Any]:
        return map(tuple, self._rows) if tuple_expected else iter(self._rows)


@cache
def _written_update(
    vendor: str, model: type[Model], where: tuple[tuple[str, bool], ...], changes: tuple[str, ...]
) -> tuple[Statement, list[tuple[int, str, Any]]]:
    """The statement, and of each of its values: 0 for a condition or 1 for a change, its name, its field."""
    rows = model._default_manager.filter(
        **{name: None if empty else Blank((0, name)) for name, empty in where}
    )
    query: Any = rows.query.chain(UpdateQuery)
    query.add_update_values({name: Blank((1, name)) for name in changes})
    sql, blanks = query.get_compiler(connection=connection).as_sql()
    return Statement(sql), [(*blank.key, _field(model, blank.key[1])) for blank in blanks]


@cache
def _written_insert(vendor: str, model: type[Model]) -> tuple[Statement, list[Any]]:
    """The statement, and the fields whose values it takes. It returns what the database itself gives: the key."""
    meta: Any = model._meta
    fields = [each for each in meta.concrete_fields if each not in meta.db_returning_fields]
    query: Any = InsertQuery(model)
    blanks = SimpleNamespace(**{each.attname: Blank(each.attname) for each in fields})
    query.insert_values(fields, [blanks], raw=True)
    compiler = query.get_compiler(connection=connection)
    compiler.returning_fields = meta.db_returning_fields
    ((sql, _),) = compiler.as_sql()
    return Statement(sql), fields


def _kept(db: BaseDatabaseWrapper, field: Any, value: Any) -> Any:
    """The value as the database keeps it."""
    if type(value) in _PLAIN and type(field) in _HANDED_ON:
        return value
    return field.get_db_prep_save(value, db)


def _field(model: type[Model], lookup: str) -> Any:
    name = lookup.partition("__")[0]
    return model._meta.pk if name == "pk" else model._meta.get_field(name)


def _blank(at: int, value: Any) -> Blank | list[Blank]:
    return [Blank((at, each)) for each in range(len(value))] if type(value) is tuple else Blank((at, None))


def _of(db: BaseDatabaseWrapper, values: tuple[Any, ...], key: tuple[int, int | None]) -> Any:
    at, inside = key
    return _adapted(db, values[at] if inside is None else values[at][inside])


def _adapted(db: BaseDatabaseWrapper, value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, str):
        return str(value)  # of a choice its text
    if isinstance(value, datetime):
        return db.ops.adapt_datetimefield_value(value)
    raise TypeError(f"{value!r} is neither text nor a whole number nor a time")
