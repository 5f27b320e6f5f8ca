"""Where bytes are: an interface (`store`), the local disk (`disk`), and the sealed form of every object
(`sealed`)."""
