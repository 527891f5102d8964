"""Search a collection: python search.py NAME "WORDS" """

import os
import sys

from stoker_client import Stoker

name, words = sys.argv[1:]
with Stoker(os.environ["STOKER_URL"], os.environ["STOKER_API_KEY"]) as stoker:
    for passage in stoker.search(words, name, top_k=3)["data"]:
        print(f"{passage['score']:.3f} {passage['filename']} {passage['start']}-{passage['end']}: {passage['text']}")
