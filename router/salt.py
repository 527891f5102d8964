"""What keeps the prompts of tenants apart in an engine's prefix cache.

An engine that has read the beginning of a prompt before answers sooner, and so tells who asks what others have asked
(CVE-2025-46570). vLLM finds what it has read only under the `cache_salt` with which it was read.
"""

import hashlib
from functools import lru_cache


@lru_cache(maxsize=4096)
def salt_of(tenant_id: str) -> str:
    """The tenant's salt: 32 hexadecimal signs that do not show its id, alike in every worker and after every restart.

    vLLM takes 1 to 128 signs, none of them `@`, `/`, a backslash or NUL.
    """
    return hashlib.blake2b(tenant_id.encode(errors="replace"), digest_size=16, person=b"stoker.prompts").hexdigest()
