"""mydocker: docker's commands without a daemon, over pyoci's public API (docs/MYDOCKER.md)."""
