"""What is done to a model's weights: adapters, sleep, exchange, quantization, compiling."""
