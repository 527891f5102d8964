"""Who may go on: requests, tokens, parallel requests and money are checked and taken in one step, and given back."""
