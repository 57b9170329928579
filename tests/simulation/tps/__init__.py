"""A host of TPS on simulated time: the real Session and codec, a branch, a disk, and everything that can go wrong between them."""
