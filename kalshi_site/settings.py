"""Django's settings. Every value comes through `kalshi_site.env`; nothing is written while this module loads.

The supervisor (`manage.py up`) gives each process its own environment; `kalshi_site.running_desk` tells commands of a
second terminal whose desk they belong to.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from csp.constants import NONE, SELF
from django.core.management.utils import get_random_secret_key

from kalshi_site.env import PROFILES, Settings, broker_url, demo_urls
from kalshi_site.observability.logs import django_logging
from kalshi_site.running_desk import settings_here

BASE_DIR = Path(__file__).resolve().parent.parent


def _dotenv_path() -> Path | None:
    named = os.environ.get("KALSHI_ENV_FILE")
    if named is None:
        return BASE_DIR / ".env"
    return Path(named) if named else None


DOTENV = _dotenv_path()
_first = Settings(dotenv=DOTENV)
VAR_DIR = (_first.path("VAR_DIR") or BASE_DIR / "var").resolve()
STATED_PROFILE = _first.choice("KALSHI_PROFILE", "paper", PROFILES)  # what the next `up` starts
env = settings_here(VAR_DIR, dotenv=DOTENV, stated_profile=STATED_PROFILE)

# --- what is traded, and with whose money
PAPER_TRADING = env.flag("PAPER_TRADING", default=True)
KALSHI_PROFILE = env.choice("KALSHI_PROFILE", STATED_PROFILE, PROFILES)
_demo_rest, _demo_ws = demo_urls() if KALSHI_PROFILE == "demo" else ("", "")
# Empty in the paper profile until the supervisor has started the paper exchange.
KALSHI_REST_URL = env.text("KALSHI_REST_URL", _demo_rest)
KALSHI_WS_URL = env.text("KALSHI_WS_URL", _demo_ws)
KALSHI_READ_KEY_ID = env.text("KALSHI_READ_KEY_ID")
KALSHI_READ_KEY_FILE = env.path("KALSHI_READ_KEY_FILE")
# Present in execution and its watchdog only: the supervisor gives it to no other.
KALSHI_TRADE_KEY_ID = env.text("KALSHI_TRADE_KEY_ID")
KALSHI_TRADE_KEY_FILE = env.path("KALSHI_TRADE_KEY_FILE")
# One more certificate authority that may vouch for the exchange; it adds to the system's and replaces nothing.
KALSHI_CA_FILE = env.path("KALSHI_CA_FILE")
PROPOSAL_TTL_SECONDS = env.whole("PROPOSAL_TTL_SECONDS", 300, low=5, high=86_400)
PROPOSAL_TTL = timedelta(seconds=PROPOSAL_TTL_SECONDS)
ORDER_EXPIRY = timedelta(seconds=env.whole("ORDER_EXPIRY_SECONDS", 120, low=35, high=120))
ORDER_LIFETIME = timedelta(seconds=env.whole("ORDER_LIFETIME_SECONDS", 300, low=30, high=86_400))
ORDERS_PER_MINUTE = env.whole("ORDERS_PER_MINUTE", 600, low=1, high=100_000)
ORDER_GROUP_CONTRACTS = env.whole("ORDER_GROUP_CONTRACTS", 5_000, low=1, high=1_000_000)
PORT = env.whole("PORT", 8000, low=1, high=65_535)
LIVE_HEARTBEAT_SECONDS = env.whole("LIVE_HEARTBEAT_SECONDS", 15, low=1, high=60)
KALSHI_PROCESS = env.text("KALSHI_PROCESS", "command")
KALSHI_READY_FILE = env.path("KALSHI_READY_FILE")
KALSHI_REDUNDANT_FEED = env.flag("KALSHI_REDUNDANT_FEED", default=False)
CONFIG_PROBLEMS = env.problems()

# --- Django
DEBUG = env.flag("DEBUG", default=False)


def _secret_key() -> str:
    stated = env.text("SECRET_KEY")
    if stated:
        return stated
    try:
        return (VAR_DIR / "secret_key").read_text(encoding="utf-8").strip() or get_random_secret_key()
    except OSError:
        # Before the first `make run`: good for one process, never written.
        return get_random_secret_key()


SECRET_KEY = _secret_key()
ALLOWED_HOSTS = env.names("ALLOWED_HOSTS", ("localhost", "127.0.0.1", "[::1]"))
CSRF_TRUSTED_ORIGINS = env.names("CSRF_TRUSTED_ORIGINS")
METRICS_TOKEN = env.text("METRICS_TOKEN")

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "template_partials",
    "allauth",
    "allauth.account",
    "csp",
    "django_prometheus",
    "simple_history",
    "kalshi_site.apps.KalshiSiteConfig",
    "portfolio",
    "approvals",
    "trading",
]

MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "kalshi_site.observability.requests.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "kalshi_site.live.middleware.HeadsBeforeRows",
    "simple_history.middleware.HistoryRequestMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "kalshi_site.urls"
CSRF_FAILURE_VIEW = "kalshi_site.views.faults.csrf_failed"
ASGI_APPLICATION = "kalshi_site.asgi.application"
FORM_RENDERER = "django.forms.renderers.DjangoTemplates"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# --- database
_database = env.database(VAR_DIR / "db.sqlite3")
if _database["ENGINE"].endswith("sqlite3"):
    _database["OPTIONS"] = {
        # A write that begins as a read cannot be upgraded under WAL: take the write lock at once (RELIABILITY.md 2.2).
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
    }
    if KALSHI_PROCESS in {"execution", "web"}:
        # Opening the file costs an order more than its claim's commit.
        _database["CONN_MAX_AGE"] = 5
    # A file, not shared memory: locks and WAL behave in tests as they do at run time.
    _database["TEST"] = {"NAME": str(VAR_DIR / "test.sqlite3")}
else:
    _database["CONN_MAX_AGE"] = 60
    _database["CONN_HEALTH_CHECKS"] = True
    _options = _database.setdefault("OPTIONS", {})
    # A process that is frozen in the middle of a claim holds rows that a stop and its successor need.
    _session = "-c idle_in_transaction_session_timeout=10s"
    if KALSHI_PROCESS == "watchdog":
        # To it a database that hangs is silence. A server's frozen process needs more than this: its lines hang up.
        _session += " -c statement_timeout=3s"
        _options.setdefault("connect_timeout", 3)
        _options.setdefault("tcp_user_timeout", 3_000)  # milliseconds
    if KALSHI_PROCESS != "test":  # there a whole test may be one transaction
        _options.setdefault("options", _session)
DATABASES = {"default": _database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis, live channel, tasks
# Two servers: broker, locks and live must never be evicted, the cache must be.
REDIS_URL = env.text("REDIS_URL", "redis://127.0.0.1:6379/0")
REDIS_CACHE_URL = env.text("REDIS_CACHE_URL", "redis://127.0.0.1:6379/1")
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "live"},
    }
}
CACHES = {
    "default": {
        "BACKEND": "kalshi_site.cache.ForgetfulCache",
        "LOCATION": REDIS_CACHE_URL,
        "KEY_PREFIX": "kalshi",
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
    }
}
CELERY_BROKER_URL = broker_url(REDIS_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # Redis may be away for an hour: the workers wait for it
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # Longer than any task may run, so that a running one is not delivered again. No message waits for a time of its
    # own (countdown, eta): what is due when stands in the database.
    "visibility_timeout": 300,
    "socket_connect_timeout": 2,
    "socket_timeout": 10,  # a Redis that accepts and never answers must not hold a worker for ever
    "socket_keepalive": True,
}
CELERY_RESULT_BACKEND = None  # no state of ours depends on what a task returned
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "update"
CELERY_TASK_TIME_LIMIT = 120
CELERY_TASK_SOFT_TIME_LIMIT = 90
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_MAX_MEMORY_PER_CHILD = 400_000  # KiB: a leaking child is replaced between two tasks
CELERY_TIMEZONE = "UTC"
# `manage.py up` keeps the schedule's memory with the rest of the run-time state.
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "run" / "beat-schedule")

# --- people
AUTH_USER_MODEL = "kalshi_site.User"
AUTHENTICATION_BACKENDS = ["kalshi_site.signin.Backend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_ADAPTER = "kalshi_site.signin.ClosedSignup"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_LOGOUT_ON_GET = False
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
# Loopback speaks plain HTTP; every other profile sits behind TLS.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = KALSHI_PROFILE != "paper"

# --- browser
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "connect-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "manifest-src": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS: list[Any] = [BASE_DIR / "static"]
_htmx = BASE_DIR / "node_modules" / "htmx.org" / "dist"
if _htmx.is_dir():
    # The one npm package that pages load; served as /static/htmx/htmx.min.js.
    STATICFILES_DIRS.append(("htmx", _htmx))
# Hashed names need `collectstatic`, which the supervisor runs; commands and tests use the finders.
STATIC_MANIFEST = env.flag("KALSHI_STATIC_MANIFEST", default=False)
WHITENOISE_USE_FINDERS = not STATIC_MANIFEST
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "kalshi_site.assets.HashedAssets"
        if STATIC_MANIFEST
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

# --- API
REST_FRAMEWORK: dict[str, Any] = {
    # The rooms' views are plain; what every door has in common is named here, because rooms cannot import upward.
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "kalshi_site.api.authentication.BearerToken",
        "kalshi_site.api.authentication.PageSession",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["kalshi_site.api.permissions.MayCall"],
    "DEFAULT_THROTTLE_CLASSES": ["kalshi_site.api.throttling.PerCaller"],
    "DEFAULT_RENDERER_CLASSES": ["kalshi_site.api.wire.DeskRenderer"],
    "DEFAULT_PARSER_CLASSES": ["kalshi_site.api.wire.StrictJSON"],
    "DEFAULT_PAGINATION_CLASS": "kalshi_site.api.paging.SignedCursor",
    "DEFAULT_FILTER_BACKENDS": [],
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "kalshi_site.api.schema.DeskSchema",
    "EXCEPTION_HANDLER": "kalshi_site.api.problems.handle",
    "DATETIME_FORMAT": None,  # the renderer writes milliseconds
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Kalshi Ops",
    "DESCRIPTION": "Read the desk, decide proposals, find the way out. Amounts are strings with fixed decimals, "
    "times RFC 3339 in UTC, what is not known is null.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "ProposalStatus": "approvals.domain.lifecycle.ProposalState",
        "OrderStatus": "trading.domain.orders.OrderState",
        "MarketStatus": "trading.domain.markets.MarketStatus",
        "Side": "trading.domain.orders.Side",
        "Action": "trading.domain.orders.Action",
    },
}

# --- time, words, logs
LANGUAGE_CODE = "en-us"
USE_I18N = False
USE_TZ = True
TIME_ZONE = env.text("TIME_ZONE", "UTC")
PROMETHEUS_METRICS_EXPORT_PORT = None
PROMETHEUS_EXPORT_MIGRATIONS = False
LOGGING_CONFIG = None
LOGGING = django_logging(
    level=env.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")).upper(),
    style=env.choice("LOG_FORMAT", "console", ("console", "json")),
)
