"""The key that signs access tokens, and its public half for everybody else."""
