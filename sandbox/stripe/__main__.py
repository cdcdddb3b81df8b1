"""`python -m sandbox.stripe`."""

import logging
import os
import sys

from sandbox.stripe import server
from sandbox.stripe.app import create_app
from sandbox.stripe.settings import Settings, SettingsError


def main() -> int:
    """Serve until told to stop."""
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    server.build(create_app(settings), host=settings.host, port=settings.port, log_level=settings.log_level).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
