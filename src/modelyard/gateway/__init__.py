"""The HTTP shell: OpenAI and MLflow dialects, pictures of pages, the chat page. Knows no workload, opens no release."""
