"""What becomes of a champion: feedback, drift, decay, and what follows. Nothing here imports Dagster."""
