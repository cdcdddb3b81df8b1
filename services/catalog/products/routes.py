"""The public HTTP edge: decode, ask, encode."""

from reliability.asgi import Answer, Call, Endpoint
from services.catalog.products import cursor
from services.catalog.products.schemas import (
    CategoryNode,
    CategoryPage,
    CategoryTree,
    ProductDetail,
    ProductItem,
    ProductList,
    ProductQuery,
)
from services.catalog.products.service import ProductService

__all__ = ["endpoints"]


def endpoints(products: ProductService) -> list[Endpoint]:
    """The routes, all of them public."""
    routes = _Routes(products)
    return [
        Endpoint("GET", "/api/products", routes.list_products, query=ProductQuery, answer=ProductList),
        Endpoint("GET", "/api/products/{slug}", routes.product, answer=ProductDetail),
        Endpoint("GET", "/api/categories", routes.categories, answer=CategoryTree),
        Endpoint("GET", "/api/categories/{slug}", routes.category, answer=CategoryPage),
    ]


class _Routes:
    def __init__(self, products: ProductService) -> None:
        self._products = products

    async def list_products(self, call: Call) -> Answer:
        query: ProductQuery = call.query
        after = None if query.cursor is None else cursor.decode(query.sort, query.cursor)
        page = await self._products.list_products(query.filter(), query.sort, after, query.limit)
        return Answer(
            ProductList(
                items=[ProductItem.of(card) for card in page.items],
                next_cursor=None if page.next is None else cursor.encode(query.sort, page.next),
            )
        )

    async def product(self, call: Call) -> Answer:
        return Answer(ProductDetail.of_product(await self._products.product(call.path("slug"))))

    async def categories(self, _call: Call) -> Answer:
        roots = await self._products.categories()
        return Answer(CategoryTree(items=[CategoryNode.of(category) for category in roots]))

    async def category(self, call: Call) -> Answer:
        return Answer(CategoryPage.of_trail(await self._products.category(call.path("slug"))))
