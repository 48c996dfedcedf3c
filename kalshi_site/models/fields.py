"""Columns that hold exact numbers as integers and speak Decimal.

SQLite keeps a decimal column as a float; an integer in the smallest unit is exact in every database and in SUM().
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models


class ScaledField(models.BigIntegerField):
    """A Decimal with `places` decimals, stored as an integer. A value that does not fit exactly is refused."""

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

    def get_prep_value(self, value: Any) -> int | None:
        if value is None or hasattr(value, "resolve_expression"):
            return value  # type: ignore[return-value]  # an SQL expression computes in stored units
        number = Decimal(str(value)).scaleb(self.places)
        if not number.is_finite() or number != number.to_integral_value():
            raise ValueError(f"{value} does not fit {self.places} decimals exactly")
        return int(number)

    def from_db_value(self, value: Any, *_: Any) -> Decimal | None:
        return None if value is None else Decimal(int(value)).scaleb(-self.places).quantize(self._unit())

    def get_internal_type(self) -> str:
        return "BigIntegerField"

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.value_from_object(obj))

    def formfield(self, **kwargs: Any) -> Any:
        from django import forms

        return models.Field.formfield(
            self, **{"form_class": forms.DecimalField, "decimal_places": self.places, **kwargs}
        )

    @property
    def validators(self) -> list[Any]:  # type: ignore[override]
        return list(self._validators)


class DollarsField(ScaledField):
    """Dollars (money, prices) in millionths: API.md 4 gives six decimals for fees, four for prices."""

    places = 6


class CountField(ScaledField):
    """Contracts in hundredths (API.md 4: the minimum step is 0.01)."""

    places = 2
