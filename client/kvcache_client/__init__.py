"""kvcache_client: what a program needs to speak to a kvcache cluster."""
