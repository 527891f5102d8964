"""What was answered before: entries that end, never shared where a caller, a document or a setting differs."""
