"""Hub Jobs: a run on hardware rented in the user's account."""
