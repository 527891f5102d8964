"""Whose a thing is that its maker alone sees: a conversation, a response, a batch."""

from core.principal import Principal


def owner_of(principal: Principal) -> str:
    """`user:ID` where the caller has a user; else `team:ID` where the key has a team; else `tenant`.

    Never the key: rotating it would lose all that was made with it.
    """
    if principal.user_id is not None:
        return f"user:{principal.user_id}"
    if principal.team_id is not None:
        return f"team:{principal.team_id}"
    return "tenant"
