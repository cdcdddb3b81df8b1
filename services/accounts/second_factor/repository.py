"""Every statement on second factors."""

from collections.abc import Sequence
from typing import Final

from reliability.postgres import Connection

__all__ = ["accept", "propose", "proposed", "remove", "take_recovery_code", "take_step"]

_PROPOSE: Final = "UPDATE accounts SET totp_proposed = $2 WHERE id = $1"
_PROPOSED: Final = "SELECT totp_proposed FROM accounts WHERE id = $1"
_ACCEPT: Final = """
UPDATE accounts SET totp_secret = totp_proposed, totp_proposed = NULL, totp_step = $2, changed_at = now() WHERE id = $1
"""
_REMOVE: Final = "UPDATE accounts SET totp_secret = NULL, totp_proposed = NULL, changed_at = now() WHERE id = $1"
_FORGET_CODES: Final = "DELETE FROM recovery_codes WHERE account_id = $1"
_ADD_CODES: Final = "INSERT INTO recovery_codes (account_id, mac) SELECT $1, unnest($2::bytea[])"
_TAKE_CODE: Final = """
UPDATE recovery_codes SET used_at = now() WHERE account_id = $1 AND mac = $2 AND used_at IS NULL
"""
_TAKE_STEP: Final = "UPDATE accounts SET totp_step = $2 WHERE id = $1 AND totp_step < $2"


async def propose(connection: Connection, account_id: str, sealed: bytes) -> None:
    """Keeps a secret until it is confirmed; one proposed before is forgotten."""
    await connection.execute(_PROPOSE, account_id, sealed)


async def proposed(connection: Connection, account_id: str) -> bytes | None:
    """The secret that waits to be confirmed."""
    sealed: bytes | None = await connection.fetchval(_PROPOSED, account_id)
    return sealed


async def accept(connection: Connection, account_id: str, step: int, macs: Sequence[bytes]) -> None:
    """Makes the proposed secret the one that counts from after `step` on, with these recovery codes."""
    await connection.execute(_ACCEPT, account_id, step)
    await connection.execute(_FORGET_CODES, account_id)
    await connection.execute(_ADD_CODES, account_id, macs)


async def remove(connection: Connection, account_id: str) -> None:
    """Takes a second factor away."""
    await connection.execute(_REMOVE, account_id)
    await connection.execute(_FORGET_CODES, account_id)


async def take_recovery_code(connection: Connection, account_id: str, mac: bytes) -> bool:
    """Uses a code; False when there is none like it, or it was used."""
    return await connection.execute(_TAKE_CODE, account_id, mac) == "UPDATE 1"


async def take_step(connection: Connection, account_id: str, step: int) -> bool:
    """Uses the one-time code of a time step; False when it, or a later one, was used."""
    return await connection.execute(_TAKE_STEP, account_id, step) == "UPDATE 1"
