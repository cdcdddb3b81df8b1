"""A system of its own, so that what is broken here disturbs nobody else."""

from collections.abc import Iterator

import pytest

from deploy.local.ports import pick_port_base
from deploy.local.system import System


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Everything, as processes."""
    with System(tmp_path_factory.mktemp("chaos"), pick_port_base()) as system:
        yield system
