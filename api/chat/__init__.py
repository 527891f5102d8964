"""Chats whose answer is more than a model's: made from documents, or part of a conversation."""
