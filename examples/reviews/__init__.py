"""Six statistics over product reviews, in which a few users write much: PrivateKube's, at the level of the user."""
