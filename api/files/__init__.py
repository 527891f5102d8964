"""/v1/files: files as OpenAI's API has them. Nothing is made of one before a vector store or a batch takes it."""
