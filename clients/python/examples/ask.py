"""Ask documents, with sources: python ask.py NAME "QUESTION" """

import os
import sys

from stoker_client import Cited, Stoker, Token

name, question = sys.argv[1:]
with Stoker(os.environ["STOKER_URL"], os.environ["STOKER_API_KEY"]) as stoker:
    for event in stoker.stream(question, name):
        if isinstance(event, Token):
            print(event.text, end="", flush=True)
        elif isinstance(event, Cited):
            print(f" [{event.citation['filename']}: {event.citation['quote']}]")
