"""What differs from the exchange, over REST: the items, what a person says to them, and the last comparison."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView, ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from kalshi_site.errors import RoleMissing
from kalshi_site.idempotency import once, version_seen
from kalshi_site.identity import Right
from trading.engine.update_cycle import last_comparison
from trading.execution import work_items
from trading.execution.work_kinds import suggestion
from trading.models import Cycle, WorkItem, WorkKind, WorkState
from trading.models.work_item import SHOWN

READ = Right.of("trading.view_workitem", "read")
HANDLE = Right.of("trading.handle_workitem", "trade", "risk")
ACCEPT = "trading.accept_workitem"


class WorkItemOut(serializers.ModelSerializer[WorkItem]):
    """One difference. `theirs` and `ours` are the numbers of both sides, empty where the kind has none.

    `advice` says what a person does about it, `command` how in a terminal, `page` where to look.
    """

    id = serializers.CharField(source="public_id")
    status = serializers.ChoiceField(choices=[*SHOWN, WorkState.RESOLVED], source="state")
    kind = serializers.ChoiceField(choices=WorkKind.choices)
    order_id = serializers.CharField(source="order", allow_blank=True)
    advice = serializers.SerializerMethodField()
    command = serializers.SerializerMethodField()
    page = serializers.SerializerMethodField()

    class Meta:
        model = WorkItem
        fields = (
            *("id", "version", "kind", "subject", "severity", "status", "ticker", "order_id"),
            *("theirs", "ours", "detail", "looks", "first_at", "last_at", "has_paused"),
            *("advice", "command", "page"),
            *("acknowledged_at", "acknowledged_by", "acknowledged_reason"),
            *("resolved_at", "resolved_by", "resolved_reason"),
        )
        read_only_fields = fields

    def get_advice(self, item: WorkItem) -> str:
        return suggestion(item).text

    def get_command(self, item: WorkItem) -> str:
        return suggestion(item).command

    def get_page(self, item: WorkItem) -> str:
        return suggestion(item).page


class WorkItemFilter(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["standing", *SHOWN, WorkState.RESOLVED], required=False)
    kind = serializers.ChoiceField(choices=WorkKind.choices, required=False)


class _Items(GenericAPIView[WorkItem]):
    serializer_class = WorkItemOut
    lookup_field = "public_id"
    rights: ClassVar[dict[str, Right]] = {"GET": READ}

    def get_queryset(self) -> QuerySet[WorkItem]:
        """The items of this profile's venue; what only one look has seen is none yet."""
        return WorkItem.objects.filter(venue=settings.KALSHI_PROFILE).exclude(state=WorkState.NOTICED)


class WorkItemList(_Items, ListAPIView[WorkItem]):
    """Differences with the exchange, newest first. `status=standing` is what is not resolved."""

    def get_queryset(self) -> QuerySet[WorkItem]:
        """Raises ValidationError on a status or a kind that does not exist."""
        wanted = WorkItemFilter(data=self.request.query_params)
        wanted.is_valid(raise_exception=True)
        found, given = super().get_queryset(), wanted.validated_data
        if status := given.get("status"):
            found = found.filter(state__in=SHOWN if status == "standing" else [status])
        return found.filter(kind=given["kind"]) if "kind" in given else found

    @extend_schema(operation_id="list_work_items", parameters=[WorkItemFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class WorkItemDetail(_Items, RetrieveAPIView[WorkItem]):
    """One difference."""

    @extend_schema(operation_id="get_work_item")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class Acknowledgement(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=300)


class WorkItemAcknowledge(_Items):
    """Answer for trading on while a difference stands."""

    rights: ClassVar[dict[str, Right]] = {"POST": HANDLE}
    accepts = frozenset({"reason"})

    @extend_schema(operation_id="acknowledge_work_item", request=Acknowledgement, responses=WorkItemOut)
    @once(versioned=True)
    def post(self, request: Request, public_id: str) -> Response:
        """Trading is not resumed by this; it may be resumed once no difference that pauses it is open."""
        body = Acknowledgement(data=request.data)
        body.is_valid(raise_exception=True)
        done = work_items.acknowledge(
            item=self.get_object(),
            actor=request.user.get_username(),
            reason=body.validated_data["reason"],
            version=version_seen(request.headers),
        )
        return Response(self.get_serializer(done).data)


class Resolution(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=300)
    accept = serializers.BooleanField(
        required=False, default=False, help_text="Book the exchange's number of a position or of cash."
    )


class WorkItemResolve(_Items):
    """Say that a difference is done with."""

    rights: ClassVar[dict[str, Right]] = {"POST": HANDLE}
    accepts = frozenset({"reason", "accept"})

    @extend_schema(operation_id="resolve_work_item", request=Resolution, responses=WorkItemOut)
    @once(versioned=True)
    def post(self, request: Request, public_id: str) -> Response:
        """Seen again, it becomes a new item. `accept` needs the role risk or admin: it changes the books."""
        body = Resolution(data=request.data)
        body.is_valid(raise_exception=True)
        accept = body.validated_data["accept"]
        if accept and not request.user.has_perm(ACCEPT):
            raise RoleMissing("booking the exchange's number needs the role risk or admin")
        done = work_items.resolve(
            item=self.get_object(),
            actor=request.user.get_username(),
            reason=body.validated_data["reason"],
            version=version_seen(request.headers),
            accept=accept,
        )
        return Response(self.get_serializer(done).data)

    post.refusals = ("E212",)  # type: ignore[attr-defined]


class AreaOut(serializers.Serializer[Any]):
    """How many records of the exchange were `compared`, of ours `changed`, and how many still `differ`."""

    compared = serializers.IntegerField()
    changed = serializers.IntegerField()
    differ = serializers.IntegerField()


class ComparisonOut(serializers.Serializer[Any]):
    """The newest comparison that has ended. `failed`: it was aborted, and judged nothing."""

    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField()
    outcome = serializers.CharField()
    areas = serializers.DictField(child=AreaOut())


class LastComparison(GenericAPIView[Cycle]):
    """What was compared last."""

    serializer_class = ComparisonOut
    queryset = Cycle.objects.all()
    rights: ClassVar[dict[str, Right]] = {"GET": READ}

    @extend_schema(operation_id="get_last_comparison", responses=ComparisonOut)
    def get(self, request: Request) -> Response:
        """By the loop or by command, whichever is newer. 404 before the first one."""
        cycle = last_comparison(settings.KALSHI_PROFILE)
        if cycle is None:
            raise Http404
        return Response(
            {
                "started_at": cycle.started_at,
                "finished_at": cycle.finished_at,
                "outcome": cycle.outcome,
                "areas": cycle.detail.get("areas", {}),
            }
        )
