"""Keys for scripts: make one, list them, end one."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from kalshi_site import audit, identity
from kalshi_site.models import ApiToken, User


class Command(BaseCommand):
    help = "Keys for scripts: token create USER | list | revoke PREFIX."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Three verbs."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="make a token and show it once")
        create.add_argument("username")
        create.add_argument("--name", default="script", help="what it is for")
        create.add_argument(
            "--scope", action="append", choices=list(identity.SCOPES), help="repeat for several"
        )
        create.add_argument("--days", type=int, default=90, help="life in days, at most 365")
        shown = verbs.add_parser("list", help="every token, without its secret")
        revoke = verbs.add_parser("revoke", help="end a token now")
        revoke.add_argument("prefix", help="the beginning that `list` shows")
        for verb in (create, shown, revoke):
            verb.add_argument("--json", action="store_true", help="for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the verb. Exit status 1 with the reason when it cannot be done."""
        verb = {"create": self._create, "list": self._list, "revoke": self._revoke}[options["verb"]]
        verb(options)

    def _create(self, options: dict[str, Any]) -> None:
        user = User.objects.filter(username=options["username"], is_active=True).first()
        if user is None:
            raise CommandError(
                f"no active user {options['username']}; see manage.py createsuperuser and the admin"
            )
        try:
            clear = identity.issue_token(
                user=user,
                name=options["name"],
                scopes=options["scope"] or ["read"],
                expires_at=timezone.now() + timedelta(days=options["days"]),
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        row = ApiToken.objects.get(owner=user, prefix=clear[: len(identity.token_mark()) + identity.SHOWN])
        self._remember("token.create", row)
        if options["json"]:
            self.stdout.write(json.dumps({"token": clear, **_shown(row)}))
            return
        self.stdout.write(clear)
        self.stderr.write("Keep it now: only its hash is stored. Send it as Authorization: Bearer <token>.")

    def _list(self, options: dict[str, Any]) -> None:
        rows = [_shown(row) for row in ApiToken.objects.select_related("owner").order_by("pk")]
        if options["json"]:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            state = "revoked" if row["revoked_at"] else f"until {row['expires_at'][:10]}"
            self.stdout.write(
                f"{row['prefix']}…  {row['owner']}  {row['name']}  {','.join(row['scopes'])}  {state}"
            )

    def _revoke(self, options: dict[str, Any]) -> None:
        rows = list(ApiToken.objects.filter(prefix=options["prefix"].rstrip("…")).select_related("owner"))
        if len(rows) != 1:
            raise CommandError(f"{len(rows)} tokens begin with {options['prefix']}; see manage.py token list")
        identity.revoke_token(rows[0])
        self._remember("token.revoke", rows[0])
        rows[0].refresh_from_db()
        self.stdout.write(json.dumps(_shown(rows[0])) if options["json"] else f"revoked {rows[0]}")

    def _remember(self, verb: str, row: ApiToken) -> None:
        audit.record(
            actor="command line", verb=verb, object_type="api_token", object_id=row.prefix, scopes=row.scopes
        )


def _shown(row: ApiToken) -> dict[str, Any]:
    return {
        "prefix": row.prefix,
        "owner": row.owner.get_username(),
        "name": row.name,
        "scopes": row.scopes,
        "expires_at": row.expires_at.isoformat(),
        "last_used_at": row.last_used_at.isoformat() if row.last_used_at else None,
        "revoked_at": row.revoked_at.isoformat() if row.revoked_at else None,
    }
