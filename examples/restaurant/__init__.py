"""A restaurant publishes when it is busy, how long guests stay and what they spend; the codelab of Privacy on Beam."""
