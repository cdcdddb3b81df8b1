"""Whether a code opens."""

from dataclasses import dataclass

from reliability import audit
from reliability.postgres import Connection
from services.accounts.identity.domain import Account, Kind
from services.accounts.second_factor import repository
from services.accounts.second_factor.recovery import RecoveryCodes
from services.accounts.second_factor.totp import Totp

__all__ = ["SecondFactor"]


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """Codes by the clock, and those on paper."""

    totp: Totp
    codes: RecoveryCodes

    async def opens(self, connection: Connection, account: Account, code: str | None, recovery: str | None) -> bool:
        """Whether a one-time code or a recovery code opens, which uses it up, in the caller's transaction."""
        if recovery is not None:
            mac = self.codes.mac(account.id, recovery)
            used = await repository.take_recovery_code(connection, account.id, mac)
            if used and account.kind is Kind.STAFF:
                await audit.record(connection, account.id, "staff.recovery_code_used", account.id)
            return used
        step = self.totp.step_of(account.totp_secret, code or "")
        return step is not None and await repository.take_step(connection, account.id, step)
