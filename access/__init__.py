"""Access: who may do what, decided once.

A door makes a `Caller` from what it was shown (a token, an AE title and address, a share link, the
operator's own shell); a room asks the caller at its entrance and writes down what was done.
"""
