"""What the paper claims, what came out here, and how fast it is here."""
