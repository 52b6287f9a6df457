"""RecBole on today's stack: one repair per fault, safe reading of checkpoints, arguments."""
