"""A fast searcher inside Milvus Lite's server: its data, its answers, without its walk over every row."""
