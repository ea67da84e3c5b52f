"""Three airports compare airlines together: an aircraft may be seen at all three, and says so in the overlap."""
