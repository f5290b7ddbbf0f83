"""One sans-I/O file a venue, and the sockets they all share (`wire`)."""
