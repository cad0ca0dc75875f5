"""How the weights of `mini` came about."""
