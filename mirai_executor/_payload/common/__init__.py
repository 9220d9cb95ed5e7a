"""What both sides need: how objects are taken apart, and how they are put together again."""
