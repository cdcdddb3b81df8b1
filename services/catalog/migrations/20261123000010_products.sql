-- migrate:up
CREATE TABLE categories (
    id          uuid    PRIMARY KEY DEFAULT uuidv7(),
    slug        text    NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 100),
    title       text    NOT NULL CHECK (title <> ''),
    description text    NOT NULL,
    parent_id   uuid    REFERENCES categories CHECK (parent_id <> id),
    position    integer NOT NULL
);

CREATE TABLE products (
    id          uuid PRIMARY KEY DEFAULT uuidv7(),
    -- search and suggest are the names of routes beside /api/products/{slug}.
    slug        text NOT NULL UNIQUE
                CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 100 AND slug NOT IN ('search', 'suggest')),
    category_id uuid NOT NULL REFERENCES categories,
    title       text NOT NULL CHECK (title <> ''),
    description text NOT NULL,
    -- Of the product, so that its variants cannot differ in it.
    currency    text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    image_url   text
);
CREATE INDEX products_category ON products (category_id, id);
CREATE INDEX products_title ON products (lower(title), id);

CREATE TABLE variants (
    id         uuid    PRIMARY KEY DEFAULT uuidv7(),
    product_id uuid    NOT NULL REFERENCES products,
    sku        text    NOT NULL UNIQUE CHECK (sku <> ''),
    title      text    NOT NULL CHECK (title <> ''),
    position   integer NOT NULL,
    price      bigint  NOT NULL CHECK (price >= 0),
    on_hand    bigint  NOT NULL CHECK (on_hand >= 0),
    held       bigint  NOT NULL DEFAULT 0,
    -- The promise that nothing is sold twice, where no code can break it.
    CONSTRAINT never_oversold CHECK (held >= 0 AND on_hand >= held)
    -- Room on each page, so that counting stock rewrites no index.
) WITH (fillfactor = 70);
CREATE INDEX variants_product ON variants (product_id, price);

-- migrate:down
-- Forward only: the next change is another migration.
