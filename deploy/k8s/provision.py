"""python -m deploy.k8s.provision: makes the databases and roles in a development cluster, as `make up` does.

Reads SERVER_URL, the superuser's address, and SECRETS_FILE, which deploy.k8s.dev_secrets wrote.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from deploy.local.credentials import Secrets
from deploy.local.databases import provision
from deploy.local.errors import ConfigurationFailure

__all__ = ["main"]


def main() -> int:
    """Safe to repeat; 1 when the server is not there yet, whereupon the Job tries again."""
    secrets = Secrets(**json.loads(Path(os.environ["SECRETS_FILE"]).read_text()))
    try:
        asyncio.run(provision(os.environ["SERVER_URL"], secrets, ours=True))
    except ConfigurationFailure as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
