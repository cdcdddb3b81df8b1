"""One database per service, a role that owns it and a role that only uses it.

Safe to repeat, and the same on the embedded server and on one given by DATABASE_URL.
"""

import asyncio
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from deploy.local.credentials import Secrets
from deploy.local.errors import ConfigurationFailure
from deploy.local.ports import SERVICES

__all__ = ["database_of", "database_url", "owner_of", "provision", "runtime_role_of"]

EXTENSIONS = ("pg_trgm", "btree_gist", "vector")


def runtime_role_of(service: str) -> str:
    """The role a service connects as."""
    return service.replace("-", "_")


def owner_of(service: str) -> str:
    """The role that runs the migrations of a service."""
    return f"{runtime_role_of(service)}_owner"


def database_of(service: str) -> str:
    """The name of a service's database."""
    return f"holdfast_{runtime_role_of(service)}"


def database_url(server_url: str, database: str, role: str | None = None, password: str = "") -> str:
    """`server_url` pointed at another database, and at another role if one is given."""
    parts = urlsplit(server_url)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{quote(role)}:{quote(password)}@{host}" if role else parts.netloc
    return urlunsplit(parts._replace(netloc=netloc, path=f"/{database}"))


async def provision(server_url: str, secrets: Secrets, *, ours: bool) -> None:
    """Creates what is missing for every service and sets the passwords of `secrets`.

    `ours`: the server is the embedded one, whose maintenance databases may be closed to the services as well.
    """
    try:
        await asyncio.gather(*(_provision_service(server_url, service, secrets) for service in SERVICES))
        if ours:
            await _close_maintenance_databases(server_url)
    except (asyncpg.PostgresError, OSError, ValueError) as error:
        raise ConfigurationFailure(
            f"cannot prepare the databases: {error}; DATABASE_URL must name a role that may create databases, roles "
            f"and the extensions {', '.join(EXTENSIONS)}"
        ) from error


async def _provision_service(server_url: str, service: str, secrets: Secrets) -> None:
    database, owner, runtime = database_of(service), owner_of(service), runtime_role_of(service)
    server = await asyncpg.connect(server_url, timeout=10)
    try:
        await _ensure_role(server, owner, secrets.owner_passwords[service])
        await _ensure_role(server, runtime, secrets.runtime_passwords[service])
        await _ensure_database(server, database, owner)
        # REVOKE first: PUBLIC may connect to, and make temporary tables in, every new database.
        await server.execute(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
        await server.execute(f'GRANT CONNECT ON DATABASE "{database}" TO "{runtime}"')
    finally:
        await server.close()
    inside = await asyncpg.connect(database_url(server_url, database), timeout=10)
    try:
        await inside.execute(_inside(owner, runtime))
    finally:
        await inside.close()


async def _ensure_role(server: "asyncpg.Connection[asyncpg.Record]", role: str, password: str) -> None:
    if not await server.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        await server.execute(f'CREATE ROLE "{role}"')
    # Utility statements take no parameters; the password is hexadecimal (see credentials.py).
    await server.execute(f"ALTER ROLE \"{role}\" LOGIN PASSWORD '{password}'")


async def _ensure_database(server: "asyncpg.Connection[asyncpg.Record]", database: str, owner: str) -> None:
    if await server.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
        return
    if not await server.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        # Only a member may give a database away.
        await server.execute(f'GRANT "{owner}" TO CURRENT_USER')
    await server.execute(f'CREATE DATABASE "{database}" OWNER "{owner}"')


def _inside(owner: str, runtime: str) -> str:
    extensions = "".join(f"CREATE EXTENSION IF NOT EXISTS {name};\n" for name in EXTENSIONS)
    by_default = f'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" GRANT'
    return (
        f"SET client_min_messages = warning;\n{extensions}"
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC;\n"
        f'GRANT USAGE ON SCHEMA public TO "{runtime}";\n'
        f'{by_default} USAGE ON SCHEMAS TO "{runtime}";\n'
        f'{by_default} SELECT, INSERT, UPDATE, DELETE ON TABLES TO "{runtime}";\n'
        f'{by_default} USAGE, SELECT ON SEQUENCES TO "{runtime}";\n'
    )


async def _close_maintenance_databases(server_url: str) -> None:
    server = await asyncpg.connect(server_url, timeout=10)
    try:
        await server.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
    finally:
        await server.close()
