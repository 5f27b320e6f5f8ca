"""Pages for people, one topic each."""
