"""What the Latency and the Engine page say, without any web in it."""
