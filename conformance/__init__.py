"""What we claim, made from what we are."""
