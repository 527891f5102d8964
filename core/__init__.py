"""The words everyone shares, free of dependencies: nothing here imports another Stoker package or a vendor's."""
