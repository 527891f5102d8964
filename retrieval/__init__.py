"""Documents in, passages out: parsing, chunking, indexing in Milvus, search."""
