"""The error tree of notifications.

NotFound 404 ── NoSuchCampaign, NoSuchEmail, NoSuchToken
Conflict 409 ── NotSendable, NothingToRetry
Unprocessable 422 ── UnknownTemplate, EmptyAudience
"""

from reliability.errors import Conflict, NotFound, Unprocessable

__all__ = [
    "EmptyAudience",
    "NoSuchCampaign",
    "NoSuchEmail",
    "NoSuchToken",
    "NotSendable",
    "NothingToRetry",
    "UnknownTemplate",
]


class NoSuchCampaign(NotFound):
    """The id names no campaign."""

    code, title = "campaign_not_found", "There is no such campaign"


class NoSuchEmail(NotFound):
    """The id names no mail."""

    code, title = "email_not_found", "There is no such mail"


class NothingToRetry(Conflict):
    """Only a mail that failed, or may have, can be sent again or discarded."""

    code, title, grpc = "nothing_to_retry", "This mail has not failed", "FAILED_PRECONDITION"


class NoSuchToken(NotFound):
    """The link was not made by us, or its time is over."""

    code, title = "token_not_found", "This link does not work"


class NotSendable(Conflict):
    """The campaign's status does not allow this; only a draft can be sent, and only once."""

    code, title, grpc = "not_sendable", "The campaign's status does not allow this", "FAILED_PRECONDITION"


class UnknownTemplate(Unprocessable):
    """The name is no template's, or no template of the wanted kind."""

    code, title = "unknown_template", "There is no such template"


class EmptyAudience(Unprocessable):
    """Nobody who consented is left to send it to."""

    code, title = "empty_audience", "Nobody would get this campaign"
