"""Documents that are fetched: from addresses that callers name, from sitemaps, from buckets."""
