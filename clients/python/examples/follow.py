"""Follow a job until it has ended: python follow.py JOB"""

import os
import sys

from stoker_client import Stoker

with Stoker(os.environ["STOKER_URL"], os.environ["STOKER_API_KEY"]) as stoker:
    for job in stoker.follow(sys.argv[1]):
        print(job["status"], [(one["filename"], one["status"], one["error"]) for one in job["documents"]])
