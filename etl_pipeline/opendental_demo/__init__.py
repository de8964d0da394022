"""A synthetic OpenDental source: one invented dental practice, simulated day by day from a seed."""
