"""The parsers of untrusted input, each with bytes from a fuzzer."""
