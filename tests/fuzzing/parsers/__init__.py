"""The parsers that read what strangers send, each with bytes that a fuzzer makes up."""
