"""Ratios against floors and peers, each measured in the same run: `make bench`."""
