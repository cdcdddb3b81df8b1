"""Statements on accounts that open them and change their credentials."""

from dataclasses import dataclass

from reliability.postgres import Connection
from services.accounts.mail_tokens.domain import Purpose

__all__ = ["SignUpOutcome", "set_password", "sign_up", "verify"]

# One statement whoever asks. An unproven account is nobody's yet: each sign-up brings its own password, and the
# one whose mail is answered counts.
_SIGN_UP = """
WITH added AS (
    INSERT INTO accounts (id, kind, role, email, name, password_hash, marketing_consent)
    VALUES ($1, 'customer', 'customer', $2, $3, $4, $5)
        ON CONFLICT (lower(email)) DO NOTHING
    RETURNING id),
known AS (
    SELECT id, email_verified_at IS NULL AND kind = 'customer' AND status = 'active' AS unproven
      FROM accounts WHERE lower(email) = lower($2)),
token AS (
    INSERT INTO mail_tokens (id, account_id, purpose, email, password_hash, expires_at)
    SELECT $6, id, $7, $2, $4, now() + $8
      FROM (SELECT id FROM added UNION ALL SELECT id FROM known WHERE unproven) AS either
    RETURNING account_id)
SELECT EXISTS (SELECT FROM added) AS added, EXISTS (SELECT FROM token) AS to_prove
"""
_CHANGE_HASH = """
UPDATE accounts SET password_hash = $2, email_verified_at = CASE WHEN $3 THEN coalesce(email_verified_at, now())
                                                                 ELSE email_verified_at END,
       changed_at = now()
 WHERE id = $1
"""
_VERIFY = """
UPDATE accounts SET email_verified_at = now(), password_hash = coalesce($2, password_hash), changed_at = now()
 WHERE id = $1 AND email_verified_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class SignUpOutcome:
    """What became of a sign-up: `added` is a new account, `to_prove` one whose address is not proven yet."""

    added: bool
    to_prove: bool


async def sign_up(
    connection: Connection,
    account_id: str,
    email: str,
    name: str,
    password_hash: str,
    *,
    marketing_consent: bool,
    token_id: str,
) -> SignUpOutcome:
    """Adds an account, or finds that the address has one; with a link to prove the address unless it is proven."""
    purpose = Purpose.VERIFY_EMAIL
    row = await connection.fetchrow(
        _SIGN_UP,
        account_id,
        email,
        name,
        password_hash,
        marketing_consent,
        token_id,
        purpose,
        purpose.lifetime,
    )
    assert row is not None, "a SELECT without FROM has one row"
    return SignUpOutcome(row["added"], row["to_prove"])


async def set_password(connection: Connection, account_id: str, password_hash: str, *, proven: bool) -> None:
    """Changes a password; `proven` when whoever did has shown that they read the account's mail."""
    await connection.execute(_CHANGE_HASH, account_id, password_hash, proven)


async def verify(connection: Connection, account_id: str, password_hash: str | None) -> bool:
    """Notes that the address is theirs; False when that is known."""
    return await connection.execute(_VERIFY, account_id, password_hash) == "UPDATE 1"
