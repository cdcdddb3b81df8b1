"""Prints a token that opens routes for schedulers, once for each scope and for five minutes.

.venv/bin/python tools/machine_token.py --key .local/tls/scheduler.key --scope purge-expired

Whoever holds the private key is the scheduler; the services know its public half (`MACHINE_ISSUERS`).
"""

import argparse
from pathlib import Path

from joserfc.jwk import OKPKey

from deploy.local.certificates import SCHEDULER
from reliability.machine_tokens import LIFETIME, mint


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--key", type=Path, required=True, help="the issuer's private Ed25519 key, PEM")
    parser.add_argument("--scope", action="append", required=True, help="the last part of the route; may be repeated")
    parser.add_argument("--issuer", default=SCHEDULER, help="as MACHINE_ISSUERS names it")
    parser.add_argument("--subject", default="scheduler", help="who asks, for logs")
    parser.add_argument("--seconds", type=int, default=LIFETIME, choices=range(1, LIFETIME + 1), metavar="1..300")
    given = parser.parse_args()
    key = OKPKey.import_key(given.key.read_bytes())
    print(
        mint(
            key,
            issuer=given.issuer,
            subject=given.subject,
            scopes=tuple(given.scope),
            lifetime=given.seconds,
        )
    )


if __name__ == "__main__":
    main()
