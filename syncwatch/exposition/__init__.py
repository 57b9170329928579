"""What the outside sees. Reads snapshots, changes nothing."""
