-- migrate:up
CREATE TABLE coupons (
    id                 uuid        PRIMARY KEY DEFAULT uuidv7(),
    code               text        NOT NULL UNIQUE CHECK (code ~ '^[A-Z0-9][A-Z0-9_-]{2,39}$'),
    kind               text        NOT NULL CHECK (kind IN ('percentage', 'amount')),
    -- Basis points of a percentage (1500 is 15 %), or minor units of an amount.
    value              bigint      NOT NULL CHECK (value > 0 AND (kind <> 'percentage' OR value <= 10000)),
    currency           char(3)     NOT NULL,
    minimum            bigint      NOT NULL DEFAULT 0 CHECK (minimum >= 0),
    starts_at          timestamptz NOT NULL DEFAULT now(),
    ends_at            timestamptz CHECK (ends_at > starts_at),
    total_limit        bigint      CHECK (total_limit > 0),
    per_customer_limit bigint      CHECK (per_customer_limit > 0),
    active             boolean     NOT NULL DEFAULT true,
    redeemed           bigint      NOT NULL DEFAULT 0 CHECK (redeemed >= 0),
    created_at         timestamptz NOT NULL DEFAULT now(),
    -- The promise that a coupon is not used more often than it may be.
    CONSTRAINT never_over_limit CHECK (total_limit IS NULL OR redeemed <= total_limit)
);

-- Written with the order, under the coupon's lock; given back when the order is cancelled.
CREATE TABLE coupon_redemptions (
    order_id    uuid        PRIMARY KEY REFERENCES orders,
    coupon_id   uuid        NOT NULL REFERENCES coupons,
    customer_id uuid,
    email       text        NOT NULL,
    redeemed_at timestamptz NOT NULL DEFAULT now(),
    released_at timestamptz
);
CREATE INDEX coupon_redemptions_live ON coupon_redemptions (coupon_id) WHERE released_at IS NULL;

ALTER TABLE carts ADD coupon_id uuid REFERENCES coupons ON DELETE SET NULL;
ALTER TABLE orders
    ADD coupon_code text,
    ADD shipping_tax bigint NOT NULL DEFAULT 0,
    ADD CHECK (shipping_tax BETWEEN 0 AND tax);
ALTER TABLE order_lines
    ADD discount bigint NOT NULL DEFAULT 0,
    ADD tax bigint NOT NULL DEFAULT 0 CHECK (tax >= 0),
    ADD CHECK (discount BETWEEN 0 AND line_total);

-- Added on top of net prices, by destination. Region '' is the whole country; a country with regions wants one.
CREATE TABLE tax_rates (
    country        char(2) NOT NULL,
    region         text    NOT NULL DEFAULT '',
    -- Parts per million: 72500 is 7.25 %.
    rate           bigint  NOT NULL CHECK (rate BETWEEN 0 AND 1000000),
    shipping_taxed boolean NOT NULL,
    PRIMARY KEY (country, region)
);
-- State rates alone; what counties and cities add is a tax provider's business.
INSERT INTO tax_rates (country, region, rate, shipping_taxed) VALUES
    ('US', 'AL',  40000, false), ('US', 'AK',      0, false), ('US', 'AZ',  56000, false), ('US', 'AR',  65000, true),
    ('US', 'CA',  72500, false), ('US', 'CO',  29000, false), ('US', 'CT',  63500, true),  ('US', 'DE',      0, false),
    ('US', 'DC',  60000, true),  ('US', 'FL',  60000, false), ('US', 'GA',  40000, true),  ('US', 'HI',  40000, true),
    ('US', 'ID',  60000, false), ('US', 'IL',  62500, false), ('US', 'IN',  70000, true),  ('US', 'IA',  60000, false),
    ('US', 'KS',  65000, true),  ('US', 'KY',  60000, true),  ('US', 'LA',  50000, false), ('US', 'ME',  55000, false),
    ('US', 'MD',  60000, false), ('US', 'MA',  62500, false), ('US', 'MI',  60000, true),  ('US', 'MN',  68750, true),
    ('US', 'MS',  70000, true),  ('US', 'MO',  42250, false), ('US', 'MT',      0, false), ('US', 'NE',  55000, true),
    ('US', 'NV',  68500, false), ('US', 'NH',      0, false), ('US', 'NJ',  66250, true),  ('US', 'NM',  48750, true),
    ('US', 'NY',  40000, true),  ('US', 'NC',  47500, true),  ('US', 'ND',  50000, true),  ('US', 'OH',  57500, true),
    ('US', 'OK',  45000, false), ('US', 'OR',      0, false), ('US', 'PA',  60000, true),  ('US', 'RI',  70000, true),
    ('US', 'SC',  60000, true),  ('US', 'SD',  42000, true),  ('US', 'TN',  70000, true),  ('US', 'TX',  62500, true),
    ('US', 'UT',  48500, false), ('US', 'VT',  60000, true),  ('US', 'VA',  43000, false), ('US', 'WA',  65000, true),
    ('US', 'WV',  60000, true),  ('US', 'WI',  50000, true),  ('US', 'WY',  40000, false);
INSERT INTO tax_rates (country, rate, shipping_taxed) VALUES
    ('AT', 200000, true), ('BE', 210000, true), ('BG', 200000, true), ('CY', 190000, true), ('CZ', 210000, true),
    ('DE', 190000, true), ('DK', 250000, true), ('EE', 240000, true), ('ES', 210000, true), ('FI', 255000, true),
    ('FR', 200000, true), ('GR', 240000, true), ('HR', 250000, true), ('HU', 270000, true), ('IE', 230000, true),
    ('IT', 220000, true), ('LT', 210000, true), ('LU', 170000, true), ('LV', 210000, true), ('MT', 180000, true),
    ('NL', 210000, true), ('PL', 230000, true), ('PT', 230000, true), ('RO', 210000, true), ('SE', 250000, true),
    ('SI', 220000, true), ('SK', 230000, true), ('GB', 200000, true), ('CH',  81000, true), ('NO', 250000, true),
    ('AU', 100000, true), ('CA',  50000, true), ('JP', 100000, true), ('NZ', 150000, true);

-- migrate:down
-- Forward only: the next change is another migration.
