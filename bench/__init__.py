"""What the system costs (`make bench`) and what the library costs (`make bench-reliability`), as ratios of one run."""
