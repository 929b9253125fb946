"""What is sampled, one thread each: host, processes, GPU, engine."""
