"""Local arithmetic on ring elements and key streams: pure numpy and AES, no I/O, no protocol."""
