"""The rows of the OCI runtime-spec as checks of any runtime: only its command line is driven."""
