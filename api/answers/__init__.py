"""A question's way: retrieve, choose excerpts, generate, check each sentence, cite. Retrieval and router meet here."""
