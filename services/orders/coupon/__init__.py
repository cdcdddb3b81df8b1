"""Coupons: what they take off, and how often they may be used."""
