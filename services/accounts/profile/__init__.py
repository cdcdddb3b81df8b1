"""What a customer sees and changes of their own account, takes away, and has erased."""
