"""Stock: promised to orders, taken by them, or given back."""
