"""Put files into a collection: python ingest.py NAME FILE..."""

import os
import sys

from stoker_client import Stoker

name, *files = sys.argv[1:]
with Stoker(os.environ["STOKER_URL"], os.environ["STOKER_API_KEY"]) as stoker:
    if name not in {each["name"] for each in stoker.collections()}:
        stoker.create_collection(name)
    print(stoker.ingest(name, *files)["job_id"])
