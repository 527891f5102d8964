"""How good a search is, measured against judgements: measures, how sure they are, and whether one way beats another."""
