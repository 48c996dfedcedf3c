"""Columns that hold exact numbers as integers and speak Decimal.

SQLite keeps a decimal column as a float; an integer in the smallest unit is exact in every database and in SUM().
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.expressions import Combinable

_Set = TypeVar("_Set", contravariant=True)
_Get = TypeVar("_Get", covariant=True)

if TYPE_CHECKING:

    class _Column(models.Field[_Set, _Get]):
        """The type checker's view: what may be stored and what comes back."""

else:

    class _Column(models.Field):
        """Django's fields take no type arguments at run time."""

        def __class_getitem__(cls, _: object) -> type:
            return cls


class ScaledField(_Column[_Set, _Get]):
    """A Decimal with `places` decimals, stored as an integer. A value that does not fit exactly is refused.

    In an expression give a number its unit: `F("amount") + Value(step, DollarsField())`.
    """

    _pyi_private_set_type: Decimal | int | str | Combinable
    _pyi_private_get_type: Decimal
    _pyi_lookup_exact_type: Decimal | int | str

    places = 0

    def _unit(self) -> Decimal:
        return Decimal(1).scaleb(-self.places)

    def to_python(self, value: Any) -> Decimal | None:
        if value is None or isinstance(value, Decimal):
            return value
        try:
            return Decimal(str(value))
        except ArithmeticError as error:
            raise ValidationError(f"{value!r} is not a number") from error

    def get_prep_value(self, value: Any) -> Any:
        if value is None or hasattr(value, "resolve_expression"):
            return value  # an SQL expression computes in stored units
        number = Decimal(str(value)).scaleb(self.places)
        if not number.is_finite() or number != number.to_integral_value():
            raise ValueError(f"{value} does not fit {self.places} decimals exactly")
        return int(number)

    def from_db_value(self, value: Any, *_: Any) -> Decimal | None:
        return None if value is None else Decimal(int(value)).scaleb(-self.places)

    def as_read(self, value: Any) -> Decimal | None:
        """What a row that was read has after this was written: as many decimals. Raises ValueError."""
        return self.from_db_value(self.get_prep_value(value))

    def get_internal_type(self) -> str:
        return "BigIntegerField"

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.value_from_object(obj))

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(
            **{"form_class": forms.DecimalField, "decimal_places": self.places, **kwargs}
        )


class DollarsField(ScaledField[_Set, _Get]):
    """Dollars (money, prices) in millionths: API.md 4 gives six decimals for fees, four for prices."""

    places = 6


class ProductField(ScaledField[_Set, _Get]):
    """Contracts times dollars, in the unit that the product of their columns has: for sums in the database."""

    places = 8


class CountField(ScaledField[_Set, _Get]):
    """Contracts in hundredths (API.md 4: the minimum step is 0.01)."""

    places = 2
