"""Routes that are another service's RPC: JSON in, the RPC, JSON out. The rule stays with its owner."""
