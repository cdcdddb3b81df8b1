"""Queries and answers of the HTTP edge."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from services.catalog.products import domain
from services.catalog.products.domain import SLUG, ProductFilter, Sort

Amount = Annotated[int, Field(ge=0, le=2**63 - 1)]


class ProductQuery(BaseModel):
    """`GET /api/products?...`; a filter that is not known is refused, because leaving it out would lie."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    category: Annotated[str, Field(pattern=f"^{SLUG.pattern}$", max_length=100)] | None = None
    min_price: Amount | None = None
    max_price: Amount | None = None
    in_stock: bool | None = None
    sort: Sort = Sort.NEWEST
    limit: int = Field(default=20, ge=1, le=100)
    cursor: Annotated[str, Field(max_length=2000)] | None = None

    @field_validator("max_price")
    @classmethod
    def _not_below_min(cls, value: int | None, info: ValidationInfo) -> int | None:
        lowest = info.data.get("min_price")
        if value is not None and lowest is not None and value < lowest:
            message = "must not be below min_price"
            raise ValueError(message)
        return value

    def filter(self) -> ProductFilter:
        """The part that says which products."""
        return ProductFilter(self.category, self.min_price, self.max_price, self.in_stock)


class Money(BaseModel):
    """An amount in minor units."""

    amount: int
    currency: str

    @classmethod
    def of(cls, price: domain.Price) -> Self:
        """As it goes over the wire."""
        return cls(amount=price.amount, currency=price.currency)


class ProductItem(BaseModel):
    """A product in a list. `rating` stays null until somebody has reviewed it."""

    id: str
    slug: str
    title: str
    price: Money
    in_stock: bool
    rating: float | None = None
    image_url: str | None
    category: str

    @classmethod
    def of(cls, card: domain.ProductCard) -> Self:
        """As it goes over the wire."""
        return cls(
            id=str(card.id),
            slug=card.slug,
            title=card.title,
            price=Money.of(card.price),
            in_stock=card.in_stock,
            image_url=card.image_url,
            category=card.category,
        )


class ProductList(BaseModel):
    """One page."""

    items: list[ProductItem]
    next_cursor: str | None


class VariantItem(BaseModel):
    """One thing that can be bought."""

    id: str
    sku: str
    title: str
    price: Money
    available: int

    @classmethod
    def of(cls, variant: domain.Variant) -> Self:
        """As it goes over the wire."""
        return cls(
            id=str(variant.id),
            sku=variant.sku,
            title=variant.title,
            price=Money.of(variant.price),
            available=variant.available,
        )


class ProductDetail(ProductItem):
    """A product on its own page."""

    description: str
    variants: list[VariantItem]

    @classmethod
    def of_product(cls, product: domain.Product) -> Self:
        """As it goes over the wire."""
        return cls(
            **ProductItem.of(product.card).model_dump(),
            description=product.description,
            variants=[VariantItem.of(variant) for variant in product.variants],
        )


class CategoryRef(BaseModel):
    """A category by name."""

    id: str
    slug: str
    title: str

    @classmethod
    def of(cls, category: domain.Category) -> Self:
        """As it goes over the wire."""
        return cls(id=str(category.id), slug=category.slug, title=category.title)


class CategoryNode(BaseModel):
    """A category with those below it; `product_count` includes theirs."""

    id: str
    slug: str
    title: str
    description: str
    product_count: int
    children: list["CategoryNode"]

    @classmethod
    def of(cls, category: domain.Category) -> Self:
        """As it goes over the wire."""
        return cls(
            id=str(category.id),
            slug=category.slug,
            title=category.title,
            description=category.description,
            product_count=category.products,
            children=[CategoryNode.of(child) for child in category.children],
        )


class CategoryTree(BaseModel):
    """The top categories. The whole tree is one page."""

    items: list[CategoryNode]
    next_cursor: None = None


class CategoryPage(CategoryNode):
    """A category on its own page; `path` leads to it from the top, without itself."""

    path: list[CategoryRef]

    @classmethod
    def of_trail(cls, trail: tuple[domain.Category, ...]) -> Self:
        """As it goes over the wire."""
        *above, category = trail
        node = CategoryNode.of(category).model_dump()
        return cls(**node, path=[CategoryRef.of(parent) for parent in above])
