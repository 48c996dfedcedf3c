"""Static files with hashed names, compressed once, cached for ever."""

from __future__ import annotations

from typing import Any, ClassVar

from whitenoise.storage import CompressedManifestStaticFilesStorage

# What no page loads. Compressing it would cost the first run 15 seconds.
NOT_SERVED = (
    *("*.map", "*.md", "*.txt", "*.d.ts", "django_htmx", "docs", "ext", "editors", "scripts", "htmax*"),
    *("redoc", "bootstrap*", "swagger-ui.js", "swagger-ui-es-*"),
)


class HashedAssets(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # whitenoise ships no types
    """Rewrites `url(…)` in style sheets to hashed names; leaves source map comments alone, as maps are not served."""

    patterns: ClassVar[tuple[Any, ...]] = (
        *(
            (glob, tuple(rule for rule in rules if "sourceMappingURL" not in str(rule)))
            for glob, rules in CompressedManifestStaticFilesStorage.patterns
        ),
        # Our own modules import each other, and only hashed names are served. Other people's are not ours to rewrite.
        ("js/*.js", CompressedManifestStaticFilesStorage._js_module_import_aggregation_patterns[1]),
    )

    def compress_files(self, paths: set[str]) -> Any:
        """Compress what the desk's own pages load; the API docs and the admin are not worth 5 s of each first run."""
        slow = ("drf_spectacular_sidecar/", "rest_framework/", "admin/js/vendor/")
        return super().compress_files({path for path in paths if not path.startswith(slow)})
