"""Which model answers: deployments, their health, fallback, and LiteLLM for hosted providers."""
