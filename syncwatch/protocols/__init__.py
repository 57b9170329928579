"""Pure codecs between the words of a wire and the words of the core. Imports the core only."""
