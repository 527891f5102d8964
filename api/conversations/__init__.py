"""Conversations: what was said, kept for its owner, who alone sees it."""
