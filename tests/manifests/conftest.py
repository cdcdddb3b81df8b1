"""What every test here looks at, built once."""

import pytest

from deploy.k8s.dev_secrets import manifests
from deploy.local.state import StateDir
from tests.manifests.support import Cluster, build


@pytest.fixture(scope="session")
def base() -> Cluster:
    """The base by itself."""
    return Cluster(build("base"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """A development cluster: the overlay, and the Secrets that are applied beside it."""
    secrets = manifests(StateDir(tmp_path_factory.mktemp("k8s")))
    return Cluster([*build("overlays/dev"), *secrets])
