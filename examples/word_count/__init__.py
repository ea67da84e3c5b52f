"""Which words do licences share? A private word count over the licence texts of the installed Python packages."""
