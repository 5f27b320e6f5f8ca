"""What a code means: code systems, value sets and concept maps, and the operations on them (R4 4)."""
