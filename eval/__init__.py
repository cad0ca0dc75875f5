"""The benchmark harness: experiments are data, run on the same core as the product."""
