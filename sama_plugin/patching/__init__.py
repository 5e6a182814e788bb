"""How host scripts are changed, and put back: flags, imports, the ledger of changes, the
launcher."""
