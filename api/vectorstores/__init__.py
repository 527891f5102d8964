"""/v1/vector_stores: collections in OpenAI's words. A store's files are its documents, a batch is a job."""
