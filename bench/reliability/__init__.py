"""What the library costs, against the floor below it and against what people use today: `make bench-reliability`."""
