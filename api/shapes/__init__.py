"""What shapes an answer: schemas, expressions and grammars, looked at before an engine builds something of them."""
