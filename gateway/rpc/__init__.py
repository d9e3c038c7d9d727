"""The gRPC edge: servicers translate proto <-> domain, one wrapper a method does the rest. No business rule."""
