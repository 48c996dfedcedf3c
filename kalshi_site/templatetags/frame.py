"""What stands around every page: `{% frame as frame %}`, and `{% icon "name" %}`."""

from __future__ import annotations

from typing import Any

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag(takes_context=True)
def frame(context: template.Context) -> Any:
    """The frame of this request, or the bare one where nobody is signed in."""
    # Imported at use: the frame reads rows of every room, and template libraries load before the apps are ready.
    from kalshi_site.views.frame import frame_of

    return frame_of(context["request"])


@register.simple_tag(takes_context=True)
def bare_frame(context: template.Context) -> Any:
    """The frame without anybody's rows: sign-in and error pages."""
    from kalshi_site.views.frame import bare_frame as bare

    return bare(context["request"])


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    """One picture of the sprite; decoration only, the word stands beside it."""
    return format_html(
        '<svg class="i {}" viewBox="0 0 16 16" aria-hidden="true"><use href="{}#{}"/></svg>',
        size,
        static("icons.svg"),
        name,
    )


@register.filter
def same(left: object, right: object) -> str:
    """`true` or `false`, as ARIA attributes want it."""
    return "true" if left == right else "false"
