"""Building indexes: decode, encode, write shards, publish."""
