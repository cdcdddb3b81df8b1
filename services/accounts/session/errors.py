"""What can go wrong when signing in."""

from reliability.errors import NotFound, Unauthenticated

__all__ = ["InvalidCredentials", "NoSuchSession", "SessionEnded", "TotpRequired"]


class InvalidCredentials(Unauthenticated):
    """Wrong address, wrong password, no password or a suspended account: nobody is told which."""

    code, title = "invalid_credentials", "The address or the password is wrong"


class TotpRequired(Unauthenticated):
    """The password is right, and the account asks for a one-time code as well."""

    code, title = "totp_required", "Give the code of your authenticator as well"


class SessionEnded(Unauthenticated):
    """The refresh token is not, or no more, good for anything."""

    code, title = "session_ended", "This session has ended; sign in again"


class NoSuchSession(NotFound):
    """No session of yours has this id."""

    code, title = "session_not_found", "There is no such session"
