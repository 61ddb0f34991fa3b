"""modelyard.yml as typed policies, where each value came from, and where a target keeps its state."""
