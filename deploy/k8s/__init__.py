"""What runs in a cluster beside the services: waiting for a schema, and what a development cluster needs."""
