"""Judgements and steps of a release's life. They know nothing of what kind of model it carries."""
