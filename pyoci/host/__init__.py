"""Effects: what pyoci does to the machine.  Each module one thing; the decisions are in pyoci.plan."""
