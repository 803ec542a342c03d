"""A project of its own: `pip install ./vroom_api/client` brings the module vroom_client, which needs httpx alone."""
