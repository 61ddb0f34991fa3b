"""What the core asks of the world: Protocols and frozen records. Adapters promise them; contract suites check them."""
