"""`GET /api/v1/state`: what a client that follows a topic lacks, as changes or as a snapshot (RELIABILITY.md 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from approvals.api import ProposalOut
from approvals.models import Proposal
from kalshi_site.errors import RoleMissing
from kalshi_site.identity import Right
from kalshi_site.live import changes
from kalshi_site.live.catchup import Change, Delta, Snapshot
from portfolio import risk
from portfolio.api import LimitOut, PositionOut
from portfolio.models import Autonomy, Position, RiskLimit, TradingState
from trading.api.autonomy import AutonomyOut
from trading.api.drifts import DriftOut
from trading.api.exchange import ExchangeStateOut
from trading.api.liquidations import LiquidationOut
from trading.api.orders import OrderOut
from trading.api.reconciliation import WorkItemOut
from trading.api.state import TradingStateOut
from trading.consumers import LOGGED, TOPICS
from trading.execution import restored
from trading.models import DriftNote, ExchangeState, Liquidation, Order, WorkItem

Objects = Callable[[Iterable[str]], Mapping[str, Any]]


def _orders(keys: Iterable[str]) -> dict[str, Any]:
    rows = Order.objects.filter(venue=settings.KALSHI_PROFILE, public_id__in=keys).select_related("proposal")
    return {row.public_id: OrderOut(row).data for row in rows}


def _proposals(keys: Iterable[str]) -> dict[str, Any]:
    rows = Proposal.objects.filter(venue=settings.KALSHI_PROFILE, public_id__in=keys)
    return {row.public_id: ProposalOut(row).data for row in rows}


def _positions(keys: Iterable[str]) -> dict[str, Any]:
    rows = list(Position.objects.filter(venue=settings.KALSHI_PROFILE, ticker__in=keys))
    books = {"facts": risk.market_facts([row.ticker for row in rows])}
    return {row.ticker: PositionOut(row, context=books).data for row in rows}


def _trading(keys: Iterable[str]) -> dict[str, Any]:
    """By `VENUE`, `VENUE SCOPE`, `VENUE autonomy`, `VENUE exchange`, `limit NAME`, `drift ID`, a liquidation's id."""
    wanted, here = set(keys), {"venue": settings.KALSHI_PROFILE}
    noted = [key.removeprefix("drift ") for key in wanted if key.startswith("drift ")]
    sources: tuple[tuple[Callable[[Any], str], Callable[[Any], Any], QuerySet[Any]], ...] = (
        (
            lambda row: f"{row.venue} {row.scope}".strip(),
            TradingStateOut,
            TradingState.objects.filter(**here),
        ),
        (lambda row: f"{row.venue} autonomy", AutonomyOut, Autonomy.objects.filter(**here)),
        (lambda row: f"{row.venue} exchange", ExchangeStateOut, ExchangeState.objects.filter(**here)),
        (lambda row: f"limit {row.name}", LimitOut, RiskLimit.objects.all()),
        (lambda row: f"drift {row.pk}", DriftOut, DriftNote.objects.filter(**here, pk__in=noted)),
        (lambda row: row.public_id, LiquidationOut, Liquidation.objects.filter(**here, public_id__in=wanted)),
    )
    return {
        key: out(row).data for key_of, out, rows in sources for row in rows if (key := key_of(row)) in wanted
    }


def _work_items(keys: Iterable[str]) -> dict[str, Any]:
    rows = WorkItem.objects.filter(venue=settings.KALSHI_PROFILE, public_id__in=keys)
    return {row.public_id: WorkItemOut(row).data for row in rows}


OBJECTS: dict[str, Objects] = {
    "orders": _orders,
    "proposals": _proposals,
    "positions": _positions,
    "trading": _trading,
    "reconciliation": _work_items,
}


class Asked(serializers.Serializer[Any]):
    topic = serializers.ChoiceField(choices=LOGGED)
    since = serializers.IntegerField(min_value=-1, required=False, default=-1)
    epoch = serializers.CharField(max_length=16, required=False, allow_blank=True, default="")
    expand = serializers.ChoiceField(choices=["object"], required=False)


class ChangeOut(serializers.Serializer[Any]):
    """`s` numbers the change within its topic, `version` is the object's own after it."""

    s = serializers.IntegerField()
    id = serializers.CharField()
    version = serializers.IntegerField()
    kind = serializers.CharField()
    object = serializers.DictField(required=False, allow_null=True)


class StateOut(serializers.Serializer[Any]):
    """Either `changes` (all after `since`, in order) or `snapshot` (the last change of every object).

    `version` is where the client stands afterwards; `digest` hashes the sorted lines `id:version` of its state then.
    """

    topic = serializers.CharField()
    epoch = serializers.CharField()
    version = serializers.IntegerField()
    since = serializers.IntegerField(required=False)
    changes = ChangeOut(many=True, required=False)
    snapshot = ChangeOut(many=True, required=False)
    digest = serializers.CharField(required=False)


class StateSync(APIView):
    """Numbered changes of a topic."""

    rights: ClassVar[dict[str, Right]] = {"GET": Right.of("portfolio.view_tradingstate", "read")}

    @property
    def moves_with_tag(self) -> bool:
        """The changes do, the objects do not."""
        return "expand" not in self.request.query_params

    @extend_schema(
        operation_id="get_state",
        parameters=[Asked, OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER)],
        responses=StateOut,
    )
    def get(self, request: Request) -> Response:
        """Changes after `since` of `epoch`; the snapshot where these are unknown, too old or too many.

        `expand=object` adds each object as it is now, which may be newer than the change. 304 when nothing was missed,
        but never with `expand`: objects hold what no change is numbered for, such as a mark.
        """
        asked = Asked(data=request.query_params)
        asked.is_valid(raise_exception=True)
        topic = asked.validated_data["topic"]
        if not request.user.has_perm(TOPICS[topic]):
            raise RoleMissing(f"the topic {topic} needs the right {TOPICS[topic]}")
        restored.look_once(settings.KALSHI_PROFILE)
        answer = changes.since(topic, asked.validated_data["since"], asked.validated_data["epoch"])
        objects = OBJECTS[topic] if asked.validated_data.get("expand") else None
        return Response(_body(answer, objects), headers={"ETag": f'"{answer.epoch}:{answer.version}"'})

    get.refusals = ("E010", "E011", "E012")  # type: ignore[attr-defined]


def _body(answer: Delta | Snapshot, objects: Objects | None) -> dict[str, Any]:
    told = _changes(answer.changes, objects)
    body: dict[str, Any] = {"topic": answer.topic, "epoch": answer.epoch, "version": answer.version}
    if isinstance(answer, Delta):
        body |= {"since": answer.since, "changes": told}
    else:
        body |= {"snapshot": told}
    return body | ({"digest": answer.digest} if answer.digest else {})


def _changes(told: Sequence[Change], objects: Objects | None) -> list[dict[str, Any]]:
    found = objects({change.key for change in told}) if objects else {}
    return [
        {"s": change.number, "id": change.key, "version": change.version, "kind": change.kind}
        | ({"object": found.get(change.key)} if objects else {})
        for change in told
    ]
