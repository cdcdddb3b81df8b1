"""Every mail that leaves the shop: one by one and by campaign, each recipient once."""
