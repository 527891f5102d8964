"""What pymilvus remembers of collections does not grow with all that there ever were."""

from pymilvus.client.cache import GlobalCache

from retrieval.milvus import VectorIndex


async def test_a_worker_that_met_thousands_of_collections_remembers_a_few_hundred() -> None:
    index = VectorIndex("http://127.0.0.1:1", 1.0, 100)
    try:
        for number in range(3000):
            GlobalCache.schema.set("milvus", "", f"col_{number}", {"fields": []})
            GlobalCache.collection_ts.set("milvus", "", f"col_{number}", 1)
        assert (len(GlobalCache.schema), len(GlobalCache.collection_ts)) == (256, 256)
        assert GlobalCache.schema.get("milvus", "", "col_2999") is not None
    finally:
        await index.close()
