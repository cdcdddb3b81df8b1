"""Catalog: products, their prices, and the stock behind them.

`products` is what the public reads, `stock` is what orders promises and takes, `seed` fills an empty shop.
"""
