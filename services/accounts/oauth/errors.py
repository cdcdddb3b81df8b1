"""What can go wrong when somebody else vouches for a customer."""

from reliability.errors import NotFound, PermissionDenied, Unauthenticated

__all__ = ["EmailNotVerified", "NoSuchProvider", "SignInFailed", "SignInRefused"]


class NoSuchProvider(NotFound):
    """Not one of those in the settings."""

    code, title = "provider_not_found", "There is no such way to sign in"


class SignInFailed(Unauthenticated):
    """The answer is not to a question of this browser, is too old, was used, or is not the provider's."""

    code, title = "sign_in_failed", "Signing in did not work; begin again"


class EmailNotVerified(PermissionDenied):
    """The provider does not say that the address is theirs: anybody could have typed it there."""

    code, title = "email_not_verified", "Confirm your mail address with the provider first"


class SignInRefused(PermissionDenied):
    """Staff sign in with their own password, and whoever is suspended does not sign in."""

    code, title = "sign_in_refused", "This account cannot sign in this way"
