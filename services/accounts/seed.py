"""python -m services.accounts.seed: thirty customers of a pet shop. Running it again adds nobody twice."""

import asyncio

from pydantic import PostgresDsn
from pydantic_settings import BaseSettings, SettingsConfigDict

from reliability.context import correlation_scope
from reliability.postgres import Database
from reliability.settings import load
from services.accounts.identity.domain import NewCustomer
from services.accounts.identity.service import IdentityService
from services.accounts.passwords import Passwords

__all__ = ["CUSTOMERS", "seed"]


class _SeedSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore")

    database_url: PostgresDsn


_YES, _NO = True, False

CUSTOMERS = (
    NewCustomer("amara.okafor@example.com", "Amara Okafor", _YES),
    NewCustomer("liam.murphy@example.org", "Liam Murphy", _YES),
    NewCustomer("yuki.tanaka@example.com", "Yuki Tanaka", _YES),
    NewCustomer("sofia.rossi@example.org", "Sofia Rossi", _YES),
    NewCustomer("mateo.garcia@example.com", "Mateo García", _NO),
    NewCustomer("ingrid.solberg@example.org", "Ingrid Solberg", _YES),
    NewCustomer("arjun.mehta@example.com", "Arjun Mehta", _YES),
    NewCustomer("fatima.elamrani@example.org", "Fatima El Amrani", _YES),
    NewCustomer("chloe.dubois@example.com", "Chloé Dubois", _YES),
    NewCustomer("kwame.mensah@example.org", "Kwame Mensah", _YES),
    NewCustomer("linh.nguyen@example.com", "Nguyễn Thùy Linh", _NO),
    NewCustomer("oleksandra.koval@example.org", "Oleksandra Koval", _YES),
    NewCustomer("noah.schneider@example.com", "Noah Schneider", _YES),
    NewCustomer("mei.chen@example.org", "Chen Mei", _YES),
    NewCustomer("tane.parata@example.com", "Tāne Parata", _YES),
    NewCustomer("zeynep.yilmaz@example.org", "Zeynep Yılmaz", _YES),  # noqa: RUF001 - her name
    NewCustomer("isabela.santos@example.com", "Isabela Santos", _NO),
    NewCustomer("piotr.wisniewski@example.org", "Piotr Wiśniewski", _YES),
    NewCustomer("leila.hosseini@example.com", "Leila Hosseini", _YES),
    NewCustomer("minjun.kim@example.org", "Kim Min-jun", _YES),
    NewCustomer("emma.vandijk@example.com", "Emma van Dijk", _YES),
    NewCustomer("siddiq.rahman@example.org", "Siddiq Rahman", _YES),
    NewCustomer("aroha.walker@example.com", "Aroha Walker", _NO),
    NewCustomer("elena.popescu@example.org", "Elena Popescu", _YES),
    NewCustomer("daniel.cohen@example.com", "Daniel Cohen", _YES),
    NewCustomer("wanjiru.kamau@example.org", "Wanjiru Kamau", _YES),
    NewCustomer("freja.lindqvist@example.com", "Freja Lindqvist", _YES),
    NewCustomer("camila.quispe@example.org", "Camila Quispe", _YES),
    NewCustomer("siobhan.oneill@example.com", "Siobhán O'Neill", _NO),
    NewCustomer("ama.tuiasosopo@example.org", "Ama Tuiasosopo", _YES),
)


async def seed(url: str) -> int:
    """Registers them as any customer is registered, so that the outbox tells notifications; how many were new."""
    database = Database(url, size=2, application="accounts-seed")
    try:
        with correlation_scope(None):
            return await IdentityService(database, Passwords()).register_customers(CUSTOMERS)
    finally:
        await database.close()


if __name__ == "__main__":
    added = asyncio.run(seed(str(load(_SeedSettings).database_url)))
    print(f"{added} of {len(CUSTOMERS)} customers added")  # noqa: T201 - a command's answer
