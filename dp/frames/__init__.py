"""What an analyst holds: private frames, and the checks that keep them private."""
