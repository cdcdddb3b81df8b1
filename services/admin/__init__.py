"""The staff's edge: campaigns, the dashboard, the state of the services, and the traces they leave."""
